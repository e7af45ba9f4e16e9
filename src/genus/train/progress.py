"""Training progress, in every unit of a budget: steps, tokens, FLOPs, seconds and epochs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.recipe import Budget
    from genus.train.data import TrainStage
    from genus.train.step import StepCounts

ROUNDING = 1e-9
"""Tolerance with which a fraction of the budget reaches a bound: sums of shares such as 0.3 + 0.6 are not exact."""


@dataclass(frozen=True)
class Progress:
    """The complete state of a training run apart from its tensors."""

    step: int = 0
    """Number of updates."""
    stage: int = 0
    stage_step: int = 0
    """Number of updates in the stage; with the stage, it determines the next micro-batches."""
    tokens: int = 0
    """Real tokens trained on, over all processes."""
    flops: float = 0.0
    seconds: float = 0.0
    """Time spent in updates, without evaluation and checkpoints; a step's time is added with the next step."""
    epochs: float = 0.0
    updates: list[int] = field(default_factory=list)
    """Number of updates in each stage before this one."""
    loss: float | None = None
    """Loss of the last update."""
    evaluation: dict[str, float] = field(default_factory=dict)
    """Metrics of the last evaluation."""
    evaluated: int | None = None
    """The step of the last evaluation."""

    def spent(self, budget: Budget) -> float:
        """Return the fraction of the budget that is spent, in its unit, at most 1."""
        amounts = {"steps": self.step, "tokens": self.tokens, "flops": self.flops}
        amount = (amounts | {"seconds": self.seconds, "epochs": self.epochs})[budget.unit]
        return 1.0 if amount >= budget.amount * (1.0 - ROUNDING) else amount / budget.amount

    def enter(self, stage: int) -> Progress:
        """Return the progress at the start of a stage, or unchanged if it is in that stage already."""
        if stage == self.stage:
            return self
        passed_over = [0] * (stage - self.stage - 1)
        return replace(self, stage=stage, stage_step=0, updates=[*self.updates, self.stage_step, *passed_over])

    def after(self, counts: StepCounts) -> Progress:
        """Return the progress after one more update of the stage; its loss is set later, when it is known."""
        return replace(
            self,
            step=self.step + 1,
            stage_step=self.stage_step + 1,
            tokens=self.tokens + counts.tokens,
            flops=self.flops + counts.flops,
            seconds=self.seconds + counts.seconds,
            epochs=self.epochs + counts.epochs,
        )


def seen(stages: Sequence[TrainStage], progress: Progress) -> dict[str, float]:
    """Return how often each source of text was read, by its name; empty where text is no mixture."""
    total: dict[str, float] = {}
    for stage, updates in zip(stages, [*progress.updates, progress.stage_step], strict=False):
        read = stage.seen(updates * stage.accumulate) if stage.seen else {}
        total |= {name: total.get(name, 0.0) + epochs for name, epochs in read.items()}
    return total


class Stopwatch:
    """A stopwatch that measures wall-clock seconds from lap to lap."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds since the last lap, and start a new lap."""
        before, self.begun = self.begun, time.perf_counter()
        return self.begun - before


def ends(stages: Sequence[TrainStage]) -> list[float]:
    """Return the fraction of the budget at which each stage ends; the last ends at 1."""
    return [share - ROUNDING for share in accumulate(stage.share for stage in stages[:-1])] + [1.0]
