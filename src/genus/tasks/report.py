"""What fine-tuning found: every seed's metrics, their mean and interval."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from genus.evaluate.interval import Interval, interval

if TYPE_CHECKING:
    from genus.objectives.supervised import FineTuned
    from genus.recipe import FineTuning
    from genus.tasks import Task

Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What one seed came to."""

    seed: int
    metrics: dict[str, Metrics]
    """By split, `validation` and `test`, of the weights that were best in validation."""
    history: list[Metrics]
    """Validation at each evaluation on the way."""
    seconds: float
    """Of training, without evaluation."""


@dataclass(frozen=True, slots=True)
class DataSummary:
    """Where the rows of a split come from."""

    file: str
    rows: int
    held_out: bool
    """There is no validation table; these rows of the training table were kept from training."""


@dataclass(frozen=True, slots=True)
class Report:
    """All seeds of one task."""

    recipe: str
    initial: str
    """`pretrained` or `random` weights."""
    task: Task
    objective: FineTuned
    """With the labels in the order of their numbers."""
    settings: FineTuning
    data: dict[str, DataSummary]
    trials: list[SeedResult]
    model: str
    """The folder of the best seed's model."""

    @property
    def best(self) -> SeedResult:
        """The trial whose main metric is best in validation; of equals, that of the smallest seed."""
        main = self.task.metrics[0].name
        return max(self.trials, key=lambda trial: trial.metrics["validation"][main])

    def summary(self) -> dict[str, dict[str, Interval]]:
        """Return the mean over seeds, with its 95 % interval, of every metric on every split."""
        return {
            split: {name: interval([trial.metrics[split][name] for trial in self.trials]) for name in metrics}
            for split, metrics in self.trials[0].metrics.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "recipe": self.recipe,
            "initial": self.initial,
            "task": self.task.written(),
            "objective": self.objective.written(),
            "settings": self.settings.written(),
            "data": {split: asdict(data) for split, data in self.data.items()},
            "summary": {
                split: {name: asdict(found) for name, found in metrics.items()}
                for split, metrics in self.summary().items()
            },
            "seeds": [asdict(trial) for trial in self.trials],
            "best_seed": self.best.seed,
            "model": self.model,
        }
