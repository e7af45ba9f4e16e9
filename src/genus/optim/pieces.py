"""Pieces: what this process holds of a tensor that several processes divide, and norms and means over all of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, distributed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch.distributed import ProcessGroup


@dataclass(frozen=True)
class Division:
    """The division of one axis among the processes of a group, into blocks of equal length; the last may be shorter."""

    axis: int
    length: int
    """Entries along the axis before the division."""
    group: ProcessGroup
    place: int
    """Number of this process in the group."""
    parts: int
    """Number of processes in the group."""

    @property
    def block(self) -> int:
        """Entries of a whole block."""
        return -(-self.length // self.parts)

    @property
    def first(self) -> int:
        """Index of the first entry that this process holds."""
        return min(self.length, self.place * self.block)

    @property
    def held(self) -> int:
        """Entries that this process holds; 0 where there are fewer than processes."""
        return min(self.length, self.first + self.block) - self.first


@dataclass(frozen=True)
class Piece:
    """What this process holds of a tensor: a box, cut out by divisions one within the other."""

    shape: tuple[int, ...]
    """Of the whole tensor."""
    divisions: tuple[Division, ...] = ()
    """From the outermost to the innermost; none where the process holds the whole tensor."""
    owner: bool = True
    """Whether this process writes the piece; others may hold a copy."""

    @property
    def first(self) -> tuple[int, ...]:
        """Index of the piece's first entry along each axis of the whole tensor."""
        place = [0] * len(self.shape)
        for division in self.divisions:
            place[division.axis] += division.first
        return tuple(place)

    @property
    def held(self) -> tuple[int, ...]:
        """Shape of the piece."""
        shape = list(self.shape)
        for division in self.divisions:
            shape[division.axis] = division.held
        return tuple(shape)

    def averaged(self, axis: int) -> Piece:
        """Return the piece of a tensor that is a mean over an axis, which it keeps with one entry."""
        axis %= len(self.shape)
        shape = (*self.shape[:axis], 1, *self.shape[axis + 1 :])
        over = [division for division in self.divisions if division.axis == axis]
        others = tuple(division for division in self.divisions if division.axis != axis)
        return Piece(shape, others, self.owner and all(division.place == 0 for division in over))


def piece_of(tensor: Tensor) -> Piece | None:
    """Return which piece of a parameter or buffer this process holds; None: no process divides it."""
    return cast("Piece | None", getattr(tensor, "piece", None))


def set_piece(tensor: Tensor, piece: Piece) -> None:
    """Note on a parameter or buffer which piece of it this process holds."""
    tensor.piece = piece  # type: ignore[attr-defined]


@torch.no_grad()
def held(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor, without a copy: of FSDP2's `DTensor` the local one."""
    local = getattr(tensor, "to_local", None)
    return tensor if local is None else cast("Tensor", local())


@torch.no_grad()
def whole(tensor: Tensor) -> Tensor:
    """Return the whole tensor; all processes that divide it must call this, and each then has a copy."""
    found, piece = held(tensor).detach(), piece_of(tensor)
    for division in reversed(piece.divisions if piece else ()):
        found = _joined(found, division)
    return found


def _joined(own: Tensor, division: Division) -> Tensor:
    """Return the blocks of all processes of a group side by side."""
    shape = [*own.shape[: division.axis], division.block, *own.shape[division.axis + 1 :]]
    block = own.new_zeros(shape)
    block.narrow(division.axis, 0, division.held).copy_(own)
    blocks = [torch.empty_like(block) for _ in range(division.parts)]
    distributed.all_gather(blocks, block, group=division.group)
    return torch.cat(blocks, division.axis).narrow(division.axis, 0, division.length)


class WholeTensors(Mapping[str, Tensor]):
    """Tensors by name, each made whole when it is read."""

    def __init__(self, held: Mapping[str, Tensor], whole: Callable[[Tensor], Tensor]) -> None:
        self.held, self.whole = held, whole

    def __getitem__(self, name: str) -> Tensor:
        """Return a whole tensor."""
        return self.whole(self.held[name])

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.held)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self.held)


def _divisions(weight: Tensor) -> tuple[Division, ...]:
    piece = piece_of(weight)
    return piece.divisions if piece else ()


def norms(tensors: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Return the L2 norm (P,) of each tensor, over all processes that divide it, without host-device synchronization.

    Args:
        tensors: what this process holds of P tensors.
        weights: the parameters as which they are divided.
    """
    divisions = [_divisions(weight) for weight in weights]
    groups = dict.fromkeys(division.group for each in divisions for division in each)
    if not groups:
        return torch.stack(torch._foreach_norm(list(tensors)))
    squares = torch.stack(torch._foreach_norm(list(tensors), 2, torch.float64)).square()
    for group in groups:
        inside = torch.tensor([any(one.group == group for one in each) for each in divisions], device=squares.device)
        summed = torch.where(inside, squares, 0.0)
        distributed.all_reduce(summed, group=group)
        squares = torch.where(inside, summed, squares)
    return squares.sqrt().to(tensors[0].dtype)


def total_norm(tensors: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Return the L2 norm of all tensors together; see `norms`."""
    if any(map(_divisions, weights)):
        return torch.nn.utils.get_total_norm([norms(tensors, weights)])
    return torch.nn.utils.get_total_norm(tensors)


def mean(x: Tensor, weight: Tensor, axis: int | None = None) -> Tensor:
    """Return the mean of a tensor over all axes, or over one, which is kept with one entry; over all processes.

    Args:
        x: what this process holds of a tensor.
        weight: the parameter as which it is divided.
        axis: the axis; None: all.
    """
    piece = piece_of(weight)
    if piece is None or not piece.divisions:
        return x.mean() if axis is None else x.mean(dim=axis, keepdim=True)
    over = range(x.ndim) if axis is None else (axis % x.ndim,)
    total = x.sum(dim=tuple(over), keepdim=axis is not None)
    for division in piece.divisions:
        if division.axis in over:
            distributed.all_reduce(total, group=division.group)
    return total / math.prod(piece.shape[one] for one in over)
