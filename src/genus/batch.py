"""The one batch: sequences packed end to end in rows, and the positions that have a target.

Legend of shape suffixes: T tokens on the packed axis, R rows, L row length, N entries (sequences, and the padding of
each row), M targets.
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
    """What a network remembers of the rows before: tensors by name, without gradient."""

IGNORE = -100
"""Label of a target row that only fills the batch up to its static shape (NaN where labels are numbers)."""


@dataclass(frozen=True, slots=True)
class Flow:
    """How each of R rows goes on from the row before it in its stream, which stood at its place in the batch before."""

    continues: Tensor
    """(R,) bool: the row's first sequence goes on where the stream had come to."""
    through: Tensor
    """(R,) int64: how many of the row's cells the stream comes through; those after them look ahead only."""
    backward: Tensor | None = None
    """(R,) bool: the row's text runs from its end to its begin; None where no row's does."""

    def to(self, device: torch.device) -> Flow:
        """Return the same on another device."""
        return Flow(
            self.continues.to(device, non_blocking=True),
            self.through.to(device, non_blocking=True),
            None if self.backward is None else self.backward.to(device, non_blocking=True),
        )


@dataclass(frozen=True, slots=True)
class Packed:
    """Packed sequences: laid end to end on one token axis, in rows of `row_length` tokens that no sequence crosses.

    `ids.view(-1, row_length)` is a batch of rows in which each row holds whole sequences: fixed-shape kernels read
    rows, variable-length kernels read `offsets`. Each row ends with one entry of padding, which may be empty, so that
    entry j of every stream of a batch is the same example. Nothing outside attention needs to know of padding.
    """

    ids: Tensor
    """(T,) int64 token ids; T is a multiple of `row_length`."""
    positions: Tensor
    """(T,) int64 positions within the sequence; they need not begin at 0 (decoding steps)."""
    sequence: Tensor
    """(T,) int32, which entry of `offsets` each token belongs to; -1 for padding."""
    offsets: Tensor
    """(N+1,) int32 cumulative lengths of all entries, padding included; repeated T at the end fills up to a fixed N."""
    row_length: int
    """L, tokens of a row, padding included."""
    tokens: int
    """How many of the T are real tokens: what a rate in tokens per second counts."""
    facts: Mapping[str, Tensor] = field(default_factory=dict)
    """(T,) int64 by name, what else is known of each token: `segment` (0 or 1 in a pair), `order` (a token sees those
    of its sequence that come no later in it), `task` (which task vector is added), `prefix` (seen by its sequence)."""
    flow: Flow | None = None
    """How rows go on from the batch before; None: none does."""
    query: Tensor | None = None
    """(R, P) int64 tokens, by rows, that get a second state, which knows where it stands but not what stands there."""
    one_per_row: bool = False
    """Whether each row holds one sequence at most, in every batch of its feed: kernels may depend on it."""

    @classmethod
    def laid(
        cls, ids: Tensor, rows: Sequence[Sequence[int]], row_length: int, facts: Mapping[str, Tensor] | None = None
    ) -> Packed:
        """Return the packed sequences whose ids (T,), padding included, lie in rows of sequences of these lengths.

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
        """Return (T,) int64 the entry of `offsets` that each token lies in, padding too."""
        order = torch.arange(self.ids.numel(), device=self.offsets.device, dtype=self.offsets.dtype)
        return torch.searchsorted(self.offsets[1:], order, right=True)

    def spans(self) -> list[tuple[int, int]]:
        """Return (start, end) of each sequence that has tokens, padding left out; it waits for the device."""
        owner = self.sequence.tolist()
        spans = enumerate(pairwise(self.offsets.tolist()))
        return [(start, end) for entry, (start, end) in spans if start < end and owner[start] == entry]

    def lengths_of_entries(self) -> Tensor:
        """Return (N,) int32 the length of the sequence of each entry, 0 for padding."""
        length = self.offsets.diff()
        start = self.offsets[:-1].long().clamp(max=self.ids.numel() - 1)
        return length.masked_fill(self.sequence[start] < 0, 0)

    def lengths(self) -> list[int]:
        """Return the length of each sequence that has tokens, padding left out; it waits for the device."""
        length = self.lengths_of_entries()
        return length[length > 0].tolist()

    def to(self, device: torch.device) -> Packed:
        """Return the same sequences on another device."""
        return replace(
            self,
            ids=self.ids.to(device, non_blocking=True),
            positions=self.positions.to(device, non_blocking=True),
            sequence=self.sequence.to(device, non_blocking=True),
            offsets=self.offsets.to(device, non_blocking=True),
            facts={name: fact.to(device, non_blocking=True) for name, fact in self.facts.items()},
            flow=None if self.flow is None else self.flow.to(device),
            query=None if self.query is None else self.query.to(device, non_blocking=True),
        )


def layout(
    rows: Sequence[Sequence[int]], row_length: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Return offsets (N+1,), and sequence and positions (T,), of rows of sequences of given lengths.

    Each row ends with one entry of padding, which is what the row has left, so N is the number of sequences and rows.

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
    """What is to be predicted where: `label[m]` at token `index[m]` of a stream's packed axis."""

    index: Tensor
    """(M,) int64 into the packed axis; 0 in rows that only fill up."""
    label: Tensor
    """(M, ...) int64 classes, or float32 numbers; `IGNORE` or NaN in rows that only fill up."""
    weight: Tensor | None = None
    """(M,) float32, what each target counts, 0 for none; None: 1, but for rows whose label is `IGNORE` or NaN."""
    stream: str = "tokens"
    """The stream that `index` counts in."""
    most: int | None = None
    """A number of targets that no row of the batch exceeds, known on the CPU where the batch was packed."""

    def counted(self) -> Tensor:
        """(M,) bool: which rows are real targets."""
        if self.weight is not None:
            return self.weight > 0
        known = ~self.label.isnan() if self.label.is_floating_point() else self.label != IGNORE
        return known if known.dim() == 1 else known.flatten(1).any(1)

    def count(self) -> Tensor:
        """Return the number of real targets, or the sum of their weights: what losses are divided by."""
        return self.counted().sum() if self.weight is None else self.weight.sum()

    def total(self, values: Tensor) -> Tensor:
        """Return the weighted sum of values (M,) over the real targets."""
        values = torch.where(self.counted(), values, 0.0)
        return values.sum() if self.weight is None else (values * self.weight).sum()

    def to(self, device: torch.device) -> Targets:
        """Return the same targets on another device."""
        return replace(
            self,
            index=self.index.to(device, non_blocking=True),
            label=self.label.to(device, non_blocking=True),
            weight=None if self.weight is None else self.weight.to(device, non_blocking=True),
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Named streams of packed sequences, and named targets within them."""

    streams: dict[str, Packed]
    """`tokens`, on which losses are, and what it is conditioned on; entry j of all is the same example."""
    targets: dict[str, Targets]
    """By the name of the loss they serve, such as `masked` or `next_sentence`; absent means no such task here."""
    heads: frozenset[str] | None = None
    """Names of the objectives that learn from it; None: all."""
    memory: Memory = field(default_factory=dict)
    """What the network remembered after the batch before; empty where it is not to remember."""

    @property
    def tokens(self) -> Packed:
        """The stream of a one-stream model."""
        return self.streams["tokens"]

    def lengths(self) -> dict[str, list[int]]:
        """Return the length of each example by stream; examples that have no tokens at all are left out."""
        lengths = {name: packed.lengths_of_entries() for name, packed in self.streams.items()}
        there = torch.stack(list(lengths.values())).any(0)
        return {name: length[there].tolist() for name, length in lengths.items()}

    def pin_memory(self) -> Batch:
        """Return the same batch in page-locked memory, from which it is copied to a GPU while the CPU goes on."""
        return _pinned(self)  # type: ignore[no-any-return]

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on another device."""
        return Batch(
            {name: packed.to(device) for name, packed in self.streams.items()},
            {name: targets.to(device) for name, targets in self.targets.items()},
            self.heads,
            {name: tensor.to(device, non_blocking=True) for name, tensor in self.memory.items()},
        )


def _pinned(value: Any) -> Any:
    """Return a value, all of whose tensors, at any depth of dataclasses and mappings, are in page-locked memory."""
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: _pinned(getattr(value, one.name)) for one in fields(value)})
    if isinstance(value, Mapping):
        return {name: _pinned(one) for name, one in value.items()}
    return value.pin_memory() if hasattr(value, "pin_memory") else value
