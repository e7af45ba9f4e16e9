"""What an error analysis finds, as plain values: `analysis.json`, and what its pages are written from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genus.evaluate.calibration import Bin
    from genus.evaluate.class_report import ClassReport
    from genus.evaluate.interval import Interval

Word = tuple[int, int, float | None]
"""First character, character after the last, and gradient times input, summed over the pieces; None: not read."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Which classes are taken for which."""

    classes: list[str]
    """Those that occur in truth or predictions."""
    counts: list[list[int]]
    """True classes in rows, predicted ones in columns."""

    def most(self, number: int) -> list[tuple[str, str, int]]:
        """Return the most frequent confusions: true class, predicted class, how often."""
        found = [
            (self.classes[true], self.classes[told], count)
            for true, row in enumerate(self.counts)
            for told, count in enumerate(row)
            if true != told and count
        ]
        return sorted(found, key=lambda one: -one[2])[:number]


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """How often one of several labels is told, and holds."""

    label: str
    right: int
    missed: int
    wrong: int
    neither: int
    """Texts of which it is not told, rightly."""


@dataclass(frozen=True, slots=True)
class Classes:
    """What is told of classes, labels or tags."""

    what: str
    """What the report is of, such as `class` or `type of entity`."""
    report: ClassReport
    confusion: Confusion | None = None
    labels: list[LabelCounts] = field(default_factory=list)
    """Of several labels, in place of a confusion matrix."""
    unseen: list[str] = field(default_factory=list)
    """Classes of the model that occur neither in truth nor in predictions."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Predicted numbers against true ones."""

    truth: list[float]
    predicted: list[float]
    mean_error: float
    """Mean of predicted - true: above 0 where predictions are too large."""
    mean_absolute_error: float
    root_mean_squared_error: float
    explained: float | None
    """R² = 1 - Σ (true - predicted)² / Σ (true - mean)²; None where all true numbers are equal."""


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one group, and their scores."""

    name: str
    rows: int
    labeled: int
    scores: dict[str, Interval | None]
    """Metrics by name; None where one is undefined."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Scores by groups of rows."""

    by: str
    groups: list[Group]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far probabilities are from how often they are right."""

    of: str
    """What the probabilities are of."""
    decisions: int
    number: int
    """Of bins, those that hold no decision included."""
    ece: float
    """Expected calibration error in bins of equal width."""
    ece_equal_mass: float
    """The same in bins of as many decisions each."""
    nll: float | None
    """Mean negative log-likelihood in nats; None where the probabilities are not of classes."""
    brier: float
    bins: list[Bin]
    """Bins of equal width that hold a decision."""
    bins_equal_mass: list[Bin]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A temperature, fitted on another table, and what it makes of the calibration."""

    temperature: float
    table: str
    decisions: int
    """On which it was fitted."""
    after: Calibration
    model: str
    """The folder of the model with that temperature."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A text of a row, with what its words contribute."""

    text: str
    words: list[Word]
    total: float
    """Sum over the words."""
    marks: list[tuple[int, int]] = field(default_factory=list)
    """Characters that an answer is of: a word, or a span."""


@dataclass(frozen=True, slots=True)
class Example:
    """One answer to look at."""

    line: int
    id: str | None
    truth: str
    """Empty where it is not known."""
    predicted: str
    probability: float | None
    passages: list[Passage]
    explains: str
    """What the words' numbers are derivatives of."""
    special: float
    """Gradient times input of the special tokens, summed."""


@dataclass(frozen=True, slots=True)
class Findings:
    """The error analysis of a model on a table."""

    model: str
    table: str
    task: str
    unit: str
    """What is decided on: a text, a word, a label of a text."""
    rows: int
    unlabeled: int
    cut: int
    """Texts, or words, that lost their end."""
    notes: list[str]
    """What could not be read as it stands."""
    metrics: dict[str, Interval | None]
    classes: Classes | None
    numbers: Numbers | None
    groupings: list[Grouping]
    calibration: Calibration | None
    calibrated: Calibrated | None
    examples: dict[str, list[Example]]
    """By why they are shown."""

    def to_json(self) -> dict[str, Any]:
        """Return the content of `analysis.json`."""
        return asdict(self)
