"""Metrics of sequence tagging: each example is a sentence, the truth and the predictions (N,) are its words' tags.

A tag is a mark and the type of an entity, `B-PER`, or `O`, outside of every entity. The marks follow a scheme:

* IOB2 (Tjong Kim Sang and Veenstra 1999, section 2): `B-` begins every entity, `I-` continues one.
* IOB1 (Ramshaw and Marcus 1995; the files of CoNLL-2003): `I-` also begins one, `B-` only beside one of its type.
* BIOES: `E-` ends an entity of several words, `S-` is one of one word. BILOU writes them `L-` and `U-`, BMES writes
  `M-` for `I-`.

A predicted entity is correct if both ends and the type are right (Tjong Kim Sang and De Meulder 2003, section 2).
"""

from __future__ import annotations

import operator
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genus.evaluate.metrics import Metric

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

SCHEMES = {"BIO": "IOB2", "BIOES": "BIOES", "BIOLU": "BILOU", "BMOES": "BMES"}
"""Names of the schemes, by their marks."""
SPELLINGS = str.maketrans("LUM", "ESI")
"""Marks of BILOU and BMES as those of BIOES."""
LENIENT = "IOB1"
"""The scheme of tags that no strict one explains."""

Entity = tuple[int, int, str]
"""First word, word after the last, type."""


class TagMetric(Metric):
    """A metric of the tags of words: a function of sums over sentences."""

    judges: ClassVar[str] = "tags"

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the metric over the words or entities of all sentences, 0 if it is undefined."""
        return self.of_sums(self.summands(truth, predicted).sum(0))

    @abstractmethod
    def summands(self, truth: NDArray[Any], predicted: NDArray[Any]) -> NDArray[Any]:
        """Return the numbers (N, K) of each sentence."""


class WordAccuracy(TagMetric):
    """Accuracy per word: the fraction of words whose tag is right."""

    def summands(self, truth: NDArray[Any], predicted: NDArray[Any]) -> NDArray[Any]:
        """Return the numbers (N, 2) of right words and of words of each sentence."""
        pairs = zip(truth, predicted, strict=True)
        each = [(sum(map(operator.eq, given, told)), len(given)) for given, told in pairs]
        return np.array(each, np.int64).reshape(len(each), 2)

    def of_sums(self, sums_K: NDArray[Any]) -> float:
        """Return right words / words."""
        right, words = sums_K.tolist()
        return right / words if words else 0.0


class EntityMetric(TagMetric):
    """A ratio of the numbers of true, predicted and correctly predicted entities, read by the scheme of the truth."""

    def misfit(self, judged: Collection[str], classes: Sequence[str] = ()) -> str:
        """Return why the metric does not fit: it counts entities, which not all tags mark."""
        bare = "" if not classes or of_names(classes) else "counts entities, and these tags mark none with B- or I-"
        return super().misfit(judged, classes) or bare

    def defined(self, truth: NDArray[Any]) -> bool:
        """Return whether there is an entity in the truth."""
        return any(entities(tags, LENIENT) for tags in truth)

    def summands(self, truth: NDArray[Any], predicted: NDArray[Any]) -> NDArray[Any]:
        """Return the numbers (N, 3) of true, predicted and correct entities of each sentence."""
        scheme, each = scheme_of(truth), []
        for given, answered in zip(truth, predicted, strict=True):
            theirs, ours = entities(given, scheme), entities(answered, scheme)
            each.append((len(theirs), len(ours), len(ours & theirs)))
        return np.array(each, np.int64).reshape(len(each), 3)

    def of_sums(self, sums_K: NDArray[Any]) -> float:
        """Return the ratio of the numbers of entities."""
        above, below = self.ratio(*sums_K.tolist())
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


def scheme_of(sentences: Iterable[Sequence[str]]) -> str:
    """Return the name of the strict scheme in which every entity of the sentences is well-formed, else `LENIENT`."""
    marks, sentences = {"O"}, list(sentences)
    for tags in sentences:
        marks |= {_split(tag)[0] for tag in tags}
    for known, name in SCHEMES.items():
        if marks <= {*known} and all(len(_strict(tags, name)[1]) == 0 for tags in sentences):
            return name
    return LENIENT


def entities(tags: Sequence[str], scheme: str = "IOB2") -> set[Entity]:
    """Return the entities of a sentence.

    In a strict scheme, words that do not make a well-formed entity make none (seqeval, mode "strict"). In IOB1 an
    entity also begins where `I-` follows no word of its type (conlleval, and seqeval's default mode).
    """
    return _lenient(tags) if scheme == LENIENT else _strict(tags, scheme)[0]


def of_names(tags: Iterable[str]) -> bool:
    """Return whether tags mark entities: all are `O` or have marks of one scheme, and one begins an entity."""
    marks, typed = set(), False
    for tag in tags:
        marks.add(_split(tag)[0])
        typed |= "-" in tag
    return any(marks <= {*known} for known in SCHEMES) and ("B" in marks or (typed and marks != {"O"}))


def _split(tag: str) -> tuple[str, str]:
    """Return mark and type of a tag."""
    mark, _, kind = tag.partition("-")
    return mark, kind


def _strict(tags: Sequence[str], scheme: str) -> tuple[set[Entity], set[int]]:
    """Return the well-formed entities of a sentence, and the marked words that are in none."""
    found, begin, closed = set(), None, scheme != "IOB2"
    marks = [(mark.translate(SPELLINGS) if closed else mark, kind) for mark, kind in map(_split, tags)]
    for at, ((mark, kind), (after, its)) in enumerate(zip(marks, [*marks[1:], ("O", "")], strict=False)):
        if mark == "B":
            begin = at
        elif mark == "S":
            begin = None
            found.add((at, at + 1, kind))
        elif mark == "O" or (begin is not None and kind != marks[begin][1]):
            begin = None
        ends = mark == "E" if closed else (after, its) != ("I", kind)
        if begin is not None and mark != "S" and ends:
            found.add((begin, at + 1, kind))
            begin = None
    inside = {word for first, end, _ in found for word in range(first, end)}
    return found, {at for at, (mark, _) in enumerate(marks) if mark != "O"} - inside


def _lenient(tags: Sequence[str]) -> set[Entity]:
    """Return the entities of a sentence as conlleval reads them, whatever the marks."""
    found: set[Entity] = set()
    begin, before = 0, ("O", "")
    for at, (written, kind) in enumerate([*map(_split, tags), ("O", "")]):
        mark = written.translate(SPELLINGS)
        inside = before[0] != "O"
        new = mark in "BSO" or before[0] in "ES" or kind != before[1]
        if inside and new:
            found.add((begin, at, before[1]))
        if mark != "O" and (new or not inside):
            begin = at
        before = (mark, kind)
    return found
