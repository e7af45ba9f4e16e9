"""Stacks of unshared layers, and cross-layer parameter sharing."""

from __future__ import annotations

import functools
import operator
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from genus.model.attention.linformer import LinformerAttention, LinformerAttentionLayer
from genus.model.stack import Stack, each_layer, run_layers
from genus.part import Count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genus.model.attention.plan import Context
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.model.transformer import Transformer


class Unshared(Stack):
    """A stack of layers in sequence, each with weights of its own."""

    @property
    def in_words(self) -> str:
        """Empty, as unshared layers are the default."""
        return ""

    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the module of `layers` layers."""
        return UnsharedLayers(make() for _ in range(layers))

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of all layers."""
        return each_layer(model, lengths)


class UnsharedLayers(nn.ModuleList):
    """The module of layers in sequence."""

    by_token = True

    def forward(self, x: Tensor, context: Context, kept: list[Tensor] | None = None) -> Tensor:
        """Forward pass: return (T, H)."""
        return run_layers(list(self), x, context, kept)


class CrossLayerSharing(Stack):
    """Cross-layer parameter sharing: a stack of n layers has the weights of m layers, each repeated consecutively.

    Layer i of the stack has the weights of layer floor(i m / n). With m = 1 all layers share their weights, with m = n
    none do.
    """

    groups: Count = 1
    """m, the number of layers with weights of their own."""

    @property
    def in_words(self) -> str:
        """The number of layers with weights of their own."""
        return "all sharing their weights" if self.groups == 1 else f"sharing the weights of {self.groups}"

    def check(self, model: Transformer) -> None:
        """Check that there are between 1 and `model.layers` groups, of layers that are alike (ValueError)."""
        if not 1 <= self.groups <= model.layers:
            raise ValueError(f"stack.groups: expected 1 to {model.layers}, the number of layers, got {self.groups}")
        if model.block.of_layer(1) != model.block:
            raise ValueError("stack: layers that share weights are alike, and block.first_norm=false tells them apart")
        check_alike(model)

    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the module of `layers` layers."""
        return SharedLayers(self.order(layers), (make() for _ in range(self.groups)))

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of all layers, with the parameters of m layers."""
        each = [one.block.cost(one, lengths) for one in map(model.layer, range(self.groups))]
        whole = functools.reduce(operator.add, (each[number] for number in self.order(model.layers)))
        return replace(whole, parameters=sum(one.parameters for one in each))

    def order(self, layers: int) -> list[int]:
        """Return the number of the layer whose weights each of `layers` layers has."""
        return [number * self.groups // layers for number in range(layers)]


class SharedLayers(nn.ModuleList):
    """The module of layers that are applied several times."""

    by_token = True

    def __init__(self, order: list[int], layers: Iterable[nn.Module]) -> None:
        super().__init__(layers)
        self.order = order

    def forward(self, x: Tensor, context: Context, kept: list[Tensor] | None = None) -> Tensor:
        """Forward pass: return (T, H)."""
        return run_layers([self[number] for number in self.order], x, context, kept)


class SharedAttention(Stack):
    """Sharing of attention parameters across layers; norms and feed-forward sub-layers are not shared."""

    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the module of `layers` layers."""
        return _with_one(UnsharedLayers(make() for _ in range(layers)), "attention")

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of all layers, with the parameters of one attention sub-layer."""
        return _counted_once(model, lengths, model.attention.cost(model.hidden, lengths["tokens"]))


class SharedFeedForward(Stack):
    """Sharing of feed-forward parameters across layers; norms and attention sub-layers are not shared."""

    def check(self, model: Transformer) -> None:
        """Check that the feed-forward networks are alike (ValueError)."""
        check_alike(model)

    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the module of `layers` layers."""
        return _with_one(UnsharedLayers(make() for _ in range(layers)), "feedforward")

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of all layers, with the parameters of one feed-forward sub-layer."""
        return _counted_once(model, lengths, model.feedforward.cost(model.hidden))


def check_alike(model: Transformer) -> None:
    """Check that all layers have the same feed-forward network (ValueError)."""
    if model.feedforward.of_layer(1) != model.feedforward:
        raise ValueError("stack: layers that share weights are alike, and model.feedforward tells them apart")


def _with_one(layers: UnsharedLayers, name: str) -> UnsharedLayers:
    """Replace the sub-layer `name` of every layer by that of the first."""
    for layer in layers:
        setattr(layer, name, getattr(layers[0], name))
    return layers


def _counted_once(model: Transformer, lengths: ExampleLengths, part: ComponentCost) -> ComponentCost:
    """Return the cost per token of all layers when they share one sub-layer, whose cost is `part`."""
    whole = each_layer(model, lengths)
    return replace(whole, parameters=whole.parameters - (model.layers - 1) * part.parameters)


class SharedProjection(Stack):
    """Layer-wise sharing of Linformer's length projection: one for all layers (Wang et al. 2020, section 4)."""

    @property
    def in_words(self) -> str:
        """What the layers share."""
        return "sharing one projection"

    def check(self, model: Transformer) -> None:
        """Check that the attention is Linformer's with one projection per layer (ValueError)."""
        if not isinstance(model.attention, LinformerAttention) or model.attention.sharing != "key-value":
            raise ValueError(
                "stack: one projection for all layers needs attention LinformerAttention with sharing = 'key-value'"
            )

    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the module of `layers` layers."""
        stack = UnsharedLayers(make() for _ in range(layers))
        attention = [cast("LinformerAttentionLayer", layer.attention) for layer in stack]
        for each in attention:
            each.key_projection = attention[0].key_projection
        return stack

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of all layers, with the parameters of one length projection."""
        projections = cast("LinformerAttention", model.attention).projecting()
        return each_layer(model, lengths) + projections.repeated(1 - model.layers)
