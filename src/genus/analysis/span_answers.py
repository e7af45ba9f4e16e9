"""Analysis of answers that are spans of a context."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from genus.analysis import Analysis, Decisions, Told
from genus.evaluate.calibration import temperature_of_answers
from genus.evaluate.written import AnswerExactMatch, answer
from genus.tasks.question_answering import QuestionAnswering

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.analysis import Answered
    from genus.objectives.supervised.span_extraction import SpanExtraction

ASKS = ("what", "who", "whom", "whose", "when", "where", "which", "why", "how")
"""English question words."""
OTHER, NOTHING = "other", "(no answer)"
LONG = (1, 2, 3, 5, 10)
"""Words at which groups by the length of the answer begin; what is between is of the group before."""


class QuestionAnsweringAnalysis(Analysis):
    """Analysis of answers in a context: one that equals a reference is right, as exact match has it."""

    of: ClassVar = QuestionAnswering
    unit: ClassVar[str] = "question"

    def decisions(self, given: Answered) -> Decisions:
        """Return the answers, with their probability among the best spans."""
        right_N = np.zeros(len(given.rows), np.bool_)
        right_N[given.labeled] = AnswerExactMatch().summands(*given.sides(AnswerExactMatch()))[:, 0] > 0
        scores = [cast("dict[str, float]", one.scores)["probability"] for one in given.answers]
        return Decisions(np.arange(len(right_N)), given.labeled, right_N, np.array(scores, np.float64))

    def temperature(self, given: Answered) -> tuple[float, int]:
        """Return the best temperature of the labeled rows by whether their answers are right, and of how many it is."""
        threshold = cast("SpanExtraction", given.objective).null_threshold
        found = [best.candidates(threshold) for best in given.encoded.best(given.objective, given.outputs)]
        rows = np.flatnonzero(given.labeled)
        scores = np.full((len(rows), max(len(one) for one, _ in found)), -np.inf)
        for place, row in enumerate(rows.tolist()):
            scores[place, : len(found[row][0])] = found[row][0]
        told = np.array([found[row][1] for row in rows.tolist()], np.int64)
        return temperature_of_answers(scores, told, self.decisions(given).right_U[rows]), len(rows)

    def lengths(self, given: Answered) -> NDArray[np.int64]:
        """Return the tokens (N,) of each question and its whole context, without special tokens."""
        owner = given.encoded.owner.tolist()
        questions = dict(zip(owner, (len(question) for question, _ in given.encoded.texts), strict=True))
        return np.array([questions[row] + len(places) for row, places in enumerate(given.encoded.places)], np.int64)

    def groupings(self, given: Answered) -> dict[str, dict[str, list[int]]]:
        """Return the rows by question word, and by the number of words of the first reference."""
        asked: dict[str, list[int]] = {}
        long: dict[str, list[int]] = {}
        for row in np.flatnonzero(given.labeled).tolist():
            asked.setdefault(question_word(given.rows[row].texts[0]), []).append(row)
            long.setdefault(words_of(given.rows[row].labels[0]), []).append(row)
        order = [*ASKS, OTHER]
        lengths = [words_of(" x" * number) for number in (0, *LONG)]
        return {
            "question word": {name: asked[name] for name in order if name in asked},
            "words of the first reference": {name: long[name] for name in lengths if name in long},
        }

    def told(self, given: Answered, decision: int) -> Told:
        """Return an answer, explained by the logits of its begin and end in the window that has them."""
        row, found = given.rows[decision], given.answers[decision]
        scores = cast("dict[str, Any]", found.scores)
        window, first, last = self.window(given, decision, empty=not found.predicted)

        def logits(outputs: dict[str, Tensor]) -> Tensor:
            begin_1C, end_1C = outputs.values()
            return begin_1C[0, first] + end_1C[0, last]

        truth = " / ".join(dict.fromkeys(label or NOTHING for label in row.labels))
        marks = {1: [(int(scores["start"]), int(scores["end"]))]} if found.predicted else {}
        return Told(truth, str(found.predicted) or NOTHING, "logits of begin and end", window, logits, marks)

    def window(self, given: Answered, row: int, *, empty: bool) -> tuple[int, int, int]:
        """Return the window of a row that has its best span, and begin and end there; or the least null position's."""
        spans, encoded = cast("SpanExtraction", given.objective), given.encoded
        several = np.flatnonzero(encoded.owner == row).tolist()
        values = {number: given.outputs.values[number, : len(encoded.begins[number])] for number in several}
        if empty:
            return min(several, key=lambda number: float(values[number][0].sum())), 0, 0
        ranked = {number: spans.ranked(values[number], encoded.begins[number]) for number in several}
        best = max((number for number in several if len(ranked[number][1])), key=lambda number: ranked[number][1][0])
        first, last = ranked[best][0][0].tolist()
        return best, first, last

    def pieces(self, given: Answered, row: int, sequence: int) -> list[tuple[int, int, int]]:
        """Return the pieces of the question, and of a window of the context."""
        question, context = (len(ids) for ids in given.encoded.texts[sequence])
        first = int(given.encoded.first[sequence])
        places = given.encoded.places[row][first : first + context].tolist()
        return self.cut_pieces(given, row, 0, question) + [(1, start, stop) for start, stop in places]


def question_word(question: str) -> str:
    """Return the first English question word; `other` where there is none."""
    found = (word for word in re.findall(r"\w+", question.lower()) if word in ASKS)
    return next(found, OTHER)


def words_of(reference: str) -> str:
    """Return the group of a reference by its number of words, as answers are compared."""
    number = len(answer(reference).split())
    if number == 0:
        return "none"
    place = max(place for place, least in enumerate(LONG) if least <= number)
    least, after = LONG[place], LONG[place + 1] if place + 1 < len(LONG) else None
    if after is None:
        return f"{least} or more"
    return str(least) if after == least + 1 else f"{least} to {after - 1}"
