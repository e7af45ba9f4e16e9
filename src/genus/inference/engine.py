"""The engine of inference: works are sorted by length and packed into forward passes.

Legend: M targets, K tokens of a target at most.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch.nn import functional as F

from genus.examples.feed.bins import bin_pack
from genus.examples.feed.pack import pack
from genus.model.attention.plan import in_inference
from genus.objectives import answering, device_of
from genus.train.precision import autocast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Batch, Targets
    from genus.examples import Example
    from genus.inference import Work

T = TypeVar("T")
TOKENS_AT_ONCE = 8192
"""Token positions of a forward pass: enough to keep a processor busy, few enough for its memory."""
ROW = 128
"""Tokens up to which rows are alike: on CPUs attention takes time by the square of a row, so that a long text does not
lie in one pass with short ones; below, it hardly counts."""


class Inference:
    """Answers works in the calling thread; a learner in evaluation mode may be asked by several at once."""

    def __init__(self, precision: str = "float32") -> None:
        """Take the dtype of forward passes, as in `Run.precision`."""
        self.precision = precision

    def run(self, works: Sequence[Work], most: int = TOKENS_AT_ONCE) -> list[Any]:
        """Return the answer to each work.

        Args:
            works: of any learners and heads.
            most: token positions of a forward pass, where a work does not need more.
        """
        found: list[Any] = [None] * len(works)
        for chosen in plan(works, most):
            for place, answer in zip(chosen, self.forward([works[i] for i in chosen]), strict=True):
                found[place] = answer
        return found

    def alone(self, compute: Callable[[], T]) -> T:
        """Return what a function computes that makes a forward pass of its own."""
        return compute()

    def forward(self, works: Sequence[Work]) -> list[Any]:
        """Return the answers to works of one head, by one forward pass."""
        first = works[0]
        device = device_of(first.learner)
        batch, targets, order = packed(works)
        batch = batch.to(device)
        with answering(first.learner), autocast(self.precision, device), in_inference():
            batch = first.prepared(batch)
            outputs = first.learner.outputs(batch)[first.head]
        real = batch.targets[first.target].counted()
        ordered = {name: value[real][order.to(device)] for name, value in outputs.items()}
        return [work.answer(part, own) for work, part, own in zip(works, parts(ordered, targets), targets, strict=True)]


def parts(outputs: dict[str, Tensor], targets: Sequence[Targets]) -> Iterator[dict[str, Tensor]]:
    """Yield the outputs of each work, of as many tokens of a target as it has."""
    ends = np.cumsum([0, *(len(one.index) for one in targets)]).tolist()
    most = max(one.index.shape[1:] for one in targets)
    for own, (start, end) in zip(targets, pairwise(ends), strict=True):
        part = {name: value[start:end] for name, value in outputs.items()}
        yield part if own.index.shape[1:] == most else {n: value[:, : own.index.shape[1]] for n, value in part.items()}


def plan(works: Sequence[Work], most: int = TOKENS_AT_ONCE) -> Iterator[list[int]]:
    """Yield the works of each forward pass by number: those of one head and of like length, longest first."""
    heads: dict[tuple[int, str], list[int]] = defaultdict(list)
    longest = [max(max(lengths) for lengths in work.lengths.values()) for work in works]
    for number, work in enumerate(works):
        heads[id(work.learner), work.head].append(number)
    for numbers in heads.values():
        chosen: list[int] = []
        tokens = 0
        for number in sorted(numbers, key=lambda one: -longest[one]):
            own = max(map(sum, works[number].lengths.values()))
            alike = not chosen or row_of(longest[number]) == row_of(longest[chosen[0]])
            if chosen and (tokens + own > most or not alike):
                yield chosen
                chosen, tokens = [], 0
            chosen.append(number)
            tokens += own
        yield chosen


def row_of(length: int) -> int:
    """Return the row length among 128, 256, 512, ... of which works of this length are."""
    return ROW if length <= ROW else 1 << (length - 1).bit_length()


def packed(works: Sequence[Work]) -> tuple[Batch, list[Targets], Tensor]:
    """Return the batch of works of one head, the targets of each, and where those of the first, the second, ... are.

    Targets of one token are sorted by their place in the batch, which some heads need.
    """
    examples: list[Example] = []
    labels: list[NDArray[Any]] = []
    for number, work in enumerate(works):
        own = [*work.examples()]
        labels.append(np.concatenate([example.targets[work.target][1] for example in own]))
        first = 0
        for example in own:
            at, _ = example.targets[work.target]
            places = np.arange(first, first := first + len(at))
            examples.append(replace(example, targets={str(number): (at, places)}))
    streams = {name: np.array([len(example.streams[name].ids) for example in examples]) for name in works[0].lengths}
    limits = {name: int(lengths.max()) for name, lengths in streams.items()}
    rows = [[examples[i] for i in row.tolist()] for row in bin_pack(streams, limits)]
    batch = pack(rows, limits, works[0].pad, streams=False)
    targets = [
        work.gathered(_in_order(batch.targets[str(number)], label))
        for number, (work, label) in enumerate(zip(works, labels, strict=True))
    ]
    index = joined([one.index for one in targets])
    order = torch.arange(len(index)) if index.dim() > 1 else index.argsort(stable=True)
    together = replace(targets[0], index=index[order], label=torch.zeros(len(index), dtype=torch.long), most=None)
    batch = replace(batch, targets={works[0].target: together}, heads=frozenset({works[0].head}))
    return batch, targets, order.argsort()


def _in_order(targets: Targets, label: NDArray[Any]) -> Targets:
    """Return targets in the order of the examples, which their labels say, with their own labels."""
    return replace(targets, index=targets.index[targets.label.argsort()], label=torch.from_numpy(label))


def joined(indices: Sequence[Tensor]) -> Tensor:
    """Return indices (M,), or (M, K) filled up with -1, one after another."""
    most = max(index.shape[1:] for index in indices)
    return torch.cat([F.pad(index, (0, *(m - k for m, k in zip(most, index.shape[1:], strict=True))), value=-1)
                      if index.shape[1:] != most else index for index in indices])  # fmt: skip
