"""Packed sequences, prediction targets, and the batch that holds them.

Legend: J entries of a packed batch, those of padding included; M targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    Memory = dict[str, Tensor]
    """Segment-level recurrence: tensors by name that a network keeps of the batch before, without gradient."""

IGNORE = -100
"""Label of a padding target, which only fills the batch up to its static shape (NaN where labels are floats)."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Segment-level recurrence: how each of R rows continues the row at the same index in the batch before."""

    continues: Tensor
    """(R,) bool: the row's first sequence continues where the stream ended."""
    through: Tensor
    """(R,) int64: how many of the row's token positions belong to the stream; those after them are lookahead only."""
    backward: Tensor | None = None
    """(R,) bool: the row's text runs from its end to its beginning; None: no row's does."""

    def to(self, device: torch.device) -> Flow:
        """Return a copy on another device."""
        return Flow(
            self.continues.to(device, non_blocking=True),
            self.through.to(device, non_blocking=True),
            None if self.backward is None else self.backward.to(device, non_blocking=True),
        )


@dataclass(frozen=True, slots=True)
class Packed:
    """Packed sequences, end to end on one token axis, in rows of `row_length` tokens that no sequence crosses.

    `ids.view(-1, row_length)` is a batch of rows, each of which holds whole sequences: fixed-shape kernels read rows,
    variable-length kernels read `offsets`. Each row ends with one entry of padding, which may be empty, so that entry
    j of every stream of a batch is the same example. Only attention depends on padding.
    """

    ids: Tensor
    """(T,) int64 token ids; T is a multiple of `row_length`."""
    positions: Tensor
    """(T,) int64 positions within the sequence, ascending; in decoding steps they do not begin at 0, and they need not
    be neighbors where a sequence says its own (`examples.Sequence.positions`)."""
    sequence: Tensor
    """(T,) int32 index of the entry of `offsets` that each token belongs to; -1 for padding."""
    offsets: Tensor
    """(J+1,) int32 cumulative lengths of all entries, padding included; T is repeated at the end up to a fixed J."""
    row_length: int
    """L, tokens per row, padding included."""
    tokens: int
    """The number of real tokens among the T, which tokens per second counts."""
    facts: Mapping[str, Tensor] = field(default_factory=dict)
    """(T,) int64 facts per token, by name: `segment` (0 or 1 in a pair), `order` (a token attends to those of its
    sequence with no larger value), `task` (index of its embedding), `prefix` (1: its whole sequence attends to it)."""
    flow: Flow | None = None
    """How rows continue those of the batch before; None: none does."""
    query: Tensor | None = None
    """(R, P) int64 token indices, by rows, that get a query stream, which has their position but not their content."""
    one_per_row: bool = False
    """Whether each row holds at most one sequence, in every batch of the same feed: kernels may depend on it."""
    original: Packed | None = None
    """Where this is a copy on another device: what it was copied from, from which lengths are read without a wait. Who
    replaces `offsets` or `sequence` drops it."""
    pixels: Tensor | None = None
    """(T, pixels) uint8 of each token's patch, where the tokens are patches of images: the id is then 1 for a patch,
    and 0 for the class token in front of them, which has none. None: the tokens are those of a vocabulary."""

    @classmethod
    def laid(
        cls, ids: Tensor, rows: Sequence[Sequence[int]], row_length: int, facts: Mapping[str, Tensor] | None = None
    ) -> Packed:
        """Return packed sequences from ids (T,), padding included, given the lengths of the sequences of each row.

        Raises:
            ValueError: a row is longer than `row_length`.
        """
        offsets, sequence, positions = (torch.from_numpy(part).to(ids.device) for part in layout(rows, row_length))
        one = all(len(row) < 2 for row in rows)
        tokens = sum(map(sum, rows))
        return cls(ids, positions, sequence, offsets, row_length, tokens, facts or {}, one_per_row=one)

    @property
    def rows(self) -> int:
        """R, the number of rows."""
        return self.ids.numel() // self.row_length

    def entries(self) -> Tensor:
        """Return (T,) int64, the index of the entry of `offsets` that each token is in, padding included."""
        order = torch.arange(self.ids.numel(), device=self.offsets.device, dtype=self.offsets.dtype)
        return torch.searchsorted(self.offsets[1:], order, right=True)

    def on_cpu(self) -> Packed:
        """Return what this was copied from, where that is known; else this, from which to read synchronizes."""
        return self if self.original is None else self.original

    def spans(self) -> list[tuple[int, int]]:
        """Return (start, end) of each sequence that is not empty, without padding, read as by `on_cpu`."""
        known = self.on_cpu()
        owner = known.sequence.tolist()
        spans = enumerate(pairwise(known.offsets.tolist()))
        return [(start, end) for entry, (start, end) in spans if start < end and owner[start] == entry]

    def lengths_of_entries(self) -> Tensor:
        """Return (J,) int32 the length of the sequence of each entry, 0 for padding."""
        length = self.offsets.diff()
        start = self.offsets[:-1].long().clamp(max=self.ids.numel() - 1)
        return length.masked_fill(self.sequence[start] < 0, 0)

    def lengths(self) -> list[int]:
        """Return the length of each sequence that is not empty, without padding, read as by `on_cpu`."""
        length = self.on_cpu().lengths_of_entries()
        return length[length > 0].tolist()

    def parts(self, most: int) -> list[Packed]:
        """Return whole sequences, neighbors together up to `most` tokens, as rows of their own; of no padding."""
        groups: list[list[int]] = [[]]
        for length in self.lengths():
            if groups[-1] and sum(groups[-1]) + length > most:
                groups.append([])
            groups[-1].append(length)
        found, first = [], 0
        for group in groups:
            at = slice(first, first := first + sum(group))
            facts = {name: fact[at] for name, fact in self.facts.items()}
            part = Packed.laid(self.ids[at], [group], sum(group), facts)
            found.append(replace(part, positions=self.positions[at]))
        return found

    def to(self, device: torch.device) -> Packed:
        """Return a copy on another device, without waiting for the transfer."""
        return replace(
            self,
            ids=self.ids.to(device, non_blocking=True),
            positions=self.positions.to(device, non_blocking=True),
            sequence=self.sequence.to(device, non_blocking=True),
            offsets=self.offsets.to(device, non_blocking=True),
            facts={name: fact.to(device, non_blocking=True) for name, fact in self.facts.items()},
            flow=None if self.flow is None else self.flow.to(device),
            query=None if self.query is None else self.query.to(device, non_blocking=True),
            pixels=None if self.pixels is None else self.pixels.to(device, non_blocking=True),
            original=None if device.type == "cpu" else self.on_cpu(),
        )


