"""Metrics of sequence tagging: each example is a sentence, the truth and the predictions (N,) are its words' tags.

Tags of named entities are IOB2 (Tjong Kim Sang and Veenstra 1999, section 2): `B-PER` begins an entity, `I-PER`
continues one, `O` is outside. A predicted entity is correct if both ends and the type are right (Tjong Kim Sang and De
Meulder 2003, section 2).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from genus.evaluate.metrics import Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


class TagMetric(Metric):
    """A metric of the tags of words."""

    level: ClassVar[str] = "word"


class WordAccuracy(TagMetric):
    """Accuracy per word: the fraction of words whose tag is right."""

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the fraction over the words of all sentences, 0 for no words."""
        pairs = [pair for sides in zip(truth, predicted, strict=True) for pair in zip(*sides, strict=True)]
        return sum(true == found for true, found in pairs) / len(pairs) if pairs else 0.0


class EntityMetric(TagMetric):
    """A ratio of the numbers of true, predicted and correctly predicted entities."""

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the ratio over the entities of all sentences, 0 if it is undefined."""
        true, found, both = 0, 0, 0
        for ours, theirs in zip(map(entities, predicted), map(entities, truth), strict=True):
            true, found, both = true + len(theirs), found + len(ours), both + len(ours & theirs)
        above, below = self.ratio(true, found, both)
        return above / below if below else 0.0

    @abstractmethod
    def ratio(self, true: int, found: int, both: int) -> tuple[int, int]:
        """Return numerator and denominator for the numbers of true, predicted and correct entities."""


class EntityF1(EntityMetric):
    """F1 of whole entities: 2 both / (true + found), the harmonic mean of precision and recall."""

    def ratio(self, true: int, found: int, both: int) -> tuple[int, int]:
        """Return twice the correct entities, and the sum of true and predicted entities."""
        return 2 * both, true + found


class EntityPrecision(EntityMetric):
    """Precision of whole entities: the fraction of predicted entities that are true."""

    def ratio(self, true: int, found: int, both: int) -> tuple[int, int]:
        """Return the correct entities and all predicted entities."""
        return both, found


class EntityRecall(EntityMetric):
    """Recall of whole entities: the fraction of true entities that are predicted."""

    def ratio(self, true: int, found: int, both: int) -> tuple[int, int]:
        """Return the correct entities and all true entities."""
        return both, true


def entities(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """Return (first word, word after the last, type) of the entities of a sentence in IOB2.

    An `I-` tag that follows no open entity of the same type belongs to no entity (seqeval, mode "strict", IOB2).
    """
    found, begin, kind = set(), -1, ""
    for at, tag in enumerate([*tags, ""]):
        mark, _, name = tag.partition("-")
        if begin >= 0 and (mark != "I" or name != kind):
            found.add((begin, at, kind))
            begin = -1
        if mark == "B":
            begin, kind = at, name
    return found


def of_names(tags: Iterable[str]) -> bool:
    """Return whether tags are IOB2 entity tags: every tag is `O`, `B-...` or `I-...`, and at least one is `B-...`."""
    marks = {tag.partition("-")[0] for tag in tags}
    return "B" in marks and marks <= {"B", "I", "O"}
