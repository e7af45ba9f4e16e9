"""Station 8, a pretrained network to answers: the slot `Task`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from genus.errors import UsageError
from genus.evaluate.metrics import Metric
from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genus.objectives.sequence import OnSequence


class Task(Part, ABC):
    """A choice of what is learned from the rows of a table."""

    texts: tuple[str, ...] = ("text",)
    """The column of the text, or the two of a pair."""
    label: str = "label"
    """The column of the label."""
    metrics: tuple[Metric, ...]
    """The first one chooses the best weights."""
    dropout: float = 0.1
    """On the pooled vector, in training."""

    def __post_init__(self) -> None:
        """Refuse a task without text, or with more than a pair, and one without a metric."""
        if len(self.texts) not in (1, 2):
            raise UsageError(f"texts: expected one column, or two for pairs, got {len(self.texts)}")
        if not self.metrics:
            raise UsageError("metrics: expected at least one, by which the best weights are chosen")

    @abstractmethod
    def objective(self, labels: Iterable[str]) -> OnSequence:
        """Return what is learned, given the labels of the training rows."""
