"""The report of fine-tuning: every seed's metrics, their mean and confidence interval."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from genus.evaluate.interval import Interval, interval

if TYPE_CHECKING:
    from genus.evaluate.metrics import Metric
    from genus.objectives.supervised import FineTuned
    from genus.objectives.supervised.taught import Teaching
    from genus.recipe import FineTuning
    from genus.tasks import Task
    from genus.tasks.augment import Augmentation

Metrics = dict[str, float | None]
"""Metrics by name; None where a metric is undefined, as a correlation of equal labels."""


@dataclass(frozen=True, slots=True)
class SeedResult:
    """The result of one seed."""

    seed: int
    metrics: dict[str, Metrics]
    """Metrics by split, `validation` and `test`, of the weights that were best in validation, else of the last."""
    history: list[Metrics]
    """Validation metrics at each evaluation during training."""
    seconds: float
    """Training time in seconds, without evaluation."""
    signatures: dict[str, str] = field(default_factory=dict)
    """Which definition of a metric was computed, by its name, where there are several."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Thresholds tuned in validation, by name."""
    told_over: str = ""
    """A sentence on the thresholds."""

    def rank(self, main: Metric) -> float:
        """Return how good the main metric is in validation, by which seeds are compared; the least where undefined."""
        return main.rank(self.metrics["validation"][main.name])


@dataclass(frozen=True, slots=True)
class DataSummary:
    """File and size of a split."""

    file: str
    rows: int
    held_out: bool
    """Whether the rows were held out from the training table because there is no validation table."""
    noise: str | None = None
    """Noise of its texts, as the command line takes it; None: there is none."""


@dataclass(frozen=True, slots=True)
class TeacherRecord:
    """Which model the answers came from that were learned too, and how."""

    folder: str
    fingerprint: str
    """SHA-256 of what its answers depend on."""
    teaching: Teaching

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        return {"folder": self.folder, "fingerprint": self.fingerprint, "teaching": self.teaching.written()}


@dataclass(frozen=True, slots=True)
class Augmented:
    """What was done with few labels."""

    augmentation: Augmentation
    rows: int
    """Training rows that were made or added."""


@dataclass(frozen=True, slots=True)
class Report:
    """The results of all seeds of one task, with all choices that they depend on."""

    recipe: str
    initial: str
    """Initial weights: `pretrained` or `random`."""
    task: Task
    objective: FineTuned
    """Holds the labels in the order of their class indices."""
    settings: FineTuning
    data: dict[str, DataSummary]
    trials: list[SeedResult]
    model: str | None
    """Folder of the best seed's model; None where none is written."""
    augmentation: Augmented | None = None
    teacher: TeacherRecord | None = None

    @property
    def best(self) -> SeedResult:
        """The trial with the best main metric in validation; ties go to the smallest seed."""
        main = self.task.metrics[0]
        return max(self.trials, key=lambda trial: (trial.rank(main), -trial.seed))

    def summary(self) -> dict[str, dict[str, Interval]]:
        """Return the mean over seeds, with its 95 % confidence interval, of every metric defined on a split."""
        found: dict[str, dict[str, Interval]] = {}
        for split, metrics in self.trials[0].metrics.items():
            several = {name: [trial.metrics[split][name] for trial in self.trials] for name in metrics}
            found[split] = {
                name: interval(defined)
                for name, values in several.items()
                if (defined := [value for value in values if value is not None])
            }
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the content of `report.json`: fields, summary, every seed and the best one."""
        made = self.augmentation
        return (
            {
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
            | ({} if made is None else {"augmentation": made.augmentation.written() | {"rows": made.rows}})
            | ({} if self.teacher is None else {"teacher": self.teacher.to_json()})
        )
