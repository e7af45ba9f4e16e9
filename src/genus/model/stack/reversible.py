"""Reversible layers: the backward pass recomputes activations from outputs (Kitaev et al. 2020, section 3)."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from genus.errors import UsageError
from genus.model.block.residual import PreNorm, PreNormLayer
from genus.model.stack import Stack, each_layer, plans_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from genus.model.attention.plan import Context
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.model.transformer import Transformer


GRID = 2.0**36
"""Hidden states are multiples of 1 / GRID, finer than float32 above 0.0002. In float64, sums and differences up to
2^53 / GRID = 131,072 are exact: recomputed states are equal bit for bit, and so have the same LSH buckets."""


class ReversibleStack(Stack):
    """Reversible residual layers: y₁ = x₁ + attend(x₂), y₂ = x₂ + feed(y₁), from x₁ = x₂ to the output [y₁, y₂].

    The backward pass recomputes x₂ = y₂ - feed(y₁) and x₁ = y₁ - attend(x₂), with the same dropout and LSH rotations.
    So the activations that are kept do not grow with the number of layers.

    Source: Kitaev et al. 2020, section 3, equations 7 to 9 (Gomez et al. 2017). Each layer is a `PreNorm` block.
    """

    gives_states: ClassVar[bool] = False
    keeps_states: ClassVar[bool] = False

    def check(self, model: Transformer) -> None:
        """Check that the block is a `PreNorm`, without cross-attention or position bias (ValueError)."""
        if not isinstance(model.block, PreNorm):
            raise ValueError(f"stack: reversible layers need model.block=PreNorm or a kind of it, not "
                             f"{type(model.block).__name__}")  # fmt: skip
        if model.feedforward.losses:
            raise ValueError("stack: reversible layers compute their experts twice, and have no place for the loss "
                             "that balances them; take MLP or GatedMLP as model.feedforward")  # fmt: skip
        if model.cross is not None or model.embedding.position.biases:
            raise ValueError("stack: reversible layers have no cross-attention, and no bias of positions on the scores")

    def width(self, hidden: int) -> int:
        """Return 2 H, the dimension of both states."""
        return 2 * hidden

    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the module of `layers` reversible layers."""
        return ReversibleLayers(make() for _ in range(layers))

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of every layer; kept are two states in float64 and one layer's activations."""
        whole = each_layer(model, lengths)
        layers = (model.block.cost(model.layer(number), lengths).activations for number in range(model.layers))
        return replace(whole, activations=4 * model.hidden + max(layers))


class ReversibleLayers(nn.ModuleList):
    """The module of a reversible stack."""

    why_whole = "reversible layers compute their gradients themselves, of whole weights"
    """See `split.WholeWeights`."""

    def forward(self, x: Tensor, context: Context, kept: list[Tensor] | None = None) -> Tensor:
        """Forward pass: return (T, 2 H).

        Raises:
            UsageError: the hidden states of every layer are requested, which are not kept.
        """
        if kept is not None:
            raise UsageError("model.stack: reversible layers do not keep the states of every layer")
        layers = cast("list[PreNormLayer]", list(self))
        walk = RecomputeContext(
            layers, plans_of(layers, context), x, int(torch.randint(1 << 62, ())) if self.training else None
        )
        if not torch.is_grad_enabled():
            return walk.joined(*walk.forward_states(x))
        return ReversibleFunction.apply(x, walk, *self.parameters())  # type: ignore[no-any-return, no-untyped-call]


class RecomputeContext:
    """One forward and backward pass, in which recomputation has the same random numbers and precision."""

    def __init__(self, layers: list[PreNormLayer], plans: list[dict[str, Any]], x: Tensor, key: int | None) -> None:
        self.layers, self.plans, self.key = layers, plans, key
        self.dtype, self.device = x.dtype, x.device
        self.half = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else None

    def forward_states(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return both states (T, H) after the last layer."""
        first = second = to_fixed_point(x)
        for number in range(len(self.layers)):
            first = first + to_fixed_point(self.attend(number, second.to(self.dtype)))
            second = second + to_fixed_point(self.feed(number, first.to(self.dtype)))
        return first, second

    def joined(self, first: Tensor, second: Tensor) -> Tensor:
        """Return both states concatenated (T, 2 H), in the input's precision."""
        return torch.cat([first, second], -1).to(self.dtype)

    def attend(self, number: int, x: Tensor) -> Tensor:
        """Return the attention branch (T, H) of layer `number`."""
        with self.replay_rng(2 * number):
            return self.layers[number].attend(x, self.plans[number], {})

    def feed(self, number: int, x: Tensor) -> Tensor:
        """Return the feed-forward branch (T, H) of layer `number`."""
        with self.replay_rng(2 * number + 1):
            return self.layers[number].feed(x)

    @contextmanager
    def replay_rng(self, part: int) -> Iterator[None]:
        """Run with a random seed that depends on the pass and the sub-layer, in the precision of the forward pass."""
        with self._draws(part), self._precision():
            yield

    def _precision(self) -> AbstractContextManager[object]:
        kind, on = self.device.type, self.half is not None
        return torch.autocast(kind, dtype=self.half, enabled=on, cache_enabled=False)

    @contextmanager
    def _draws(self, part: int) -> Iterator[None]:
        if self.key is None:
            yield
            return
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.key + part)
            yield


class ReversibleFunction(torch.autograd.Function):
    """Reversible forward pass, whose backward pass recomputes the states of all layers from the last ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, walk: RecomputeContext, *parameters: Tensor) -> Tensor:
        """Return (T, 2 H), and save the last states only."""
        ctx.walk, ctx.parameters = walk, parameters
        states = walk.forward_states(x)
        ctx.save_for_backward(*states)
        return walk.joined(*states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the input and of each parameter."""
        walk, (first, second), (d_first, d_second) = ctx.walk, ctx.saved_tensors, grad.chunk(2, -1)
        total: dict[nn.Parameter, Tensor] = {}
        for number in reversed(range(len(walk.layers))):
            out, d = recompute_and_grad(walk.feed, number, first.to(walk.dtype), d_second, walk, total)
            second, d_first = second - to_fixed_point(out), d_first + d
            out, d = recompute_and_grad(walk.attend, number, second.to(walk.dtype), d_first, walk, total)
            first, d_second = first - to_fixed_point(out), d_second + d
        return d_first + d_second, None, *(total.pop(parameter, None) for parameter in ctx.parameters)


def recompute_and_grad(
    add: Callable[[int, Tensor], Tensor],
    number: int,
    x: Tensor,
    grad: Tensor,
    walk: RecomputeContext,
    total: dict[Any, Tensor],
) -> tuple[Tensor, Tensor]:
    """Recompute a sub-layer: return its output and the gradient of x; add its parameters' gradients to `total`."""
    x = x.detach().requires_grad_()
    wanted = [parameter for parameter in walk.layers[number].parameters() if parameter.requires_grad]
    with torch.enable_grad():
        out = add(number, x)
    d_x, *found = torch.autograd.grad(out, [x, *wanted], grad.to(out.dtype), allow_unused=True)
    for parameter, d in zip(wanted, found, strict=True):
        if d is not None:
            total[parameter] = total[parameter] + d if parameter in total else d
    return out.detach(), d_x


def to_fixed_point(x: Tensor) -> Tensor:
    """Return x in float64, rounded to a multiple of 1 / GRID."""
    return (x.double() * GRID).round() / GRID
