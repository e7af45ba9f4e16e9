"""Sequence parallelism: outside of sub-layers, each process that splits matrices holds some of the tokens.

Norms, dropout and residual connections of a stack of layers work token by token. Each of n processes computes them for
a block of the tokens (T / n, H), and keeps no more for the backward pass. A sub-layer gathers the tokens at its column
splits and scatters the sums at its row split, which sends as much as the all-reduces in their place. What is gathered
is not kept: the backward pass gathers it again, which sends a quarter more. Tokens that n does not divide are filled up
with copies of the last one, which are left out wherever tokens are gathered.

Source: Korthikanti et al. 2022 (arXiv:2205.05198), section 4.2.2 and figures 5 and 6, whose g is `gather` and whose g̅
is `scatter`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.model.split import Entrance, Peers

ALL_GATHER = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor
REDUCE_SCATTER = getattr(distributed, "reduce_scatter_single", None) or distributed.reduce_scatter_tensor
"""Collectives of whole tensors; before PyTorch 2.13 under their older names."""


@runtime_checkable
class ByToken(Protocol):
    """A stack or a layer that, but for the sub-layers within, computes each token by itself."""

    by_token: bool


@dataclass
class SplitTokens:
    """The division of a stream's tokens among processes; the stack sets the number of tokens in each forward pass."""

    peers: Peers
    length: int = 0
    """T."""

    @property
    def block(self) -> int:
        """Tokens of each process, those that fill up included."""
        return -(-self.length // self.peers.parts)


def _own(x: Tensor, peers: Peers, block: int, filler: Tensor) -> Tensor:
    """Return this process's block (block, H) of x (T, H), filled up with copies of a row (1, H)."""
    first = min(len(x), peers.place * block)
    held = x[first : first + block]
    return held if len(held) == block else torch.cat([held, filler.expand(block - len(held), -1)])


def _gathered(x: Tensor, peers: Peers, length: int) -> Tensor:
    """Return the tokens (T, H) of all processes."""
    whole = x.new_empty(peers.parts * len(x), *x.shape[1:])
    ALL_GATHER(whole, x.contiguous(), group=peers.group)
    return whole[:length]


def _scattered(x: Tensor, peers: Peers, block: int) -> Tensor:
    """Return this process's block (block, H) of the sum of all processes' x (T, H)."""
    missing = peers.parts * block - len(x)
    filled = torch.cat([x, x.new_zeros(missing, *x.shape[1:])]) if missing else x.contiguous()
    own = x.new_empty(block, *x.shape[1:])
    REDUCE_SCATTER(own, filled, group=peers.group)
    return own


class _Divide(torch.autograd.Function):
    """The own block of tokens that all processes have, whose backward pass gathers the gradients of all blocks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, peers: Peers, block: int) -> Tensor:
        ctx.peers, ctx.length = peers, len(x)
        return _own(x, peers, block, x[-1:]).clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _gathered(grad, ctx.peers, ctx.length), None, None


class _Join(torch.autograd.Function):
    """The tokens of all processes, which all go on with alike; the backward pass takes out the own block."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, peers: Peers, length: int) -> Tensor:
        ctx.peers, ctx.block = peers, len(x)
        return _gathered(x, peers, length)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _own(grad, ctx.peers, ctx.block, grad.new_zeros(1, grad.shape[1])), None, None


class _Gather(_Join):
    """The tokens of all processes, for computations that each does in part; the backward pass sums and scatters."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _scattered(grad, ctx.peers, ctx.block), None, None


class _Scatter(_Divide):
    """The own block of the sum of what each process computed in part; the backward pass gathers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, peers: Peers, block: int) -> Tensor:
        ctx.peers, ctx.length = peers, len(x)
        return _scattered(x, peers, block)


