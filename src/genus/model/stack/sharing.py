"""Stacks with unshared layers, and with layers that share weights."""

from __future__ import annotations

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
    """One layer after the other, each with weights of its own."""

    @property
    def in_words(self) -> str:
        """The usual case."""
        return ""

    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the stack."""
        return UnsharedLayers(make() for _ in range(layers))

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return every layer's own."""
        return each_layer(model, lengths)


class UnsharedLayers(nn.ModuleList):
    """Layers in a row."""

    def forward(self, x: Tensor, context: Context, kept: list[Tensor] | None = None) -> Tensor:
        """Return (T, H)."""
        return run_layers(list(self), x, context, kept)


class CrossLayerSharing(Stack):
    """Whole layers are shared: of G layers, each is applied over and over in its stretch of the stack's L.

    Layer i of the stack is layer floor(i G / L); one group shares all, as many groups as layers share nothing.
    """

    groups: Count = 1
    """G."""

    @property
    def in_words(self) -> str:
        """How many layers have weights of their own."""
        return "all sharing their weights" if self.groups == 1 else f"sharing the weights of {self.groups}"

    def check(self, model: Transformer) -> None:
        """Refuse no group, and more groups than layers."""
        if not 1 <= self.groups <= model.layers:
            raise ValueError(f"stack.groups: expected 1 to {model.layers}, the number of layers, got {self.groups}")

    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the stack."""
        return SharedLayers([i * self.groups // layers for i in range(layers)], (make() for _ in range(self.groups)))

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the work of every layer, and the parameters of those there are."""
        each = model.block.cost(model, lengths)
        return replace(each.repeated(model.layers), parameters=each.parameters * self.groups)


class SharedLayers(nn.ModuleList):
    """Layers that are applied several times."""

    def __init__(self, order: list[int], layers: Iterable[nn.Module]) -> None:
        super().__init__(layers)
        self.order = order

    def forward(self, x: Tensor, context: Context, kept: list[Tensor] | None = None) -> Tensor:
        """Return (T, H)."""
        return run_layers([self[number] for number in self.order], x, context, kept)


class SharedAttention(Stack):
    """Layers with one attention sub-layer in common; norms and feed-forward sub-layers are their own."""

    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the stack."""
        return _with_one(UnsharedLayers(make() for _ in range(layers)), "attention")

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the work of every layer, and the parameters of one attention."""
        return _counted_once(model, lengths, model.attention.cost(model.hidden, lengths["tokens"]))


class SharedFeedForward(Stack):
    """Layers with one feed-forward sub-layer in common; norms and attention sub-layers are their own."""

    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the stack."""
        return _with_one(UnsharedLayers(make() for _ in range(layers)), "feedforward")

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the work of every layer, and the parameters of one feed-forward sub-layer."""
        return _counted_once(model, lengths, model.feedforward.cost(model.hidden))


def _with_one(layers: UnsharedLayers, name: str) -> UnsharedLayers:
    """Give every layer the first one's sub-layer of that name."""
    for layer in layers:
        setattr(layer, name, getattr(layers[0], name))
    return layers


def _counted_once(model: Transformer, lengths: ExampleLengths, part: ComponentCost) -> ComponentCost:
    """Return what the layers need when one sub-layer, which needs `part`, is the same in all of them."""
    whole = model.block.cost(model, lengths).repeated(model.layers)
    return replace(whole, parameters=whole.parameters - (model.layers - 1) * part.parameters)


class SharedProjection(Stack):
    """Layers of low-rank attention with one projection in common (section 4, layer-wise sharing)."""

    @property
    def in_words(self) -> str:
        """What is shared."""
        return "sharing one projection"

    def check(self, model: Transformer) -> None:
        """Refuse attention that has another number of projections than one."""
        if not isinstance(model.attention, LinformerAttention) or model.attention.sharing != "key-value":
            raise ValueError(
                "stack: one projection for all layers needs attention LinformerAttention with sharing = 'key-value'"
            )

    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the stack."""
        stack = UnsharedLayers(make() for _ in range(layers))
        attention = [cast("LinformerAttentionLayer", layer.attention) for layer in stack]
        for each in attention:
            each.key_projection = attention[0].key_projection
        return stack

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the work of every layer, and the parameters of one projection."""
        each = model.block.cost(model, lengths).repeated(model.layers)
        projections = cast("LinformerAttention", model.attention).projecting()
        return each + projections.repeated(1 - model.layers)
