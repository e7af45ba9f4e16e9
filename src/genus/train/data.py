"""From micro-batch numbers to batches, in order, prepared by worker processes ahead of their use."""

from __future__ import annotations

import itertools
import signal
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, cast

from torch.utils.data import DataLoader, Dataset

from genus.errors import GenusError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from genus.batch import Batch
    from genus.train.world import World

WORKERS = {"cuda": 4, "cpu": 1}
"""How many processes keep a device fed, where the user says nothing."""


class BatchFeed(Protocol):
    """The training data of one stage as a pure function of the micro-batch number."""

    def __getitem__(self, number: int, /) -> Batch:
        """Return micro-batch `number`, the same whenever and wherever it is asked for."""

    def epoch(self, number: int, /) -> float:
        """Return how many passes over the data are made when `number` micro-batches have been taken."""


@dataclass(frozen=True)
class TrainStage:
    """A stage of training with its feed."""

    feed: BatchFeed
    accumulate: int = 1
    """Micro-batches in one step, over all processes."""
    share: float = 1.0
    """Fraction of the budget; the shares of a run sum to 1."""
    flops: Callable[[Mapping[str, Sequence[int]]], float] | None = None
    """FLOPs of a micro-batch, forward and backward, by the lengths of its examples; None where nobody counts."""
    text: str = ""
    """Tells the text apart from others, so that no run goes on with another; empty where nobody asks."""
    batch_ratio: float = 1.0
    """Its batch over that of the first."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """A micro-batch of a feed, and how much of the data it is."""

    batch: Batch
    epochs: float
    """Passes over the data that are made with it: a fraction of one."""

    def pin_memory(self) -> MicroBatch:
        """Return the same in page-locked memory."""
        return replace(self, batch=self.batch.pin_memory())


def steps(stage: TrainStage, first: int, world: World, workers: int | None) -> Generator[dict[int, MicroBatch]]:
    """Yield, from step `first` of a stage on, what this process takes in each step: micro-batches by number.

    Step s is micro-batches [s accumulate, (s + 1) accumulate); process r of R takes every R-th, from the r-th on. So
    in every step it takes the same places, whose rows go on from each other where the text is in streams.

    Raises:
        UsageError: more processes than micro-batches in a step.
    """
    rank, size = world.rank, world.size
    if stage.accumulate < size:
        raise UsageError(f"{size} processes cannot share {stage.accumulate} micro-batches: lower stages.micro_batch")
    if workers is None:
        workers = WORKERS[world.device.type]
    taken = range(rank, stage.accumulate, size)
    numbers = (step * stage.accumulate + place for step in itertools.count(first) for place in taken)
    batches = _stream(stage.feed, numbers, workers, pin=world.device.type == "cuda")
    for step in itertools.count(first):
        yield {step * stage.accumulate + place: next(batches) for place in taken}


def _stream(feed: BatchFeed, numbers: Iterator[int], workers: int, *, pin: bool) -> Iterator[MicroBatch]:
    """Return the numbered micro-batches in order; with workers they are prepared ahead, and are the same."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # the user chose the number
        loader = DataLoader(
            cast("Dataset[MicroBatch | GenusError]", CatchErrors(feed)),
            batch_size=None,
            sampler=numbers,  # it is iterated over once
            num_workers=workers,
            pin_memory=pin,
            collate_fn=_as_it_is,  # type: ignore[arg-type]  # with no batch size it gets single items
            worker_init_fn=_leave_signals_to_the_parent,
        )
        batches = iter(loader)
    for batch in batches:
        if isinstance(batch, GenusError):
            raise batch
        yield batch


@dataclass(frozen=True)
class CatchErrors:
    """A feed whose errors come as values: a worker would wrap an exception in a traceback of many lines."""

    feed: BatchFeed

    def __getitem__(self, number: int) -> MicroBatch | GenusError:
        """Return micro-batch `number`, or why there is none; where the epochs end is known where batches are made."""
        try:
            return MicroBatch(self.feed[number], self.feed.epoch(number + 1) - self.feed.epoch(number))
        except GenusError as error:
            return error


def _as_it_is(batch: MicroBatch | GenusError) -> MicroBatch | GenusError:
    return batch


def _leave_signals_to_the_parent(_: int) -> None:
    """A terminal sends Ctrl-C to every process of the group; a worker that died of it would end the step in hand."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
