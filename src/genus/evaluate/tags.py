"""Metrics of tags: each example is a sentence, the truth and the predictions (N,) are its words' tags.

Tags of names are IOB2 (Tjong Kim Sang and Veenstra 1999, section 2): `B-PER` begins a name, `I-PER` goes on with one,
`O` is of none. A name is found where both ends and the kind are right (Tjong Kim Sang and De Meulder 2003, section 2).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from genus.evaluate.metrics import Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


class TagMetric(Metric):
    """A number that says how good tags are."""

    level: ClassVar[str] = "word"


class WordAccuracy(TagMetric):
    """The share of words whose tag is right."""

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the share over the words of all sentences."""
        pairs = [pair for sides in zip(truth, predicted, strict=True) for pair in zip(*sides, strict=True)]
        return sum(true == found for true, found in pairs) / len(pairs) if pairs else 0.0


class EntityMetric(TagMetric):
    """A ratio of how many names there are, were predicted, and both."""

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the ratio over the names of all sentences, 0 where it is undefined."""
        true, found, both = 0, 0, 0
        for ours, theirs in zip(map(entities, predicted), map(entities, truth), strict=True):
            true, found, both = true + len(theirs), found + len(ours), both + len(ours & theirs)
        above, below = self.ratio(true, found, both)
        return above / below if below else 0.0

    @abstractmethod
    def ratio(self, true: int, found: int, both: int) -> tuple[int, int]:
        """Return what is divided by what."""


class EntityF1(EntityMetric):
    """2 both / (true + found): the harmonic mean of precision and recall of whole names."""

    def ratio(self, true: int, found: int, both: int) -> tuple[int, int]:
        """Return twice the names found that are true, and the names of either side."""
        return 2 * both, true + found


class EntityPrecision(EntityMetric):
    """The share of predicted names that are true."""

    def ratio(self, true: int, found: int, both: int) -> tuple[int, int]:
        """Return the names found that are true, and all that were found."""
        return both, found


class EntityRecall(EntityMetric):
    """The share of true names that are predicted."""

    def ratio(self, true: int, found: int, both: int) -> tuple[int, int]:
        """Return the names found that are true, and all that are."""
        return both, true


def entities(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """Return (first word, word after the last, kind) of the names of a sentence.

    What goes on with no name that is begun, or with one of another kind, is of none (seqeval, mode "strict", IOB2).
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
    """Say whether tags are of names: each `O`, or one that begins a name or goes on with one, and some that begin."""
    marks = {tag.partition("-")[0] for tag in tags}
    return "B" in marks and marks <= {"B", "I", "O"}
