"""The one batch: sequences packed end to end in rows, and the positions that have a target.

Legend of shape suffixes: T tokens on the packed axis, N sequences, M targets, L row length.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
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
    """Sequences laid end to end on one token axis, in rows of `max_length` cells.

    No sequence crosses a row boundary, so `ids.view(-1, max_length)` is a batch of rows in which each row holds whole
    sequences: fixed-shape kernels read rows, variable-length kernels read `offsets`. What no sequence fills is filled
    by dead sequences of padding, at the end of each row; nothing outside attention needs to know of them.
    """

    ids: Tensor
    """(T,) int64; T is a multiple of `max_length`."""
    positions: Tensor
    """(T,) int64, counted from 0 in every sequence, dead ones too."""
    segments: Tensor
    """(T,) int64, the segment (0 or 1 in a pair) of each token."""
    offsets: Tensor
    """(N+1,) int32 cumulative lengths, dead sequences included; repeated T at the end fills up to a fixed N."""
    max_length: int
    """L, the row length, which no sequence exceeds."""
    live: int
    """How many of the T cells hold real tokens: what a rate in tokens per second counts."""
    task: int = 0
    """Which of the model's task vectors, where it has any, is added to these tokens."""
    flow: Flow | None = None
    """How rows go on from the batch before; None: none does."""
    order: Tensor | None = None
    """(T,) int64: a token sees those of its sequence that come no later in this order; None: there is none."""
    query: Tensor | None = None
    """(R, P) int64 cells, by rows, that get a second state, which knows where it stands but not what stands there."""

    def to(self, device: torch.device) -> Packed:
        """Return the same sequences on another device."""
        return replace(
            self,
            ids=self.ids.to(device, non_blocking=True),
            positions=self.positions.to(device, non_blocking=True),
            segments=self.segments.to(device, non_blocking=True),
            offsets=self.offsets.to(device, non_blocking=True),
            flow=None if self.flow is None else self.flow.to(device),
            order=None if self.order is None else self.order.to(device, non_blocking=True),
            query=None if self.query is None else self.query.to(device, non_blocking=True),
        )


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
    """An encoder or decoder reads one stream, `tokens`."""
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

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on another device."""
        return Batch(
            {name: packed.to(device) for name, packed in self.streams.items()},
            {name: targets.to(device) for name, targets in self.targets.items()},
            self.heads,
            {name: tensor.to(device, non_blocking=True) for name, tensor in self.memory.items()},
        )
