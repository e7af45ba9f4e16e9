"""Parallel attention and feed-forward on the same normalized states (GPT-J; Wang and Komatsuzaki 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from genus.model.block import Block
from genus.model.cost import ComponentCost
from genus.model.feedforward import routed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genus.model.cost import ExampleLengths
    from genus.model.norm import Norm
    from genus.model.transformer import Transformer


class Parallel(Block):
    """Parallel block: x + attention(norm(x)) + feedforward(norm(x)), and a norm after the last layer.

    In a stack of n layers, the output projections of both have 2 / n of the initial standard deviation of the other
    weights (released code of GPT-J, transformer_shard.py: init_scale).
    """

    pools: ClassVar[bool] = False

    def build(self, model: Transformer) -> nn.Module:
        """Return the module of one layer.

        Raises:
            ValueError: the model has cross-attention, which parallel blocks do not support.
        """
        if model.cross is not None:
            raise ValueError("block: parallel sub-layers leave no place for cross-attention; take PreNorm or PostNorm")
        return ParallelLayer(model)

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of both sub-layers and their norm."""
        attention = model.attention.cost(model.hidden, lengths["tokens"])
        joined = ComponentCost(layers=1, branches=2 * model.hidden)
        return joined + attention + model.feedforward.cost(model.hidden) + model.norm.cost(model.hidden)

    def final_norm(self, model: Transformer) -> Norm:
        """Return the norm after the last layer."""
        return model.norm

    def residual_scale(self, model: Transformer) -> float:
        """Return 2 / n for n layers."""
        return 2 / model.layers


class ParallelLayer(nn.Module):
    """The module of a parallel block."""

    by_token = True

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.norm = model.norm.build(model.hidden)
        self.attention = model.attention.build(model.hidden)
        self.feedforward = model.feedforward.build(model.hidden)
        self.dropout = nn.Dropout(model.dropout)
        self.attention.residual_scale = self.feedforward.residual_scale = model.block.residual_scale(model)

    def forward(self, x: Tensor, plans: Mapping[str, Any], states: Mapping[str, Any]) -> Tensor:
        """Forward pass: return (T, H)."""
        y = self.norm(x)
        attended = self.attention(y, plans["attention"], states.get("attention"))
        return x + self.dropout(attended) + self.dropout(routed(self.feedforward, plans)(y))  # type: ignore[no-any-return]
