"""Weight conversion: rows of layout tables, with invertible tensor operations between genus and Hugging Face.

A row maps modules of genus to modules of Hugging Face with the same weights. Most weights are stored alike. Others are
fused (GPT-2's `c_attn`), transposed (GPT-2's `Conv1D`), in groups (CodeGen's `qkv_proj`), or in another order of a
head's rotary dimensions (GPT-J).
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
"""Relative sizes of query, key and value where all have the same number of heads."""
LAYER = re.compile(r"(?<=\.layers\.)\d+")


class Op(ABC):
    """An operation on the tensors of a row that only rearranges elements, so that it has an exact inverse."""

    @abstractmethod
    def __call__(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the rearranged tensors.

        Raises:
            ValueError: the shapes do not fit; the message says how.
        """

    @property
    @abstractmethod
    def inverse(self) -> Op:
        """The operation that undoes this one."""

    def then(self, other: Op) -> Op:
        """Return the composition: this operation first, then the other."""
        return Chain((self, other))


class EachTensor(Op):
    """An operation that is applied to each tensor of a row separately."""

    def __call__(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the result of `one` for every tensor."""
        return tuple(self.one(tensor) for tensor in tensors)

    @abstractmethod
    def one(self, tensor: Tensor) -> Tensor:
        """Return the rearranged tensor."""


@dataclass(frozen=True)
class Identity(Op):
    """The identity, for weights that are stored alike."""

    def __call__(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the tensors unchanged."""
        return tensors

    @property
    def inverse(self) -> Op:
        """The identity, which is its own inverse."""
        return self


@dataclass(frozen=True)
class Chain(Op):
    """A composition of operations, applied from first to last."""

    ops: tuple[Op, ...]

    def __call__(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Apply the operations in order."""
        for op in self.ops:
            tensors = op(tensors)
        return tensors

    @property
    def inverse(self) -> Op:
        """The composition of the inverses in reverse order."""
        return Chain(tuple(op.inverse for op in reversed(self.ops)))


@dataclass(frozen=True)
class Stack(Op):
    """Concatenation along the first axis (output features): several tensors become one.

    `shares` are their relative sizes, by which the inverse splits: (1, 1, 1), or (heads, key heads, key heads).
    """

    shares: tuple[int, ...] = QKV

    def __call__(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the concatenation as the only tensor."""
        return (torch.cat(tensors),)

    @property
    def inverse(self) -> Op:
        """The split by the same shares."""
        return Split(self.shares)


@dataclass(frozen=True)
class Split(Op):
    """Split along the first axis (output features): one tensor becomes several, with relative sizes `shares`."""

    shares: tuple[int, ...] = QKV

    def __call__(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the parts as views of the tensor."""
        (tensor,) = tensors
        return torch.split(tensor, sizes(len(tensor), self.shares))

    @property
    def inverse(self) -> Op:
        """The concatenation of parts with the same shares."""
        return Stack(self.shares)


@dataclass(frozen=True)
class Transpose(EachTensor):
    """Transposition of matrices, (in, out) for (out, in), as in GPT-2's `Conv1D`; vectors (biases) are unchanged."""

    def one(self, tensor: Tensor) -> Tensor:
        """Return the transposed matrix, or the vector."""
        return tensor.T if tensor.dim() == 2 else tensor

    @property
    def inverse(self) -> Op:
        """Transposition, which is its own inverse."""
        return self


@dataclass(frozen=True)
class Permute(EachTensor):
    """Permutation of axes, in the order that `torch.permute` takes."""

    order: tuple[int, ...]

    def one(self, tensor: Tensor) -> Tensor:
        """Return the permuted tensor."""
        if tensor.dim() != len(self.order):
            raise ValueError(f"{len(self.order)} axes are expected")
        return tensor.permute(self.order)

    @property
    def inverse(self) -> Op:
        """The inverse permutation."""
        return Permute(tuple(sorted(range(len(self.order)), key=self.order.__getitem__)))


@dataclass(frozen=True)
class Unflatten(EachTensor):
    """Split of the first axis, the output features of all heads, into two: (heads, head size)."""

    heads: int

    def one(self, tensor: Tensor) -> Tensor:
        """Return the tensor with one more axis, (heads, head size, ...)."""
        sizes(len(tensor), (1,) * self.heads)
        return torch.unflatten(tensor, 0, (self.heads, -1))

    @property
    def inverse(self) -> Op:
        """The merge of the two axes."""
        return Flatten(self.heads)


@dataclass(frozen=True)
class Flatten(EachTensor):
    """Merge of the first two axes, (heads, head size), into one."""

    heads: int

    def one(self, tensor: Tensor) -> Tensor:
        """Return the tensor with one axis less, (heads x head size, ...)."""
        if tensor.dim() < 2 or len(tensor) != self.heads:
            raise ValueError(f"{self.heads} heads are expected on the first axis")
        return tensor.flatten(0, 1)

    @property
    def inverse(self) -> Op:
        """The split of the first axis into two."""
        return Unflatten(self.heads)


@dataclass(frozen=True)
class Interleave(EachTensor):
    """Grouped query, key and value: from (part, group, row) to (group, part, row), along the first axis.

    Heads are divided into `groups`, and each group stores its queries, keys and values consecutively: CodeGen's
    `qkv_proj` has 4 groups, GPT-NeoX one group per head. `shares` are the relative sizes of the parts.
    """

    groups: int
    shares: tuple[int, ...] = QKV

    def one(self, tensor: Tensor) -> Tensor:
        """Return the tensor in the order (group, part, row) along the first axis."""
        parts = torch.split(tensor, sizes(len(tensor), self.shares, self.groups))
        return torch.cat([torch.unflatten(part, 0, (self.groups, -1)) for part in parts], dim=1).flatten(0, 1)

    @property
    def inverse(self) -> Op:
        """The operation from (group, part, row) to (part, group, row)."""
        return Separate(self.groups, self.shares)


@dataclass(frozen=True)
class Separate(EachTensor):
    """From (group, part, row) to (part, group, row) along the first axis: the inverse of `Interleave`."""

    groups: int
    shares: tuple[int, ...] = QKV

    def one(self, tensor: Tensor) -> Tensor:
        """Return the tensor in the order (part, group, row) along the first axis."""
        each = [size // self.groups for size in sizes(len(tensor), self.shares, self.groups)]
        parts = torch.split(torch.unflatten(tensor, 0, (self.groups, -1)), each, dim=1)
        return torch.cat([part.flatten(0, 1) for part in parts])

    @property
    def inverse(self) -> Op:
        """The operation from (part, group, row) to (group, part, row)."""
        return Interleave(self.groups, self.shares)


@dataclass(frozen=True)
class RotaryPermute(EachTensor):
    """Rotary embedding order: half-split (dimensions i and i + R/2 form a pair) to interleaved (2i and 2i + 1).

    GPT-NeoX and Llama in transformers (`rotate_half`) are half-split; the paper (Su et al. 2021), GPT-J and Meta's
    Llama files are interleaved. Queries and keys are permuted alike, so that attention scores do not change.
    """

    heads: int
    """Number of heads of the tensor: key heads may be fewer than query heads."""
    rotary: int | None = None
    """R, the number of rotary dimensions of a head, which are its first; None for all."""
    back: bool = False
    """Whether the direction is from interleaved to half-split."""

    def one(self, tensor: Tensor) -> Tensor:
        """Return the tensor with the rotary dimensions of each head, on the first axis, in the other order."""
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
        """The same permutation in the other direction."""
        return replace(self, back=not self.back)


def sizes(rows: int, shares: tuple[int, ...], groups: int = 1) -> list[int]:
    """Return the sizes of parts of `rows` rows with relative sizes `shares`, each a multiple of `groups`.

    Raises:
        ValueError: the number of rows is not divisible accordingly.
    """
    whole = sum(shares) * groups
    if rows % whole:
        raise ValueError(f"{rows} rows do not divide by {whole}")
    return [share * rows // sum(shares) for share in shares]


@dataclass(frozen=True)
class Map:
    """A row of a layout's table: genus modules (or tensors), Hugging Face's, and the operation between their weights.

    `{}` in a name is the index of a layer. `there` converts from genus to Hugging Face, and its inverse converts back.
    Where the operation depends on the configuration (such as the number of heads), `there` is a function of it.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    there: Op | Callable[[Json], Op] = Identity()

    def op(self, config: Json) -> Op:
        """Return the operation from genus to Hugging Face for a configuration."""
        return self.there if isinstance(self.there, Op) else self.there(config)

    def under(self, prefix: str) -> Map:
        """Return the row with a prefix before all Hugging Face names."""
        return replace(self, theirs=tuple(prefix + name for name in self.theirs))


Table = Mapping[str, Map | tuple[str, ...]]
"""Genus modules to Hugging Face's. A plain row is a tuple of Hugging Face names, whose weights are concatenated along
the first axis in genus.

`{}` is the index of a layer. A row may also map a single tensor, and then has the full name of the other tensor. The
key of a `Map` is the first of its `ours`.
"""


class Place(NamedTuple):
    """The row of a tensor, with the full names of its tensors in genus and in Hugging Face."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    row: Map


def rows(table: Table) -> dict[str, Map]:
    """Return the row of every genus module in a table."""
    found: dict[str, Map] = {}
    for key, row in table.items():
        full = row if isinstance(row, Map) else _plain(key, row)
        if key not in full.ours:
            raise ValueError(f"the row of {key} is of {', '.join(full.ours)}")
        found |= dict.fromkeys(full.ours, full)
    return found


def place(name: str, table: Table) -> Place:
    """Return the row of a tensor, given by its genus name.

    Raises:
        KeyError: the table has no row for it.
    """
    known = rows(table)
    numbers, general = LAYER.findall(name), LAYER.sub("{}", name)
    module, _, leaf = general.rpartition(".")
    row, end = (known[general], "") if general in known else (known[module], f".{leaf}")
    ours, theirs = (tuple(one.format(*numbers) + end for one in names) for names in (row.ours, row.theirs))
    return Place(ours, theirs, row)


def _plain(key: str, names: tuple[str, ...]) -> Map:
    """Return a plain row, a tuple of names, as a `Map`."""
    return Map((key,), names, Split((1,) * len(names)) if names[1:] else Identity())