def layout(
    rows: Sequence[Sequence[int]], row_length: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Return the layout of packed sequences of given lengths: offsets (J+1,), sequence (T,) and positions (T,).

    Each row ends with one entry of padding, which fills it, so J is the number of sequences plus the number of rows.

    Raises:
        ValueError: a row is longer than `row_length`.
    """
    lengths: list[int] = []
    padding: list[int] = []
    for row in rows:
        used = sum(row)
        if used > row_length:
            raise ValueError(f"a row of {row_length} cells cannot hold {used} tokens")
        padding.append(len(lengths) + len(row))
        lengths += [*row, row_length - used]
    entry = np.arange(len(lengths), dtype=np.int32)
    entry[padding] = -1
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int32)]).astype(np.int32)
    positions = np.arange(len(rows) * row_length) - np.repeat(offsets[:-1], lengths)
    return offsets, np.repeat(entry, lengths), positions


@dataclass(frozen=True, slots=True)
class Targets:
    """Prediction targets: `label[m]` is to be predicted at token `index[m]` of a stream's packed axis."""

    index: Tensor
    """(M,) int64 gather index into the packed axis; 0 for padding targets. (M, V) where a target has up to V tokens, as
    the choices of a question, each at the summary token of a sequence of its own; -1 where it has fewer."""
    label: Tensor
    """(M, ...) int64 classes, or float32 regression targets; `IGNORE` or NaN for padding targets."""
    weight: Tensor | None = None
    """(M,) float32 weight of each target in the loss; None: 1, and 0 where the label is `IGNORE` or NaN."""
    stream: str = "tokens"
    """Name of the stream that `index` refers to."""
    most: int | None = None
    """An upper bound of the targets per row of the batch, known on the CPU where the batch was packed."""
    original: Targets | None = None
    """Where this is a copy on another device: what it was copied from, from which labels are read without a wait. Who
    replaces `label` drops it."""

    def on_cpu(self) -> Targets:
        """Return what this was copied from, where that is known; else this, from which to read synchronizes."""
        return self if self.original is None else self.original

    def counted(self) -> Tensor:
        """Return (M,) bool: true for real targets, false for padding targets."""
        if self.weight is not None:
            return self.weight > 0
        known = ~self.label.isnan() if self.label.is_floating_point() else self.label != IGNORE
        return known if known.dim() == 1 else known.flatten(1).any(1)

    def count(self) -> Tensor:
        """Return the number of real targets, or the sum of their weights: the denominator of the loss."""
        return self.counted().sum() if self.weight is None else self.weight.sum()

    def total(self, values: Tensor) -> Tensor:
        """Return the weighted sum of values (M,) over the real targets."""
        values = torch.where(self.counted(), values, 0.0)
        return values.sum() if self.weight is None else (values * self.weight).sum()

    def to(self, device: torch.device) -> Targets:
        """Return a copy on another device, without waiting for the transfer."""
        return replace(
            self,
            index=self.index.to(device, non_blocking=True),
            label=self.label.to(device, non_blocking=True),
            weight=None if self.weight is None else self.weight.to(device, non_blocking=True),
            original=None if device.type == "cpu" else self.on_cpu(),
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch: named streams of packed sequences, and named targets within them."""

    streams: dict[str, Packed]
    """`tokens`, on which losses are, and what it is conditioned on; entry j of all is the same example."""
    targets: dict[str, Targets]
    """By the name of their loss, such as `masked` or `next_sentence`; an absent name: the batch has no such targets."""
    heads: frozenset[str] | None = None
    """Names of the objectives that are trained on the batch; None: all."""
    memory: Memory = field(default_factory=dict)
    """The network's memory after the batch before; empty without segment-level recurrence."""
    cotangents: Mapping[str, Tensor] = field(default_factory=dict)
    """Gradients of joint losses of the whole step with respect to heads' outputs for this batch, by loss: the head then
    returns the product of both, whose gradient is that of the loss, in place of the loss."""
    spent: float = 1.0
    """The share of the budget that is spent before the update, by which a loss may have a schedule; 1 where nothing is
    trained."""

    @property
    def tokens(self) -> Packed:
        """The stream `tokens`, the only one of an encoder or a decoder."""
        return self.streams["tokens"]

    def lengths(self) -> dict[str, list[int]]:
        """Return the length of each example by stream; examples that have no tokens at all are left out."""
        lengths = {name: packed.lengths_of_entries() for name, packed in self.streams.items()}
        there = torch.stack(list(lengths.values())).any(0)
        return {name: length[there].tolist() for name, length in lengths.items()}

    def pin_memory(self) -> Batch:
        """Return a copy in page-locked (pinned) memory, whose transfer to a GPU does not block the CPU."""
        return _pinned(self)  # type: ignore[no-any-return]

    def to(self, device: torch.device) -> Batch:
        """Return a copy on another device, without waiting for the transfer."""
        return Batch(
            {name: packed.to(device) for name, packed in self.streams.items()},
            {name: targets.to(device) for name, targets in self.targets.items()},
            self.heads,
            {name: tensor.to(device, non_blocking=True) for name, tensor in self.memory.items()},
            spent=self.spent,
        )


def _pinned(value: Any) -> Any:
    """Return a copy whose tensors, at any depth of dataclasses and mappings, are in page-locked memory."""
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: _pinned(getattr(value, one.name)) for one in fields(value)})
    if isinstance(value, Mapping):
        return {name: _pinned(one) for name, one in value.items()}
    return value.pin_memory() if hasattr(value, "pin_memory") else value
