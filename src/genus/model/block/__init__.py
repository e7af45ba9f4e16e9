"""The slot of Transformer blocks: the residual connections and normalizations around a layer's sub-layers."""

from __future__ import annotations

import functools
import operator
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from genus.model.cost import ComponentCost
from genus.model.feedforward import routed
from genus.model.norm import Identity
from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from genus.model.cost import ExampleLengths
    from genus.model.norm import Norm
    from genus.model.transformer import Transformer


class Block(Part, ABC):
    """The slot of Transformer blocks: how residual connections and norms join the sub-layers of a layer."""

    caches: ClassVar[bool] = True
    """Whether a layer depends on earlier tokens by the keys and values of `attention` and `cross` alone."""
    pools: ClassVar[bool] = True
    """Whether a layer can shorten the sequences after self-attention (`Funnel`)."""
    residual: ClassVar[bool] = True
    """Whether each sub-layer is a residual branch of its own, called as the module that it is."""

    def check(self, model: Transformer) -> None:
        """Check that the model fits this choice.

        Raises:
            ValueError: it does not.
        """

    @abstractmethod
    def build(self, model: Transformer) -> nn.Module:
        """Return the module of one layer: called with (x (T, H), plans, states), it returns (T, H)."""

    @abstractmethod
    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return what one layer needs, per token of examples of these lengths."""

    def of_layer(self, number: int) -> Block:
        """Return the block of layer `number`; by default all layers have the same one."""
        return self

    def attention_norm(self, model: Transformer) -> Norm:
        """Return the norm of the self-attention sub-layer; by default the model's."""
        return model.norm

    def final_norm(self, model: Transformer) -> Norm:
        """Return the norm after the last layer; by default none, as each layer ends with its own."""
        return Identity()

    def residual_scale(self, model: Transformer) -> float:
        """Return the factor on the initial standard deviation of linear layers that end a residual branch."""
        return 1.0


class Layer(nn.Module):
    """A Transformer layer: `attention`[, `cross`] and `feedforward`, each with a norm, in residual form `wrapped`."""

    by_token = True

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.attention = model.attention.build(model.hidden)
        self.attention_norm = model.block.attention_norm(model).build(model.hidden)
        self.cross = None if model.cross is None else model.cross.build(model.hidden)
        self.cross_norm = None if model.cross is None else model.norm.build(model.hidden)
        self.feedforward = model.feedforward.build(model.hidden)
        self.feedforward_norm = model.norm.build(model.hidden)
        self.dropout = nn.Dropout(model.dropout)
        for branch in (self.attention, self.cross, self.feedforward):
            if branch is not None:
                branch.residual_scale = model.block.residual_scale(model)

    @abstractmethod
    def wrapped(self, x: Tensor, norm: nn.Module, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Return (T, H): a sub-layer with its residual connection, norm and dropout."""

    def forward(self, x: Tensor, plans: Mapping[str, Any], states: Mapping[str, Any]) -> Tensor:
        """Forward pass: return (T, H).

        Args:
            x: hidden states (T, H).
            plans: attention plans, by name of the sub-layer; of a routed feed-forward network, its `Routing`; as `pool`
                a function that shortens the sequences, applied after self-attention.
            states: slices of key-value caches or memories, by name of the sub-layer.
        """
        attention, cross = self.attention, self.cross
        x = self.wrapped(x, self.attention_norm, lambda y: attention(y, plans["attention"], states.get("attention")))
        if (pool := plans.get("pool")) is not None:
            x = pool(x)
        if cross is not None and self.cross_norm is not None:
            x = self.wrapped(x, self.cross_norm, lambda y: cross(y, plans["cross"], states.get("cross")))
        return self.wrapped(x, self.feedforward_norm, routed(self.feedforward, plans))


def all_sublayers(model: Transformer, lengths: ExampleLengths) -> ComponentCost:
    """Return the cost per token of the sub-layers of a layer, each with a norm."""
    norm, first = (one.cost(model.hidden) for one in (model.norm, model.block.attention_norm(model)))
    each = [model.attention.cost(model.hidden, lengths["tokens"]), model.feedforward.cost(model.hidden)]
    if model.cross is not None:
        each.append(model.cross.cross_cost(model.hidden, lengths["tokens"], lengths["source"]))
    joined = ComponentCost(layers=1, branches=len(each) * model.hidden)
    return functools.reduce(operator.add, each, joined) + first + norm.repeated(len(each) - 1)
