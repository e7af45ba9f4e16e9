"""The engine of inference: works are sorted by length and packed into forward passes.

Legend: M targets, K tokens of a target at most.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from torch.nn import functional as F

from genus.adapt.mixture import Unmixable
from genus.examples.feed.bins import bin_pack
from genus.examples.feed.pack import pack
from genus.model.attention.plan import in_inference
from genus.objectives import answering, device_of
from genus.train.precision import autocast

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.adapt.mixture import Mixture
    from genus.batch import Batch, Targets
    from genus.examples import Example
    from genus.inference import Work
    from genus.model import States
    from genus.objectives import Head

T = TypeVar("T")
TOKENS_AT_ONCE = 8192
"""Token positions of a forward pass: enough to keep a processor busy, few enough for its memory."""
ROW = 128
"""Tokens up to which rows are alike: on CPUs attention takes time by the square of a row, so that a long text does not
lie in one pass with short ones; below, it hardly counts."""


class Inference:
    """Answers works in the calling thread; a learner in evaluation mode may be asked by several at once."""

    def __init__(self, precision: str = "float32", mixtures: Sequence[Mixture] = ()) -> None:
        """Take the dtype of forward passes, as in `Run.precision`, and learners that may share them."""
        self.precision, self.mixtures = precision, [*mixtures]

    def run(self, works: Sequence[Work], most: int = TOKENS_AT_ONCE) -> list[Any]:
        """Return the answer to each work.

        Args:
            works: of any learners and heads.
            most: token positions of a forward pass, where a work does not need more.
        """
        found: list[Any] = [None] * len(works)
        for chosen in plan(works, most, self.shared):
            for place, answer in zip(chosen, self.forward([works[i] for i in chosen]), strict=True):
                found[place] = answer
        return found

    def alone(self, compute: Callable[[], T]) -> T:
        """Return what a function computes that makes a forward pass of its own."""
        return compute()

    def shared(self, work: Work) -> Hashable:
        """Return what is equal for works that may share a forward pass: a head, or the mixture of its learner."""
        mixture = self._mixture(work)
        return head_of(work) if mixture is None else id(mixture)

    def _mixture(self, work: Work) -> Mixture | None:
        if work.changes_batch:
            return None
        return next((mixture for mixture in self.mixtures if work.learner in mixture), None)

    def forward(self, works: Sequence[Work]) -> list[Any]:
        """Return the answers to works that may share a forward pass, by one."""
        heads: dict[Hashable, list[int]] = defaultdict(list)
        for number, work in enumerate(works):
            heads[head_of(work)].append(number)
        groups = [*heads.values()]
        device = device_of(works[0].learner)
        batch, targets = packed(works)
        batch = batch.to(device)
        found: list[Any] = [None] * len(works)
        with ExitStack() as stack:
            for numbers in groups:
                stack.enter_context(answering(works[numbers[0]].learner))
            stack.enter_context(autocast(self.precision, device))
            stack.enter_context(in_inference())
            states = None if len(groups) == 1 else self._states(batch, works, groups, targets)
            if len(groups) > 1 and states is None:
                return self._apart(works, groups)
            for numbers in groups:
                own, asked = [works[i] for i in numbers], [targets[i] for i in numbers]
                for number, answer in zip(numbers, answers(own, asked, batch, states), strict=True):
                    found[number] = answer
        return found

    def _states(
        self, batch: Batch, works: Sequence[Work], groups: Sequence[Sequence[int]], targets: Sequence[Targets]
    ) -> States | None:
        """Return the hidden states of works of several heads; None: each needs a pass of its own, from now on too."""
        mixture = self._mixture(works[0])
        if mixture is None:
            return None
        learners = [works[numbers[0]].learner for numbers in groups]
        layers = any(cast("Head", works[i].learner.heads[works[i].head]).reads_layers for i, *_ in groups)
        try:
            return mixture.states(batch, learners, owners(batch, groups, targets), layers=layers)
        except Unmixable:
            self.mixtures.remove(mixture)
            return None

    def _apart(self, works: Sequence[Work], groups: Sequence[Sequence[int]]) -> list[Any]:
        """Return the answers to works by a forward pass for each head."""
        found: list[Any] = [None] * len(works)
        for numbers in groups:
            for number, answer in zip(numbers, self.forward([works[i] for i in numbers]), strict=True):
                found[number] = answer
        return found


def head_of(work: Work) -> Hashable:
    """Return what tells the head of a work from others."""
    return id(work.learner), work.head


def answers(works: Sequence[Work], targets: Sequence[Targets], batch: Batch, states: States | None) -> list[Any]:
    """Return the answers to the works of one head in a batch, on its device.

    Args:
        works: of the head.
        targets: of each work, on the CPU.
        batch: without targets.
        states: the hidden states of the batch; None: they are computed.
    """
    first, device = works[0], batch.tokens.ids.device
    together, order = gathered(targets)
    batch = replace(batch, targets={first.target: together.to(device)}, heads=frozenset({first.head}))
    batch = first.prepared(batch)
    known: dict[str, Any] = {} if states is None else {"states": states}
    outputs = first.learner.outputs(batch, **known)[first.head]
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


def plan(
    works: Sequence[Work], most: int = TOKENS_AT_ONCE, shared: Callable[[Work], Hashable] = head_of
) -> Iterator[list[int]]:
    """Yield the works of each forward pass by number: those that may share one, of like length, longest first."""
    heads: dict[Hashable, list[int]] = defaultdict(list)
    longest = [max(max(lengths) for lengths in work.lengths.values()) for work in works]
    for number, work in enumerate(works):
        heads[shared(work)].append(number)
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


def packed(works: Sequence[Work]) -> tuple[Batch, list[Targets]]:
    """Return the batch of works without its targets, and the targets of each."""
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
    return replace(batch, targets={}), targets


def gathered(targets: Sequence[Targets]) -> tuple[Targets, Tensor]:
    """Return the targets of works of one head as one, and where those of the first, the second, ... are in it.

    Targets of one token are sorted by their place in the batch, which some heads need.
    """
    index = joined([one.index for one in targets])
    order = torch.arange(len(index)) if index.dim() > 1 else index.argsort(stable=True)
    together = replace(targets[0], index=index[order], label=torch.zeros(len(index), dtype=torch.long), most=None)
    return together, order.argsort()


def owners(batch: Batch, groups: Sequence[Sequence[int]], targets: Sequence[Targets]) -> Tensor:
    """Return (T,) for each token the group of works that its sequence is of; of padding any."""
    sequence_T = batch.tokens.on_cpu().sequence.long()
    owner_J = torch.zeros(len(batch.tokens.offsets), dtype=torch.long)
    for group, numbers in enumerate(groups):
        for number in numbers:
            index = targets[number].index.flatten()
            owner_J[sequence_T[index[index >= 0]]] = group
    return owner_J[sequence_T.clamp(min=0)].to(batch.tokens.ids.device)


def _in_order(targets: Targets, label: NDArray[Any]) -> Targets:
    """Return targets in the order of the examples, which their labels say, with their own labels."""
    return replace(targets, index=targets.index[targets.label.argsort()], label=torch.from_numpy(label))


def joined(indices: Sequence[Tensor]) -> Tensor:
    """Return indices (M,), or (M, K) filled up with -1, one after another."""
    most = max(index.shape[1:] for index in indices)
    return torch.cat([F.pad(index, (0, *(m - k for m, k in zip(most, index.shape[1:], strict=True))), value=-1)
                      if index.shape[1:] != most else index for index in indices])  # fmt: skip