@dataclass
class _Again:
    """The tokens gathered a second time, in the backward pass, once for all maps that read them."""

    peers: Peers
    length: int
    uses: int = 0
    """Maps that have yet to read them."""
    whole: Tensor | None = None

    def __call__(self, own: Tensor) -> Tensor:
        whole = _gathered(own, self.peers, self.length) if self.whole is None else self.whole
        self.uses -= 1
        self.whole = whole if self.uses else None
        return whole


class _GatheredLinear(torch.autograd.Function):
    """A linear map of gathered tokens, which keeps the own ones and gathers again for the gradient of its weight."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, own: Tensor, weight: Tensor, bias: Tensor | None, again: _Again) -> Tensor:
        ctx.save_for_backward(own, weight)
        ctx.again = again
        with torch.autocast(whole.device.type, enabled=False):
            return F.linear(whole, weight.to(whole.dtype), None if bias is None else bias.to(whole.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        own, weight = ctx.saved_tensors
        of_bias = grad.sum(0, dtype=weight.dtype) if ctx.needs_input_grad[3] else None
        of_weight = (grad.t() @ ctx.again(own)).to(weight.dtype) if ctx.needs_input_grad[2] else None
        return grad @ weight.to(grad.dtype), None, of_weight, of_bias, None


class GatheredTokens:
    """The tokens that the column splits of a sub-layer read in one forward pass."""

    def __init__(self, x: Tensor, tokens: SplitTokens) -> None:
        """Gather x (block, H), in autocast's dtype where that is enabled, as the maps would cast it."""
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
        self.own, self.whole = x.detach(), gather(x, tokens)
        self.again = _Again(tokens.peers, tokens.length)

    def linear(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return a linear map of all tokens (T, F)."""
        self.again.uses += weight.requires_grad
        return _GatheredLinear.apply(  # type: ignore[no-any-return, no-untyped-call]
            self.whole, self.own, weight, bias, self.again
        )


def divide(x: Tensor, tokens: SplitTokens) -> Tensor:
    """Return this process's tokens (block, H) of x (T, H), which is the same in all processes."""
    return _Divide.apply(x, tokens.peers, tokens.block)  # type: ignore[no-any-return, no-untyped-call]


def join(x: Tensor, tokens: SplitTokens) -> Tensor:
    """Return all tokens (T, H), with which all processes compute the same."""
    return _Join.apply(x, tokens.peers, tokens.length)  # type: ignore[no-any-return, no-untyped-call]


def gather(x: Tensor, tokens: SplitTokens) -> Tensor:
    """Return all tokens (T, H) for computations that each process does in part."""
    return _Gather.apply(x, tokens.peers, tokens.length)  # type: ignore[no-any-return, no-untyped-call]


def scatter(x: Tensor, tokens: SplitTokens) -> Tensor:
    """Return this process's tokens (block, H) of the sum of what each computed in part, x (T, H)."""
    return _Scatter.apply(x, tokens.peers, tokens.block)  # type: ignore[no-any-return, no-untyped-call]


def split_stack(stack: nn.Module, tokens: SplitTokens) -> None:
    """Let the layers of a stack work on this process's tokens; what goes in and comes out are all."""
    inner: Callable[..., Tensor] = stack.forward

    def forward(x: Tensor, context: Any, kept: list[Tensor] | None = None) -> Tensor:
        tokens.length = len(x)
        own: list[Tensor] | None = None if kept is None else []
        out = join(inner(divide(x, tokens), context, own), tokens)
        if kept is not None:
            kept += [join(one, tokens) for one in own or ()]
        return out

    stack.forward = forward


def split_branch(branch: nn.Module, entrance: Entrance, tokens: SplitTokens) -> None:
    """Let a sub-layer gather the tokens that its column splits read, and scatter what its row split gives."""
    inner: Callable[..., Tensor] = branch.forward
    entrance.tokens = tokens

    def forward(x: Tensor, *given: Any, **named: Any) -> Tensor:
        entrance.gathered = GatheredTokens(x, tokens)
        return inner(entrance.gathered.whole, *given, **named)

    branch.forward = forward
