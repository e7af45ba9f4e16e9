"""Post-norm and pre-norm blocks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from genus.model.block import Block, Layer, all_sublayers
from genus.model.norm import Norm, NormWithDropout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.model.transformer import Transformer


class PostNorm(Block):
    """x = norm(x + f(x)) after each sub-layer f (Vaswani et al. 2017, section 3.1; BERT)."""

    @property
    def in_words(self) -> str:
        """The usual case."""
        return ""

    def build(self, model: Transformer) -> nn.Module:
        """Return the layer."""
        return PostNormLayer(model)

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the sub-layers, each with its norm."""
        return all_sublayers(model, lengths)


class PostNormLayer(Layer):
    """A layer with the norm after the residual sum."""

    def wrapped(self, x: Tensor, norm: nn.Module, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Return norm(x + f(x))."""
        return norm(x + self.dropout(sublayer(x)))  # type: ignore[no-any-return]


class PreNorm(Block):
    """x = x + f(norm(x)) for each sub-layer f, and one after the last layer (Shoeybi et al. 2019, figure 7; GPT-2).

    The maps that end a sub-layer start from 1 / √(2 L) of the other weights, in a stack of L layers, so that the
    variance of the sum of 2 L residuals does not grow with the depth (Shoeybi et al. 2019, section 4.2).
    """

    def build(self, model: Transformer) -> nn.Module:
        """Return the layer."""
        return PreNormLayer(model)

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the sub-layers, each with its norm."""
        return all_sublayers(model, lengths)

    def final_norm(self, model: Transformer) -> Norm:
        """Return the norm of the sum."""
        return model.norm

    def residual_scale(self, model: Transformer) -> float:
        """Return 1 / √(2 L)."""
        return 1 / math.sqrt(2 * model.layers)


class PreNormLayer(Layer):
    """A layer with the norm before each sub-layer."""

    def wrapped(self, x: Tensor, norm: nn.Module, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Return x + f(norm(x))."""
        return x + self.dropout(sublayer(norm(x)))  # type: ignore[no-any-return]

    def attend(self, x: Tensor, plans: Mapping[str, Any], states: Mapping[str, Any]) -> Tensor:
        """Return (T, H), what attention adds."""
        attended = self.attention(self.attention_norm(x), plans["attention"], states.get("attention"))
        return self.dropout(attended)  # type: ignore[no-any-return]

    def feed(self, x: Tensor) -> Tensor:
        """Return (T, H), what the feed-forward sub-layer adds."""
        return self.dropout(self.feedforward(self.feedforward_norm(x)))  # type: ignore[no-any-return]


class UnscaledPreNorm(PreNorm):
    """`PreNorm` all of whose maps start alike, with dropout after the last norm (trax, ReformerLM)."""

    @property
    def in_words(self) -> str:
        """Where the norms are."""
        return "pre-norm"

    def final_norm(self, model: Transformer) -> Norm:
        """Return the norm of the sum, with dropout."""
        return NormWithDropout(norm=model.norm, dropout=model.dropout)

    def residual_scale(self, model: Transformer) -> float:
        """Return 1."""
        return 1.0
