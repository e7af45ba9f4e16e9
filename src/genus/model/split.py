"""Tensor parallelism: matrices that are split among processes, and the collectives where split and whole meet.

A linear map is split by its outputs ("column") or by its inputs ("row"; the names are those of X A with the weight A
transposed), an embedding by its tokens ("vocabulary"). What lies between a column and a row split is computed for some
heads or inner units only; all else is the same in all processes.

Source: Shoeybi et al. 2019 (Megatron-LM), section 3 and figure 3, whose f is `enter` and whose g is `leave`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from genus.model.split_tokens import scatter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch.distributed import ProcessGroup

    from genus.model.split_tokens import GatheredTokens, SplitTokens

Split = Literal["column", "row", "vocabulary"]
"""How a linear map or an embedding is split."""
APART, APART_OUTSIDE = 0x9E3779B9, 0x6A09E667
"""Distances between seeds of random draws that differ between processes: 2^32 divided by the golden ratio; and, outside
of sub-layers, 2^32 times the fraction of the square root of 2."""


@dataclass(frozen=True)
class Peers:
    """The processes that split the matrices of a model among them."""

    group: ProcessGroup
    place: int
    """Number of this process."""
    parts: int
    """Number of processes."""


@runtime_checkable
class Divisible(Protocol):
    """A module that says how its modules and tensors are split."""

    def shardings(self) -> Mapping[str, Split | int]:
        """Return how each child or own tensor is split, by name; a number is the axis of a tensor. Empty: it cannot."""


@runtime_checkable
class WholeWeights(Protocol):
    """A module whose weights may not be divided among processes."""

    why_whole: str
    """The reason in a few words, for an error message."""


class _Enter(torch.autograd.Function):
    """The identity, whose backward pass sums the gradient over the processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, peers: Peers) -> Tensor:
        ctx.peers = peers
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _summed(grad, ctx.peers), None


class _Leave(torch.autograd.Function):
    """The sum over the processes, whose backward pass is the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, peers: Peers) -> Tensor:
        return _summed(x, peers)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _Joined(torch.autograd.Function):
    """The blocks of all processes side by side on the last axis, whose backward pass takes the own block out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, peers: Peers) -> Tensor:
        ctx.peers, own = peers, x.contiguous()
        blocks = [torch.empty_like(own) for _ in range(peers.parts)]
        distributed.all_gather(blocks, own, group=peers.group)
        return torch.cat(blocks, -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.chunk(ctx.peers.parts, -1)[ctx.peers.place], None


def _summed(x: Tensor, peers: Peers) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total, group=peers.group)
    return total


def enter(x: Tensor, peers: Peers) -> Tensor:
    """Return x for computations that each process does in part: its gradient is the sum of all their gradients."""
    return _Enter.apply(x, peers)  # type: ignore[no-any-return, no-untyped-call]


def leave(x: Tensor, peers: Peers) -> Tensor:
    """Return the sum of what each process computed in part."""
    return _Leave.apply(x, peers)  # type: ignore[no-any-return, no-untyped-call]


def join(x: Tensor, peers: Peers) -> Tensor:
    """Return what the processes computed side by side, (..., parts F) of (..., F); each then computes the same."""
    return _Joined.apply(x, peers)  # type: ignore[no-any-return, no-untyped-call]


class Entrance:
    """`enter` for the column splits of a sub-layer, once for each tensor that several of them read."""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.given: Tensor | None = None
        self.entered: Tensor | None = None
        self.tokens: SplitTokens | None = None
        """The division of tokens outside of the sub-layer; None: all processes have all."""
        self.gathered: GatheredTokens | None = None
        """Those tokens, gathered; their gradient is summed where it is scattered."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the tensor, entered."""
        if self.entered is None or x is not self.given:
            self.given, self.entered = x, enter(x, self.peers)
        return self.entered

    def close(self) -> None:
        """Forget the tensor, at the end of the sub-layer."""
        self.given = self.entered = self.gathered = None

    def leave(self, x: Tensor) -> Tensor:
        """Return the sum of what each process computed: of all tokens, or of its own where tokens are split."""
        return leave(x, self.peers) if self.tokens is None else scatter(x, self.tokens)


class ColumnLinear(nn.Linear):
    """A linear map that holds some of its outputs."""

    entrance: Entrance

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass: return the outputs (..., F / parts) that this process holds."""
        gathered = self.entrance.gathered
        if gathered is not None and x is gathered.whole:
            return gathered.linear(self.weight, self.bias)
        return F.linear(self.entrance(x), self.weight, self.bias)


class RowLinear(nn.Linear):
    """A linear map that holds some of its inputs, and the whole bias; it ends a sub-layer."""

    entrance: Entrance

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass: return all outputs for the inputs (..., F / parts) of every process."""
        self.entrance.close()
        out = self.entrance.leave(F.linear(x, self.weight))
        return out if self.bias is None else out + self.bias.to(out.dtype)


class VocabularyEmbedding(nn.Embedding):
    """An embedding that holds some of its tokens; `num_embeddings` is the number of all."""

    peers: Peers

    def forward(self, ids: Tensor) -> Tensor:
        """Forward pass: return the vectors of all tokens, each from the process that holds it."""
        own = ids - self.peers.place * len(self.weight)
        inside = (own >= 0) & (own < len(self.weight))
        found = F.embedding(own.clamp(0, len(self.weight) - 1), self.weight) * inside[..., None]
        return leave(found, self.peers)


def draw_apart(branch: nn.Module, number: int, peers: Peers, distance: int = APART) -> None:
    """Let a sub-layer draw other random numbers in every process, such as dropout of its heads.

    The generator goes on as if nothing was drawn, so that all else is drawn alike in all processes.
    """
    inner: Callable[..., Any] = branch.forward

    def forward(*given: Any, **named: Any) -> Any:
        if not branch.training:
            return inner(*given, **named)
        seed = torch.initial_seed() + distance * (1 + number * peers.parts + peers.place)
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda._initialized else []):
            torch.manual_seed(seed % 2**63)
            return inner(*given, **named)

    branch.forward = forward
