"""Analysis of tags of words, and of the entities that they mark."""

from __future__ import annotations

import copy
import math
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from genus.analysis.findings import Classes
from genus.analysis.one_of_several import ClassificationAnalysis, confused
from genus.batch import IGNORE
from genus.evaluate.calibration import best_temperature
from genus.evaluate.class_report import ClassReport
from genus.evaluate.tags import EntityF1, of_names
from genus.tasks.character_spans import CharacterSpans
from genus.tasks.tagging import RecurrentTagging, Tagging

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.analysis import Answered, Told
    from genus.objectives.supervised.recurrent import RecurrentHead


class TaggingAnalysis(ClassificationAnalysis):
    """Analysis of tags: a decision is a word of which the tokenizer leaves a token."""

    of: ClassVar = Tagging
    unit: ClassVar[str] = "word"

    def owners(self, given: Answered) -> NDArray[np.int64]:
        """Return the row (U,) of each word."""
        sizes = [len(row.texts) for row in given.rows]
        return np.asarray(np.repeat(np.arange(len(sizes)), sizes)[given.encoded.seen])

    def logits(self, given: Answered) -> NDArray[np.float32]:
        """Return the logits (U, C) of the tags, of a random field the logarithms of their probabilities."""
        return given.outputs.values[:, : len(given.objective.classes)]

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
        ends = [*accumulate(map(len, given.encoded.firsts))]
        part = int(np.searchsorted(ends, decision, side="right"))
        place = decision - (ends[part] - len(given.encoded.firsts[part]))
        row = int(self.owners(given)[decision])
        _, spans = self.texts(given, row)[0]
        return self.explained(given, decision, part, place, {0: [spans[self.word(given, row, decision)]]})

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


class RecurrentTaggingAnalysis(TaggingAnalysis):
    """Analysis of tags that an LSTM over the words tells."""

    of: ClassVar = RecurrentTagging

    def temperature(self, given: Answered) -> tuple[float, int]:
        """Return the best temperature of the labeled words, and their number; of a random field that of its paths.

        There p(y | x) ∝ exp(s(x, y) / T), and T has the least -Σ log p of the true tags of rows, which is convex in
        1 / T, as of any exponential family (Guo et al. 2017, section 4.2, for classes).
        """
        head = cast("RecurrentHead", given.model.learner.heads[given.objective.name])
        if head.crf is None:
            return super().temperature(given)
        tags, field = len(given.objective.classes), copy.deepcopy(head.crf).cpu().double()
        words, labels = given.outputs.values[:, tags : 2 * tags], given.encoded.labels
        sizes = [len(first) for first in given.encoded.firsts]
        scores = pad_sequence([*torch.split(torch.from_numpy(words).double(), sizes)], batch_first=True)
        truth = pad_sequence([*torch.split(torch.from_numpy(labels).long(), sizes)], True, padding_value=IGNORE)

        @torch.no_grad()
        def loss(log_factor: float) -> float:
            factor, scaled = math.exp(log_factor), copy.deepcopy(field)
            scaled.rescale(factor)
            return float(scaled.losses(scores * factor, torch.tensor(sizes), truth).sum())

        return best_temperature(loss), int((labels != IGNORE).sum())


class CharacterSpansAnalysis(ClassificationAnalysis):
    """Analysis of spans of characters: a decision is the tag of a token, and spans are scored whole."""

    of: ClassVar = CharacterSpans
    unit: ClassVar[str] = "token"

    def owners(self, given: Answered) -> NDArray[np.int64]:
        """Return the row (U,) of each token."""
        return np.repeat(np.arange(len(given.rows)), self.lengths(given))

    def lengths(self, given: Answered) -> NDArray[np.int64]:
        """Return the tokens (N,) of each row, without special tokens."""
        return np.array([len(places) for places in given.encoded.places], np.int64)

    def classes(self, given: Answered) -> Classes | None:
        """Return the confusion matrix of the tags of tokens, and the scores of whole spans by label."""
        if not given.labeled.any() or (found := super().classes(given)) is None:
            return None
        report = ClassReport.of_entities(*(side.tolist() for side in given.sides(EntityF1())))
        return Classes("label of a span", report, found.confusion, unseen=found.unseen)

    def told(self, given: Answered, decision: int) -> Told:
        """Return the tag of a token, explained by its log-odds, with the token marked."""
        ends = [*accumulate(len(ids) for (ids,) in given.encoded.texts)]
        part = int(np.searchsorted(ends, decision, side="right"))
        place = decision - (ends[part] - len(given.encoded.texts[part][0]))
        row = int(self.owners(given)[decision])
        start, stop = given.encoded.places[row][decision - self.first(given, row)].tolist()
        return self.explained(given, decision, part, place, {0: [(start, stop)]})

    def first(self, given: Answered, row: int) -> int:
        """Return the index of the first token of a row."""
        return int(self.lengths(given)[:row].sum())

    def pieces(self, given: Answered, row: int, sequence: int) -> list[tuple[int, int, int]]:
        """Return the tokens of a part of a row."""
        begin = int(given.encoded.target_slices(np.array([sequence]))[0]) - self.first(given, row)
        places = given.encoded.places[row][begin : begin + len(given.encoded.texts[sequence][0])].tolist()
        return [(0, start, stop) for start, stop in places]
