"""Data loading: micro-batches in the order of their numbers, prepared ahead by worker processes."""

from __future__ import annotations

import itertools
import signal
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from torch.utils.data import DataLoader, Dataset

from genus.errors import GenusError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from torch import Tensor

    from genus.batch import Batch
    from genus.objectives import Learner
    from genus.train.world import World

WORKERS = {"cuda": 4, "cpu": 1}
"""Default number of worker processes by device type."""


class BatchFeed(Protocol):
    """The training data of one stage: micro-batches as a pure function of their number."""

    def __getitem__(self, number: int, /) -> Batch:
        """Return micro-batch `number`, the same in every call and every process."""

    def epoch(self, number: int, /) -> float:
        """Return the number of epochs, in fractions, that the first `number` micro-batches cover."""


@runtime_checkable
class DependentFeed(BatchFeed, Protocol):
    """Training data that depend on the weights, as texts that the model writes: no pure function of their number.

    The loop has them prepared before each update, on all processes, and reads them in its own process. What was made is
    stored in checkpoints, from which alone such a run can be resumed.
    """

    def prepare(self, step: int, learner: Learner, /) -> dict[str, float]:
        """Make the micro-batches of update `step` of the stage, unless they are made; return metrics of new ones."""

    def tensors(self) -> dict[str, Tensor]:
        """Return what was made, by name."""

    def restore(self, tensors: dict[str, Tensor], /) -> None:
        """Take what `tensors` returned."""


@dataclass(frozen=True)
class TrainStage:
    """A training stage with its feed, gradient accumulation and share of the budget."""

    feed: BatchFeed
    accumulate: int = 1
    """Gradient accumulation: micro-batches per step, over all processes."""
    share: float = 1.0
    """Fraction of the budget; the shares of a run sum to 1."""
    flops: Callable[[Mapping[str, Sequence[int]]], float] | None = None
    """FLOPs of a micro-batch, forward and backward, by the lengths of its examples; None where nobody counts."""
    text: str = ""
    """Fingerprint of the text, so that a run is not resumed on another; empty where this is not checked."""
    seen: Callable[[int], dict[str, float]] | None = None
    """How often each source of text was read before a micro-batch, by name; None where text is no mixture."""
    batch_ratio: float = 1.0
    """Batch size divided by that of the first stage."""
    updated: tuple[str, ...] | None = None
    """Patterns of the names of the parameters that are updated; None: all."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """A micro-batch of a feed, and the fraction of an epoch that it covers."""

    batch: Batch
    epochs: float
    """Fraction of a pass over the data."""

    def pin_memory(self) -> MicroBatch:
        """Return a copy in page-locked (pinned) memory."""
        return replace(self, batch=self.batch.pin_memory())


def steps(stage: TrainStage, first: int, world: World, workers: int | None) -> Generator[dict[int, MicroBatch]]:
    """Yield this process's micro-batches by number for each step of a stage, from step `first` on.

    Step s has micro-batches [s accumulate, (s + 1) accumulate); process r of R takes every R-th, from the r-th on. A
    process has the same places in every step, so that its rows continue each other where the text is in streams.

    Raises:
        UsageError: there are more processes than micro-batches in a step, or their numbers are not equal and must be.
    """
    rank, size = world.data_rank, world.data_size
    if stage.accumulate < size:
        raise UsageError(f"{size} processes cannot share {stage.accumulate} micro-batches: lower stages.micro_batch")
    if world.in_step and stage.accumulate % size:
        raise UsageError(f"{size} processes cannot share {stage.accumulate} micro-batches equally, and those that hold "
                         "pieces of the weights must: change stages.micro_batch")  # fmt: skip
    if workers is None:
        workers = WORKERS[world.device.type]
    if isinstance(stage.feed, DependentFeed):
        workers = 0  # another process would not have what is made here, and would ask ahead of it
    taken = range(rank, stage.accumulate, size)
    numbers = (step * stage.accumulate + place for step in itertools.count(first) for place in taken)
    batches = _stream(stage.feed, numbers, workers, pin=world.device.type == "cuda")
    for step in itertools.count(first):
        yield {step * stage.accumulate + place: next(batches) for place in taken}


def _stream(feed: BatchFeed, numbers: Iterator[int], workers: int, *, pin: bool) -> Iterator[MicroBatch]:
    """Yield the numbered micro-batches in order; workers prepare them ahead and do not change them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # the user chose the number
        loader = DataLoader(
            cast("Dataset[MicroBatch | GenusError]", CatchErrors(feed)),
            batch_size=None,
            sampler=numbers,  # an iterator suffices, since it is consumed once
            num_workers=workers,
            pin_memory=pin,
            collate_fn=_as_it_is,  # type: ignore[arg-type]  # without a batch size it receives single items
            worker_init_fn=_leave_signals_to_the_parent,
        )
        batches = iter(loader)
    for batch in batches:
        if isinstance(batch, GenusError):
            raise batch
        yield batch


@dataclass(frozen=True)
class CatchErrors:
    """A feed that returns errors as values, since a worker would wrap an exception in a traceback of many lines."""

    feed: BatchFeed

    def __getitem__(self, number: int) -> MicroBatch | GenusError:
        """Return micro-batch `number` with its fraction of an epoch, computed in the worker, or the error."""
        try:
            return MicroBatch(self.feed[number], self.feed.epoch(number + 1) - self.feed.epoch(number))
        except GenusError as error:
            return error


def _as_it_is(batch: MicroBatch | GenusError) -> MicroBatch | GenusError:
    return batch


def _leave_signals_to_the_parent(_: int) -> None:
    """Ignore SIGINT and SIGTERM in a worker, whose end would abort the step: Ctrl-C reaches the whole process group."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
