"""Analysis of tags of words, and of the entities that they mark."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.analysis import Told
from genus.analysis.findings import Classes
from genus.analysis.gradients import log_odds
from genus.analysis.one_of_several import ClassificationAnalysis, confused
from genus.evaluate.class_report import ClassReport
from genus.evaluate.tags import of_names
from genus.tasks.tagging import Tagging

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.analysis import Answered


class TaggingAnalysis(ClassificationAnalysis):
    """Analysis of tags: a decision is a word of which the tokenizer leaves a token."""

    of: ClassVar = Tagging
    unit: ClassVar[str] = "word"

    def owners(self, given: Answered) -> NDArray[np.int64]:
        """Return the row (U,) of each word."""
        sizes = [len(row.texts) for row in given.rows]
        return np.asarray(np.repeat(np.arange(len(sizes)), sizes)[given.encoded.seen])

    def lengths(self, given: Answered) -> NDArray[np.int64]:
        """Return the tokens (N,) of the words of each row, without special tokens."""
        parts = zip(given.encoded.firsts, given.encoded.texts, strict=True)
        sizes = [np.diff(first, append=len(ids)) for first, (ids,) in parts]
        counts = np.concatenate([np.zeros(0, np.int64), *sizes])
        return np.bincount(self.owners(given), counts, len(given.rows)).astype(np.int64)

    def classes(self, given: Answered) -> Classes | None:
        """Return the confusion matrix of the tags of all words, and the scores of entities by type, else of tags."""
        if not given.labeled.any():
            return None
        pairs = zip(given.rows, given.answers, strict=True)
        both = [(row.labels, answer.predicted) for row, answer in pairs if row.label is not None]
        truth, told = ([[*side] for side in sides] for sides in zip(*both, strict=True))
        numbers = {tag: number for number, tag in enumerate(given.objective.classes)}
        flat = [np.array([numbers[tag] for tags in side for tag in tags], np.int64) for side in (truth, told)]
        found = confused("tag", given.objective.classes, *flat)
        if not of_names(given.objective.classes):
            return found
        return Classes("type of entity", ClassReport.of_entities(truth, told), found.confusion, unseen=found.unseen)

    def told(self, given: Answered, decision: int) -> Told:
        """Return the tag of a word, explained by its log-odds, with the word marked."""
        names, truth = given.objective.classes, int(self.likelihoods(given).truth_U[decision])
        tag = int(given.objective.decide(given.outputs.values[decision : decision + 1])[0])
        ends = [*accumulate(map(len, given.encoded.firsts))]
        part = int(np.searchsorted(ends, decision, side="right"))
        place = decision - (ends[part] - len(given.encoded.firsts[part]))

        def odds(outputs: dict[str, Tensor]) -> Tensor:
            (logits_MC,) = outputs.values()
            return log_odds(logits_MC[place], tag)

        row = int(self.owners(given)[decision])
        _, spans = self.texts(given, row)[0]
        marks = {0: [spans[self.word(given, row, decision)]]}
        return Told("" if truth < 0 else names[truth], names[tag], f"log-odds of {names[tag]}", part, odds, marks)

    def word(self, given: Answered, row: int, decision: int) -> int:
        """Return the number of the word in its row."""
        before = sum(len(one.texts) for one in given.rows[:row])
        return int(given.encoded.seen[decision]) - before

    def texts(self, given: Answered, row: int) -> list[tuple[str, list[tuple[int, int]]]]:
        """Return the words of a row with a space between them."""
        words = given.rows[row].texts
        starts = accumulate((len(word) + 1 for word in words), initial=0)
        return [(" ".join(words), [(start, start + len(word)) for start, word in zip(starts, words, strict=False)])]

    def pieces(self, given: Answered, row: int, sequence: int) -> list[tuple[int, int, int]]:
        """Return the pieces of a part of a row, each at the characters of its word."""
        first, (ids,) = given.encoded.firsts[sequence], given.encoded.texts[sequence]
        _, spans = self.texts(given, row)[0]
        decisions = given.encoded.target_slices(np.array([sequence])).tolist()
        sizes = pairwise([*first.tolist(), len(ids)])
        return [
            (0, *spans[self.word(given, row, decision)])
            for decision, (start, stop) in zip(decisions, sizes, strict=True)
            for _ in range(stop - start)
        ]
