"""Layers with the norm before each sub-layer, so that the sum of residuals runs through the stack untouched."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from genus.model.block import Block

if TYPE_CHECKING:
    from genus.model.demand import Demand
    from genus.model.encoder import Encoder
    from genus.model.norm import Norm


class PreNorm(Block):
    """x = x + f(norm(x)) for each sub-layer f, and one after the last layer (Shoeybi et al. 2019, figure 7; GPT-2).

    The maps that end a sub-layer start from 1 / √(2 L) of the other weights, in a stack of L layers, so that the
    variance of the sum of 2 L residuals does not grow with the depth (Shoeybi et al. 2019, section 4.2).
    """

    def build(self, model: Encoder) -> nn.Module:
        """Return the layer."""
        return PreNormLayer(model)

    def demand(self, model: Encoder, length: int) -> Demand:
        """Return both sub-layers, each with its norm."""
        attention, feedforward = model.attention.demand(model.hidden, length), model.feedforward.demand(model.hidden)
        return attention + feedforward + model.norm.demand(model.hidden).times(2)

    def closing(self, model: Encoder) -> Norm:
        """Return the norm of the sum."""
        return model.norm

    def residual_scale(self, model: Encoder) -> float:
        """Return 1 / √(2 L)."""
        return 1 / math.sqrt(2 * model.layers)


class PreNormLayer(nn.Module):
    """A layer with the norm before each sub-layer."""

    def __init__(self, model: Encoder) -> None:
        super().__init__()
        self.attention_norm = model.norm.build(model.hidden)
        self.attention = model.attention.build(model.hidden)
        self.feedforward_norm = model.norm.build(model.hidden)
        self.feedforward = model.feedforward.build(model.hidden)
        self.dropout = nn.Dropout(model.dropout)
        for branch in (self.attention, self.feedforward):
            branch.residual_scale = model.block.residual_scale(model)

    def forward(self, x: Tensor, shared: Any) -> Tensor:
        """Return (T, H)."""
        x = x + self.attend(x, shared)
        return x + self.feed(x)

    def attend(self, x: Tensor, shared: Any) -> Tensor:
        """Return (T, H), what attention adds."""
        return self.dropout(self.attention(self.attention_norm(x), shared))  # type: ignore[no-any-return]

    def feed(self, x: Tensor) -> Tensor:
        """Return (T, H), what the feed-forward sub-layer adds."""
        return self.dropout(self.feedforward(self.feedforward_norm(x)))  # type: ignore[no-any-return]
