"""The slot of layer stacks: unshared, weight-sharing or reversible layers."""

from __future__ import annotations

import functools
import itertools
import operator
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from genus.model.feedforward import Routing
from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from torch import Tensor, nn

    from genus.model.attention import AttentionLayer
    from genus.model.attention.plan import Context
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.model.transformer import Transformer


class Stack(Part, ABC):
    """The slot of layer stacks: layers with weights of their own, with shared weights, or reversible."""

    gives_states: ClassVar[bool] = True
    """Whether a layer's attention is given its slice of what stands beside the batch, such as a prefix."""
    keeps_states: ClassVar[bool] = True
    """Whether the states of every layer can be returned, one of each token."""

    @property
    def losses(self) -> frozenset[str]:
        """Names of auxiliary losses of its own (`States.losses`); by default there are none."""
        return frozenset()

    @property
    def shortens(self) -> bool:
        """Whether sequences of states are shorter than sequences of tokens."""
        return False

    def length(self, tokens: int) -> int:
        """Return the number of states of a sequence of `tokens` tokens."""
        return tokens

    def check(self, model: Transformer) -> None:
        """Check that the model fits this choice.

        Raises:
            ValueError: choices contradict each other (more groups than layers).
        """

    def width(self, hidden: int) -> int:
        """Return the dimension of the stack's output for hidden size `hidden`."""
        return hidden

    @abstractmethod
    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the module of `layers` layers built by `make`: called with (x (T, H), context), it returns (T, H).

        If a third argument is a list, the embeddings and the output of every layer are appended to it.
        """

    @abstractmethod
    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return what the model's layers need, per token of examples of these lengths."""


def run_layers(layers: Sequence[nn.Module], x: Tensor, context: Context, kept: list[Tensor] | None = None) -> Tensor:
    """Apply layers in sequence and return (T, H); a layer may occur several times (shared weights)."""
    for number, (layer, plans) in enumerate(zip(layers, plans_of(layers, context), strict=True)):
        x = run_layer(layer, keep(kept, x), plans, context, number)
    return keep(kept, x)


def run_layer(layer: nn.Module, x: Tensor, plans: Mapping[str, Any], context: Context, number: int) -> Tensor:
    """Apply layer `number` and return (T, H): with its slices of caches, its source, and its losses gathered."""
    source = context.source
    if source is not None and source.by_layer:
        plans = {**plans, "cross": replace(plans["cross"], source=source.by_layer[number])}
    states = {"attention": context.state(number), "cross": context.crossing().state(number)}
    x = layer(x, plans, states)
    if (routing := plans.get("feedforward")) is not None:
        context.gather(routing.losses)
    return x


def plans_of(
    layers: Sequence[nn.Module], context: Context, change: Callable[[Any], Any] | None = None
) -> list[dict[str, Any]]:
    """Return the attention plans of each layer, by name of the sub-layer; layers of one `plan_key` share a plan.

    Where its feed-forward network chooses among experts, a layer has its own `Routing` as `feedforward`; what else it
    asks for (`asked`) is beside them.

    Args:
        layers: each with a sub-layer `attention`, and `cross` (cross-attention) or None.
        context: the context of the forward pass.
        change: function applied once to each plan.
    """
    contexts = {"attention": context, "cross": context.crossing()}
    made: dict[Hashable, Any] = {}
    same: dict[tuple[str, int], Any] = {}  # by the choice itself, as comparing choices takes its time
    found = []
    for layer in layers:
        own = {}
        for name, given in contexts.items():
            attention: AttentionLayer | None = getattr(layer, name, None)
            if attention is None:
                continue
            known = name, id(attention.choice)
            if known not in same:
                key = name, attention.choice.plan_key()
                if key not in made:
                    plan = attention.plan(given)
                    made[key] = plan if change is None else change(plan)
                same[known] = made[key]
            own[name] = same[known]
        if (routing := Routing.of(getattr(layer, "feedforward", None), context.packed)) is not None:
            own["feedforward"] = routing
        if ask := getattr(layer, "asked", None):
            own |= ask(context)
        found.append(own)
    return found


def keep(kept: list[Tensor] | None, x: Tensor) -> Tensor:
    """Return hidden states, after appending them to `kept` if it is a list."""
    if kept is not None:
        kept.append(x)
    return x


def each_layer(model: Transformer, lengths: ExampleLengths) -> ComponentCost:
    """Return the cost per token of all layers together, each with weights of its own."""
    alike = itertools.groupby(model.layer(number) for number in range(model.layers))
    return functools.reduce(
        operator.add, (model.block.cost(layer, lengths).repeated(len(list(layers))) for layer, layers in alike)
    )
