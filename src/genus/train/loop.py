"""The training loop, shared by pretraining and fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import torch

from genus.errors import GenusError, UsageError, say
from genus.objectives import Learner
from genus.optim.averaging import averaged_weights
from genus.train.checkpoint import Checkpoints, memory
from genus.train.data import DependentFeed, TrainStage, steps
from genus.train.interruption import Interruption
from genus.train.parallel.local import publish_together
from genus.train.progress import Progress, Stopwatch, ends, seen
from genus.train.record import Record
from genus.train.step import PendingResult, TrainStep
from genus.train.world import World, init_distributed, notes, telling_lost_processes
from genus.train.writer import BackgroundWriter

if TYPE_CHECKING:
    from pathlib import Path

    from genus.optim import Optimizer, Schedule
    from genus.part import Part
    from genus.recipe import Budget
    from genus.train.notes import Notes
    from genus.train.run import Run

MADE, SCALE = "feed.", "scale."
"""Prefixes of what a feed made, and of the state of gradient scaling, in the memory of a checkpoint."""
Evaluate = Callable[[Learner], dict[str, float]]
Publish = Callable[[Learner], None]


@dataclass(frozen=True)
class Summary:
    """The outcome of a training run."""

    progress: Progress
    """Steps, tokens, FLOPs, seconds, the last loss and the last evaluation."""
    stopped: bool
    """Whether the run was interrupted before the budget was spent; its state is saved."""


def train(
    learner: Learner,
    stages: Sequence[TrainStage],
    optimizer: Optimizer,
    schedule: Schedule,
    budget: Budget,
    run: Run,
    folder: Path | None,
    *,
    choices: Part | None = None,
    seed: int = 0,
    title: str = "training",
    evaluate: Evaluate | None = None,
    enough: Callable[[], bool] | None = None,
    publish: Publish | None = None,
    resume: bool = False,
) -> Summary:
    """Train a learner in place, on the run's device, until the budget is spent or the run is interrupted.

    Args:
        learner: network and heads to train.
        stages: the training stages in order, each for its share of the budget.
        optimizer: the update rule, with its peak learning rate.
        schedule: the learning-rate schedule: a factor by the fraction of the budget spent before an update, and by the
            batch.
        budget: the amount of training.
        run: device, precision, intervals and other run settings.
        folder: where checkpoints and metrics are written; None writes no files.
        choices: written into every checkpoint; a run can be resumed only with the same.
        seed: seed of dropout and other random draws of the forward pass.
        title: name of the run in the progress display.
        evaluate: returns metrics; called on every process, every `run.evaluate_every` steps and at the end.
        enough: early stopping: asked after every evaluation whether training ends here.
        publish: writes the model; called on the first process after every checkpoint and at the end.
        resume: continue from the newest intact checkpoint, or start where there is none yet.

    Raises:
        GenusError: the loss is not finite, the disk is full, or no checkpoint is intact.
        UsageError: the folder already holds a run, a checkpoint has other choices or text, or the device is missing.
    """
    world, exchange = init_distributed(run), notes()
    together = exchange if run.parallel.divides else None
    checkpoints = None if folder is None else Checkpoints(folder, run.keep, choices, stages[0].text, together)
    if checkpoints and checkpoints.steps() and not resume:
        raise UsageError(f"{folder}: holds a run of {checkpoints.steps()[-1]} steps; resume it, or take another folder")
    train_step = TrainStep(learner, optimizer, run, world, seed, [stage.updated for stage in stages])
    progress = _resumed(checkpoints, train_step, stages, world, exchange) if checkpoints and resume else Progress()
    with (
        telling_lost_processes(world),
        Interruption() as interruption,
        own_random_numbers(world.device),
        BackgroundWriter(together.given_up if together else None) as writer,
        Record(folder, run, world, budget, progress, title, seed) as record,
    ):
        loop = Loop(
            train_step, schedule, budget, run, world, record, checkpoints, writer, evaluate, enough, publish, progress
        )
        stopped = loop.go(stages, interruption)
    return Summary(loop.progress, stopped)


@dataclass
class Loop:
    """The training loop: updates until the budget is spent, with evaluation, checkpoints and metrics in between.

    The result of a step is read while the device computes the next one, so that the device never waits for the host.
    """

    train_step: TrainStep
    schedule: Schedule
    budget: Budget
    run: Run
    world: World
    record: Record
    checkpoints: Checkpoints | None
    writer: BackgroundWriter
    evaluate: Evaluate | None
    enough: Callable[[], bool] | None
    publish: Publish | None
    progress: Progress
    stages: Sequence[TrainStage] = ()

    def __post_init__(self) -> None:
        self.clock = Stopwatch()
        self.pending: tuple[Progress, PendingResult] | None = None
        self.saved: int | None = None
        self.ended = False

    def go(self, stages: Sequence[TrainStage], interruption: Interruption) -> bool:
        """Train all stages, and return whether the run was interrupted before the budget was spent."""
        self.stages, stop = stages, False
        for number, (stage, end) in enumerate(zip(stages, ends(stages), strict=True)):
            if stop or self.ended or number < self.progress.stage or self._spent() >= end:
                continue
            self._enter(number)
            with closing(steps(stage, self.progress.stage_step, self.world, self.run.workers)) as feeding:
                while self._spent() < end and not stop and not self.ended:
                    self._prepare(stage)
                    batches = next(feeding)
                    flags = {"stop": interruption.seen, "fail": self.writer.failed}
                    counts = self.train_step.count(batches, stage.flops, self.clock.lap(), **flags)
                    if counts.fails:
                        self._end_with_writer()
                    factor = self.schedule.factor(self._spent()) * self.schedule.scale(stage.batch_ratio)
                    spent = self._spent()
                    micro = {place: replace(one.batch, spent=spent) for place, one in batches.items()}
                    result = self.train_step(micro, number, factor, counts.targets)
                    self.progress = self.progress.after(counts)
                    stop = counts.stops or (self.world.size == 1 and interruption.seen)
                    self._look((self.progress, result))
                    if self.progress.step % self.run.evaluate_every == 0:
                        self._evaluate()
                    if self.progress.step % self.run.checkpoint_every == 0 and self._spent() < 1.0:
                        self._save()  # the last one is saved with its evaluation
        self._settle()
        if not stop and self.progress.evaluated != self.progress.step:
            self._evaluate()
        if self.saved != self.progress.step:
            self._save()
        return stop and not self.ended and self._spent() < 1.0

    def _spent(self) -> float:
        return self.progress.spent(self.budget)

    def _enter(self, stage: int) -> None:
        """Begin or continue a stage; the writer thread is joined first, since workers are forked next."""
        self.writer.wait()
        if stage != self.progress.stage:
            self.train_step.memories.forget()
        self.progress = self.progress.enter(stage)
        self.clock.lap()

    def _prepare(self, stage: TrainStage) -> None:
        """Have data that depend on the weights made for the next update, and record what they are like."""
        if isinstance(stage.feed, DependentFeed):
            made = stage.feed.prepare(self.progress.stage_step, self.train_step.learner)
            self.record.prepared(self.progress.step + 1, made)

    def _look(self, latest: tuple[Progress, PendingResult] | None) -> None:
        """Read and record the result of the step before the latest one.

        Raises:
            GenusError: the update was skipped since loss or gradient is not finite; or writing a checkpoint failed.
        """
        if self.world.size == 1:
            self.writer.check()
        before, self.pending = self.pending, latest
        if before is None:
            return
        progress, result = before[0], before[1].read()
        if not result.finite:
            self._refuse(f"step {progress.step}: {self.train_step.scaling.failure(result)}")
        loss = self.progress.loss if result.skipped else result.loss
        self.progress = replace(self.progress, loss=loss)
        shown = replace(progress, loss=loss, seconds=self.progress.seconds)
        self.record.step(shown, result, partial(seen, self.stages, shown))

    def _settle(self) -> None:
        """Synchronize with the device, and check that the weights may be evaluated and saved.

        Raises:
            GenusError: the last update was skipped, or the weights are not finite.
        """
        if self.pending is not None:
            (seconds,) = self.world.sum([self.clock.lap()])
            self.progress = replace(self.progress, seconds=self.progress.seconds + seconds / self.world.size)
        self._look(None)
        if not self.train_step.weights_are_finite():
            self._refuse(f"step {self.progress.step}: the update made weights that are not finite numbers")

    def _refuse(self, why: str) -> NoReturn:
        self.writer.wait()
        last = f"; {self.checkpoints.last()}" if self.checkpoints else ""
        raise GenusError(f"{why}; take a lower optimizer.lr, more warm-up, or run.precision=float32{last}")

    def _end_with_writer(self) -> NoReturn:
        """End in the same step as all processes, of which one could not write a checkpoint (GenusError)."""
        self.writer.wait()
        raise GenusError("another process could not write a checkpoint; its own message says why")

    def _evaluate(self) -> None:
        self._settle()
        if self.evaluate is not None:
            with averaged_weights(self.train_step.optimizer):
                metrics = self.evaluate(self.train_step.learner)
            self.progress = replace(self.progress, evaluation=metrics, evaluated=self.progress.step)
            self.record.evaluation(self.progress)
            self.ended = self.enough is not None and self.enough()
        self.clock.lap()

    def _save(self) -> None:
        """Write a checkpoint in the background and publish the model: all processes where they hold pieces, or one."""
        self._settle()
        step, train_step, first = self.progress.step, self.train_step, self.world.rank == 0
        divided = self.world.size > 1 and self.run.parallel.divides
        if self.checkpoints:
            feed = self.stages[self.progress.stage].feed
            made = feed.tensors() if isinstance(feed, DependentFeed) else {}
            remembered = train_step.memories.tensors(self.world)
            for prefix, tensors in ((MADE, made), (SCALE, train_step.scaling.tensors())):
                remembered |= {prefix + name: one for name, one in tensors.items()}
            (new,) = self.world.sum([], [float(first and step not in self.checkpoints.steps())])
            if new and (first or divided):
                self.writer.wait()  # at most one snapshot is in memory
                taken = self.checkpoints.snapshot(train_step.learner, train_step.optimizer, self.progress, remembered)
                self.writer.start(partial(self.checkpoints.write, taken))
        if self.publish is not None and divided:
            publish_together(train_step.learner, self.world, self.publish)
        elif self.publish is not None and first:
            with averaged_weights(train_step.optimizer):
                self.publish(train_step.learner)
        self.saved = step
        self.clock.lap()


def _resumed(
    checkpoints: Checkpoints, train_step: TrainStep, stages: Sequence[TrainStage], world: World, exchange: Notes | None
) -> Progress:
    """Load the newest intact checkpoint, which the first process finds, and return its progress."""
    speak = say if world.rank == 0 else lambda line: None

    def found() -> str:
        newest = checkpoints.newest(speak)
        return "" if newest is None else newest.name

    name = found() if exchange is None else exchange.from_first("newest", found)
    if not name:
        speak(f"{checkpoints.folder}: no checkpoint yet; beginning")
        return Progress()
    newest = checkpoints.folder / name
    progress = checkpoints.read(newest, train_step.learner, train_step.optimizer)
    kept, feed = memory(newest), stages[progress.stage].feed
    parts = {
        prefix: {name.removeprefix(prefix): one for name, one in kept.items() if name.startswith(prefix)}
        for prefix in (MADE, SCALE)
    }
    train_step.memories.restore({name: one for name, one in kept.items() if not name.startswith((MADE, SCALE))}, world)
    train_step.scaling.restore(parts[SCALE])
    if isinstance(feed, DependentFeed):
        feed.restore(parts[MADE])
    if world.rank == 0:
        checkpoints.set_aside_after(progress.step)
        checkpoints.prune()
    return progress


@contextmanager
def own_random_numbers(device: torch.device) -> Iterator[None]:
    """Restore the caller's random state at the end: updates seed PyTorch's global generator for every micro-batch."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
