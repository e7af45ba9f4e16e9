"""Post-norm and pre-norm blocks, with residual connections."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from genus.model.block import Block, Layer, all_sublayers
from genus.model.norm import Identity, Norm, NormWithDropout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.model.transformer import Transformer


class PostNorm(Block):
    """Post-norm block: x = norm(x + f(x)) for each sub-layer f (Vaswani et al. 2017, section 3.1; BERT)."""

    @property
    def in_words(self) -> str:
        """Empty, as post-norm is the default."""
        return ""

    def build(self, model: Transformer) -> nn.Module:
        """Return the module of one layer."""
        return PostNormLayer(model)

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of the sub-layers, each with its norm."""
        return all_sublayers(model, lengths)


class PostNormLayer(Layer):
    """The module of a post-norm block."""

    def wrapped(self, x: Tensor, norm: nn.Module, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Return norm(x + f(x))."""
        return norm(x + self.dropout(sublayer(x)))  # type: ignore[no-any-return]


class PreNorm(Block):
    """Pre-norm block: x = x + f(norm(x)) for each sub-layer f, and a norm after the last layer.

    In a stack of n layers, the output projections of sub-layers have 1 / √(2 n) of the initial standard deviation of
    the other weights, so that the variance of the sum of 2 n residuals does not grow with depth.

    Source: Shoeybi et al. 2019, figure 7 (block) and section 4.2 (initialization); GPT-2.
    """

    first_norm: bool = True
    """Whether the first layer's attention has a norm; without one where embeddings end with a norm (ModernBERT)."""

    def of_layer(self, number: int) -> PreNorm:
        """Return the block of layer `number`: all but the first have a norm before attention."""
        return self if number == 0 or self.first_norm else replace(self, first_norm=True)

    def attention_norm(self, model: Transformer) -> Norm:
        """Return the norm before self-attention, or none."""
        return model.norm if self.first_norm else Identity()

    def build(self, model: Transformer) -> nn.Module:
        """Return the module of one layer."""
        return PreNormLayer(model)

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of the sub-layers, each with its norm."""
        return all_sublayers(model, lengths)

    def final_norm(self, model: Transformer) -> Norm:
        """Return the norm after the last layer."""
        return model.norm

    def residual_scale(self, model: Transformer) -> float:
        """Return 1 / √(2 n) for n layers."""
        return 1 / math.sqrt(2 * model.layers)


class PreNormLayer(Layer):
    """The module of a pre-norm block."""

    def wrapped(self, x: Tensor, norm: nn.Module, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Return x + f(norm(x))."""
        return x + self.dropout(sublayer(norm(x)))  # type: ignore[no-any-return]

    def attend(self, x: Tensor, plans: Mapping[str, Any], states: Mapping[str, Any]) -> Tensor:
        """Return the residual branch of self-attention (T, H)."""
        attended = self.attention(self.attention_norm(x), plans["attention"], states.get("attention"))
        return self.dropout(attended)  # type: ignore[no-any-return]

    def feed(self, x: Tensor) -> Tensor:
        """Return the residual branch of the feed-forward sub-layer (T, H)."""
        return self.dropout(self.feedforward(self.feedforward_norm(x)))  # type: ignore[no-any-return]


class UnscaledPreNorm(PreNorm):
    """Pre-norm block without scaled initialization, with dropout after the last norm (trax, ReformerLM)."""

    @property
    def in_words(self) -> str:
        """The usual name of the block."""
        return "pre-norm"

    def final_norm(self, model: Transformer) -> Norm:
        """Return the norm after the last layer, followed by dropout."""
        return NormWithDropout(norm=model.norm, dropout=model.dropout)

    def residual_scale(self, model: Transformer) -> float:
        """Return 1, as all weights have the same initial standard deviation."""
        return 1.0
