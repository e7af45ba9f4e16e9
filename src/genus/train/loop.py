"""The one training loop, of pretraining and of fine-tuning."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from genus.errors import GenusError, UsageError
from genus.objectives import Learner
from genus.train.checkpoint import Checkpoints, memory
from genus.train.feeding import TrainStage, steps
from genus.train.interruption import Interruption
from genus.train.parallel import World, init_distributed
from genus.train.progress import Progress, ends
from genus.train.record import Record, log
from genus.train.update import StepResult, TrainStep

if TYPE_CHECKING:
    from pathlib import Path

    from genus.optim import Optimizer, Schedule
    from genus.part import Part
    from genus.recipe import Budget
    from genus.train.run import Run

Evaluate = Callable[[Learner], dict[str, float]]
Publish = Callable[[Learner], None]


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    progress: Progress
    """Steps, tokens, FLOPs, seconds, the last loss and the last evaluation."""
    stopped: bool
    """It was interrupted before the budget was spent; what it had reached is saved."""


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
    publish: Publish | None = None,
    resume: bool = False,
) -> Summary:
    """Train a learner, in place and on the run's device, until the budget is spent or someone interrupts.

    Args:
        learner: what learns.
        stages: the run's feeds in order, each for its share of the budget.
        optimizer: the update rule, at its peak rate.
        schedule: the factor on the rate by the fraction of the budget that is spent before an update, and by the batch.
        budget: when to end.
        run: where and how.
        folder: where checkpoints and records go; None leaves no file behind.
        choices: written into every checkpoint; a run is resumed with the same.
        seed: of dropout and whatever else a forward pass draws.
        title: what the progress display calls it.
        evaluate: returns metrics; called on every process, every `run.evaluate_every` steps and at the end.
        publish: writes the model; called on the first process after every checkpoint and at the end.
        resume: go on from the newest whole checkpoint, or begin where there is none yet.

    Raises:
        GenusError: the loss is not finite, the disk is full, no checkpoint is whole.
        UsageError: a folder that already holds a run, a checkpoint of other choices or text, a device not there.
    """
    world = init_distributed(run.device)
    checkpoints = None if folder is None else Checkpoints(folder, run.keep, choices, stages[0].text)
    if checkpoints and checkpoints.steps() and not resume:
        raise UsageError(f"{folder}: holds a run of {checkpoints.steps()[-1]} steps; resume it, or take another folder")
    world.place(learner)
    train_step = TrainStep(learner, optimizer, run, world, seed)
    progress = _resumed(checkpoints, train_step, world) if checkpoints and resume else Progress()
    with Interruption() as interruption, Record(folder, run, world, budget, progress, title, seed) as record:
        loop = Loop(train_step, schedule, budget, run, world, record, checkpoints, evaluate, publish, progress)
        stopped = loop.go(stages, interruption)
    return Summary(loop.progress, stopped)


@dataclass
class Loop:
    """Updates until the budget is spent; evaluation, checkpoints and records in between."""

    train_step: TrainStep
    schedule: Schedule
    budget: Budget
    run: Run
    world: World
    record: Record
    checkpoints: Checkpoints | None
    evaluate: Evaluate | None
    publish: Publish | None
    progress: Progress

    def go(self, stages: Sequence[TrainStage], interruption: Interruption) -> bool:
        """Run through the stages; return whether it was interrupted."""
        stop, saved = False, None
        for stage, (stretch, end) in enumerate(zip(stages, ends(stages), strict=True)):
            if stop or self._spent() >= end:
                continue
            if stage != self.progress.stage:
                self.train_step.memories.forget()
            self.progress = self.progress.enter(stage)
            with closing(steps(stretch, self.progress.stage_step, self.world, self.run.workers)) as feeding:
                while self._spent() < end and not stop:
                    begun = time.perf_counter()
                    factor = self.schedule.factor(self._spent()) * self.schedule.scale(stretch.batch_ratio)
                    result = self.train_step(next(feeding), stage, factor)
                    seconds, stops = self.world.sum([time.perf_counter() - begun, float(interruption.seen)])
                    self.progress = self._after(stretch, result, seconds / self.world.size)
                    self.record.step(self.progress, result)
                    if self.progress.step % self.run.evaluate_every == 0:
                        self._evaluate()
                    if self.progress.step % self.run.checkpoint_every == 0:
                        saved = self._save()
                    stop = stops > 0
        if not stop and self.progress.evaluated != self.progress.step:
            self._evaluate()
        if saved != self.progress.step:
            self._save()
        return stop and self._spent() < 1.0

    def _spent(self) -> float:
        return self.progress.spent(self.budget)

    def _after(self, stretch: TrainStage, result: StepResult, seconds: float) -> Progress:
        """Return the progress after an update, having refused one that was not made."""
        if not result.finite:
            last = f"; {self.checkpoints.last()}" if self.checkpoints else ""
            raise GenusError(
                f"step {self.progress.step + 1}: the loss is {result.loss:g} and the gradient's norm "
                f"{result.gradient_norm:g}; take a lower optimizer.lr, more warm-up, or run.precision=float32{last}"
            )
        return self.progress.after(stretch, result.loss, result.tokens, seconds)

    def _evaluate(self) -> None:
        if self.evaluate is not None:
            metrics = self.evaluate(self.train_step.learner)
            self.progress = replace(self.progress, evaluation=metrics, evaluated=self.progress.step)
            self.record.evaluation(self.progress)

    def _save(self) -> int:
        """Write a checkpoint and publish the model, on the first process; return the step."""
        step = self.progress.step
        remembered = self.train_step.memories.tensors(self.world) if self.checkpoints else {}
        if self.world.rank == 0:
            if self.checkpoints and step not in self.checkpoints.steps():
                self.checkpoints.write(self.train_step.learner, self.train_step.optimizer, self.progress, remembered)
            if self.publish is not None:
                self.publish(self.train_step.learner)
        return step


def _resumed(checkpoints: Checkpoints, train_step: TrainStep, world: World) -> Progress:
    """Return the progress of the newest whole checkpoint, having put its tensors in place."""
    speak = say if world.rank == 0 else lambda line: None
    newest = checkpoints.newest(speak)
    if newest is None:
        speak(f"{checkpoints.folder}: no checkpoint yet; beginning")
        return Progress()
    progress = checkpoints.read(newest, train_step.learner, train_step.optimizer)
    train_step.memories.restore(memory(newest), world)
    if world.rank == 0:
        checkpoints.set_aside_after(progress.step)
        checkpoints.prune()
    return progress
