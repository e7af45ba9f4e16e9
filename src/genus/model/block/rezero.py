"""ReZero blocks: residual branches that begin at 0 (Bachlechner et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genus.model.block.residual import PreNormLayer, UnscaledPreNorm
from genus.model.cost import ComponentCost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from genus.model.cost import ExampleLengths
    from genus.model.transformer import Transformer


class ReZero(UnscaledPreNorm):
    """ReZero block: x = x + alpha f(norm(x)) for each sub-layer f, with one number alpha a layer, which begins at 0.

    With `norm=Identity` it is the paper's, without normalization; with another norm it is ReZero beside that norm.

    Source: Bachlechner et al. 2020, section 5 (Transformers); released code, rztx.py: alpha is that of all sub-layers.
    """

    @property
    def in_words(self) -> str:
        """The name of the block."""
        return "ReZero"

    def build(self, model: Transformer) -> nn.Module:
        """Return the module of one layer."""
        return ReZeroLayer(model)

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of the sub-layers with their norms, and alpha."""
        return super().cost(model, lengths) + ComponentCost(parameters=1)


class ReZeroLayer(PreNormLayer):
    """The module of a ReZero block."""

    def __init__(self, model: Transformer) -> None:
        super().__init__(model)
        self.alpha = nn.Parameter(torch.zeros(1))

    def wrapped(self, x: Tensor, norm: nn.Module, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Return x + alpha f(norm(x))."""
        return x + self.alpha * self.dropout(sublayer(norm(x)))  # type: ignore[no-any-return]

    def attend(self, x: Tensor, plans: Mapping[str, Any], states: Mapping[str, Any]) -> Tensor:
        """Return the residual branch of self-attention (T, H)."""
        return self.alpha * super().attend(x, plans, states)

    def feed(self, x: Tensor) -> Tensor:
        """Return the residual branch of the feed-forward sub-layer (T, H)."""
        return self.alpha * super().feed(x)
