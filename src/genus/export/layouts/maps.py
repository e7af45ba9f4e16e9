"""Rows of export tables: operations between our tensors and a foreign layout's, each with its inverse.

A row says which of our modules hold the weights of which of theirs. Most are alike. Others are fused (GPT-2's
`c_attn`), stored transposed (GPT-2's `Conv1D`), in groups (CodeGen's `qkv_proj`), or in another order of a head's
rotary dimensions (GPT-J).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from genus.part import Json

QKV = (1, 1, 1)
"""Shares of query, key and value where all have as many heads."""
LAYER = re.compile(r"(?<=\.layers\.)\d+")


class Op(ABC):
    """An operation on the tensors of a row: a rearrangement, so that it has an exact inverse."""

    @abstractmethod
    def __call__(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the rearranged tensors.

        Raises:
            ValueError: the shapes do not allow it; it says which.
        """

    @property
    @abstractmethod
    def inverse(self) -> Op:
        """The operation that undoes this one."""

    def then(self, other: Op) -> Op:
        """Return the composition: this operation first, then the other."""
        return Chain((self, other))


class EachTensor(Op):
    """An operation on every tensor of a row by itself."""

    def __call__(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return every tensor rearranged."""
        return tuple(self.one(tensor) for tensor in tensors)

    @abstractmethod
    def one(self, tensor: Tensor) -> Tensor:
        """Return one tensor rearranged."""


@dataclass(frozen=True)
class Identity(Op):
    """Both sides are alike."""

    def __call__(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the tensors."""
        return tensors

    @property
    def inverse(self) -> Op:
        """The identity."""
        return self


@dataclass(frozen=True)
class Chain(Op):
    """A composition of operations, the first one first."""

    ops: tuple[Op, ...]

    def __call__(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return what the last operation makes of what those before it made."""
        for op in self.ops:
            tensors = op(tensors)
        return tensors

    @property
    def inverse(self) -> Op:
        """The inverses, the last one first."""
        return Chain(tuple(op.inverse for op in reversed(self.ops)))


@dataclass(frozen=True)
class Stack(Op):
    """Concatenation along the first axis (output features): several tensors become one.

    `shares` is the ratio of their sizes, by which the inverse splits: (1, 1, 1), or (heads, key heads, key heads).
    """

    shares: tuple[int, ...] = QKV

    def __call__(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the one tensor."""
        return (torch.cat(tensors),)

    @property
    def inverse(self) -> Op:
        """The split."""
        return Split(self.shares)


@dataclass(frozen=True)
class Split(Op):
    """Split along the first axis (output features): one tensor becomes several, whose sizes are as `shares`."""

    shares: tuple[int, ...] = QKV

    def __call__(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the parts, views of the one tensor."""
        (tensor,) = tensors
        return torch.split(tensor, sizes(len(tensor), self.shares))

    @property
    def inverse(self) -> Op:
        """The concatenation."""
        return Stack(self.shares)


@dataclass(frozen=True)
class Transpose(EachTensor):
    """Transposed matrices, (in, out) for (out, in), as in GPT-2's `Conv1D`; vectors, such as biases, stay."""

    def one(self, tensor: Tensor) -> Tensor:
        """Return the transpose."""
        return tensor.T if tensor.dim() == 2 else tensor

    @property
    def inverse(self) -> Op:
        """The transpose."""
        return self


@dataclass(frozen=True)
class Permute(EachTensor):
    """Axes in another order, as `torch.permute` takes it."""

    order: tuple[int, ...]

    def one(self, tensor: Tensor) -> Tensor:
        """Return the permuted tensor."""
        if tensor.dim() != len(self.order):
            raise ValueError(f"{len(self.order)} axes are expected")
        return tensor.permute(self.order)

    @property
    def inverse(self) -> Op:
        """The order that puts every axis back."""
        return Permute(tuple(sorted(range(len(self.order)), key=self.order.__getitem__)))


@dataclass(frozen=True)
class Unflatten(EachTensor):
    """The first axis, the output features of all heads, as two: (heads, head size)."""

    heads: int

    def one(self, tensor: Tensor) -> Tensor:
        """Return the tensor with one axis more."""
        sizes(len(tensor), (1,) * self.heads)
        return torch.unflatten(tensor, 0, (self.heads, -1))

    @property
    def inverse(self) -> Op:
        """The two axes as one."""
        return Flatten(self.heads)


@dataclass(frozen=True)
class Flatten(EachTensor):
    """The first two axes, (heads, head size), as one."""

    heads: int

    def one(self, tensor: Tensor) -> Tensor:
        """Return the tensor with one axis less."""
        if tensor.dim() < 2 or len(tensor) != self.heads:
            raise ValueError(f"{self.heads} heads are expected on the first axis")
        return tensor.flatten(0, 1)

    @property
    def inverse(self) -> Op:
        """The first axis as two."""
        return Unflatten(self.heads)


@dataclass(frozen=True)
class Interleave(EachTensor):
    """Stacked parts in groups: from (part, group, row) to (group, part, row), along the first axis.

    Heads are shared out in `groups`, and each group holds its queries, keys and values side by side: CodeGen's
    `qkv_proj` with 4 groups, or one group a head as in GPT-NeoX. `shares` is the ratio of the parts' sizes.
    """

    groups: int
    shares: tuple[int, ...] = QKV

    def one(self, tensor: Tensor) -> Tensor:
        """Return the first axis with the groups outside."""
        parts = torch.split(tensor, sizes(len(tensor), self.shares, self.groups))
        return torch.cat([torch.unflatten(part, 0, (self.groups, -1)) for part in parts], dim=1).flatten(0, 1)

    @property
    def inverse(self) -> Op:
        """The first axis with the parts outside."""
        return Separate(self.groups, self.shares)


@dataclass(frozen=True)
class Separate(EachTensor):
    """Groups of parts as stacked parts, along the first axis: the inverse of `Interleave`."""

    groups: int
    shares: tuple[int, ...] = QKV

    def one(self, tensor: Tensor) -> Tensor:
        """Return the first axis with the parts outside."""
        each = [size // self.groups for size in sizes(len(tensor), self.shares, self.groups)]
        parts = torch.split(torch.unflatten(tensor, 0, (self.groups, -1)), each, dim=1)
        return torch.cat([part.flatten(0, 1) for part in parts])

    @property
    def inverse(self) -> Op:
        """The first axis with the groups outside."""
        return Interleave(self.groups, self.shares)


@dataclass(frozen=True)
class RotaryPermute(EachTensor):
    """The order of a head's rotary dimensions: half-split, where i turns with i + R/2, to interleaved, 2i with 2i + 1.

    Half-split are GPT-NeoX's and Llama's (transformers' `rotate_half`), interleaved the paper's (Su et al. 2021),
    GPT-J's and those of Meta's Llama files. Queries and keys are permuted alike, so no score changes.
    """

    heads: int
    """Of the tensor: key heads may be fewer than query heads."""
    rotary: int | None = None
    """R, how many of a head's dimensions turn, the first ones; None for all."""
    back: bool = False
    """From interleaved to half-split."""

    def one(self, tensor: Tensor) -> Tensor:
        """Return the first axis in the other order, head by head."""
        (size,) = set(sizes(len(tensor), (1,) * self.heads))
        rotary = size if self.rotary is None else self.rotary
        if rotary % 2 or rotary > size:
            raise ValueError(f"{rotary} rotary dimensions do not fit heads of {size}")
        shape = (rotary // 2, 2) if self.back else (2, rotary // 2)
        turned = torch.arange(rotary).view(shape).T.flatten()
        order = torch.cat([turned, torch.arange(rotary, size)])
        index = (torch.arange(self.heads)[:, None] * size + order).flatten()
        return tensor.index_select(0, index.to(tensor.device))

    @property
    def inverse(self) -> Op:
        """The other direction."""
        return replace(self, back=not self.back)


def sizes(rows: int, shares: tuple[int, ...], groups: int = 1) -> list[int]:
    """Return the sizes of parts of so many rows in the ratio of the shares, each a multiple of the groups.

    Raises:
        ValueError: the rows cannot be shared out so.
    """
    whole = sum(shares) * groups
    if rows % whole:
        raise ValueError(f"{rows} rows do not divide by {whole}")
    return [share * rows // sum(shares) for share in shares]


@dataclass(frozen=True)
class Map:
    """A row: modules (or tensors) of ours, theirs of the same weights, and what makes theirs of ours.

    `{}` in a name is the number of a layer. The way back is the inverse of `there`, so nobody writes it. Where an
    operation depends on the configuration, as on its number of heads, `there` is a function of it.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    there: Op | Callable[[Json], Op] = Identity()

    def op(self, config: Json) -> Op:
        """Return what makes theirs of ours for a configuration."""
        return self.there if isinstance(self.there, Op) else self.there(config)

    def under(self, prefix: str) -> Map:
        """Return the row with a prefix before all foreign names."""
        return replace(self, theirs=tuple(prefix + name for name in self.theirs))


Table = Mapping[str, Map | tuple[str, ...]]
"""Our module to theirs. A plain row is a tuple of their names: several are stacked in ours, one below the other.

`{}` is the number of a layer. A row may also be of one tensor, and then names theirs in full. The key of a `Map` is the
first of its own.
"""


class Place(NamedTuple):
    """The row of a tensor, with the names of all tensors in it on both sides."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    row: Map


def rows(table: Table) -> dict[str, Map]:
    """Return the row of every module of ours that a table speaks of."""
    found: dict[str, Map] = {}
    for key, row in table.items():
        full = row if isinstance(row, Map) else _plain(key, row)
        if key not in full.ours:
            raise ValueError(f"the row of {key} is of {', '.join(full.ours)}")
        found |= dict.fromkeys(full.ours, full)
    return found


def place(name: str, table: Table) -> Place:
    """Return the row of a tensor of ours.

    Raises:
        KeyError: the table has none.
    """
    known = rows(table)
    numbers, general = LAYER.findall(name), LAYER.sub("{}", name)
    module, _, leaf = general.rpartition(".")
    row, end = (known[general], "") if general in known else (known[module], f".{leaf}")
    ours, theirs = (tuple(one.format(*numbers) + end for one in names) for names in (row.ours, row.theirs))
    return Place(ours, theirs, row)


def _plain(key: str, names: tuple[str, ...]) -> Map:
    """Return a plain row in full."""
    return Map((key,), names, Split((1,) * len(names)) if names[1:] else Identity())
