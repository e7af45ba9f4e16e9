"""How far a run is, in every unit in which a budget can be given."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.recipe import Budget
    from genus.train.feeding import TrainStage

ROUNDING = 1e-9
"""A fraction this near to a bound has reached it: shares such as 0.3 + 0.6 are not exact."""


@dataclass(frozen=True)
class Progress:
    """The whole state of a run beside its tensors."""

    step: int = 0
    """Updates made."""
    stage: int = 0
    stage_step: int = 0
    """Updates made in the stage; with the stage, it says which micro-batches come next."""
    tokens: int = 0
    """Live tokens seen, over all processes."""
    flops: float = 0.0
    seconds: float = 0.0
    """Time spent in updates, without evaluation and checkpoints."""
    epochs: float = 0.0
    loss: float | None = None
    """What the last update minimized."""
    evaluation: dict[str, float] = field(default_factory=dict)
    """What the last evaluation returned."""
    evaluated: int | None = None
    """The step of the last evaluation."""

    def spent(self, budget: Budget) -> float:
        """Return the fraction of the budget that is spent, at most 1."""
        amounts = {"steps": self.step, "tokens": self.tokens, "flops": self.flops}
        amount = (amounts | {"seconds": self.seconds, "epochs": self.epochs})[budget.unit]
        return 1.0 if amount >= budget.amount * (1.0 - ROUNDING) else amount / budget.amount

    def enter(self, stage: int) -> Progress:
        """Return the progress at the begin of a stage, or where it stands if it is in it."""
        return self if stage == self.stage else replace(self, stage=stage, stage_step=0)

    def after(self, stretch: TrainStage, loss: float, tokens: int, seconds: float) -> Progress:
        """Return the progress after one more update on a stretch."""
        begin, end = (step * stretch.accumulate for step in (self.stage_step, self.stage_step + 1))
        return replace(
            self,
            step=self.step + 1,
            stage_step=self.stage_step + 1,
            tokens=self.tokens + tokens,
            flops=self.flops + tokens * stretch.flops_per_token,
            seconds=self.seconds + seconds,
            epochs=self.epochs + stretch.feed.epoch(end) - stretch.feed.epoch(begin),
            loss=loss,
        )


def ends(stages: Sequence[TrainStage]) -> list[float]:
    """Return the fraction of the budget at which each stretch ends; the last ends at 1."""
    return [share - ROUNDING for share in accumulate(stretch.share for stretch in stages[:-1])] + [1.0]
