"""Which tokens of its context are the answer to a question, and what of answers, questions and contexts is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.batch import IGNORE
from genus.tasks.notices import Notices
from genus.tasks.spans import stripped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from genus.objectives.supervised.span_extraction import SpanExtraction
    from genus.tasks.dataset import LabeledRow

NONE = ""
"""The label of a question without an answer."""
NULL, UNLEARNED = (0, 0), (IGNORE, IGNORE)
"""Labels of a window: of one that does not hold the answer, and of one that is no target."""


class LearnedSpans:
    """The labels of windows: begin and end of the answer, as numbers of candidates; what is wrong is counted."""

    def __init__(self, objective: SpanExtraction, longest: int) -> None:
        self.objective = objective
        self.longest = longest
        """Most tokens of a question, which no setting makes more than half of a sequence."""
        self.notices = Notices()
        self._ids: set[str] = set()

    def __call__(
        self, row: LabeledRow, question: int, places: NDArray[np.int64], cut: Sequence[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """Return the label of each window of a row.

        Args:
            row: the question with its context and, if it is labeled, its answers.
            question: number of tokens of the question, however many of them are read.
            places: (tokens, 2) characters [start, stop) of the context's tokens, ascending.
            cut: first token and number of tokens of each window.
        """
        self._look(row, question, len(places))
        if NONE in row.labels:
            if self.objective.null_threshold is None:
                self._say(row, "questions have no answer, which this model never says; train it with such questions, "
                          "or give --task-set null_threshold=0")  # fmt: skip
            return [NULL] * len(cut)
        span = self._tokens(row, places)
        if span is None:
            return [UNLEARNED] * len(cut)
        first, last = span
        whole = [start <= first and last < start + count for start, count in cut]
        if not any(whole):
            self._say(row, "answers are in no window of their context whole; they are no targets")
            return [UNLEARNED] * len(cut)
        labels = zip(whole, cut, strict=True)
        return [(first - start + 1, last - start + 1) if held else NULL for held, (start, _) in labels]

    def _say(self, row: LabeledRow, what: str) -> None:
        self.notices.add(what, row.line)

    def _look(self, row: LabeledRow, question: int, context: int) -> None:
        """Count what is not read of a row."""
        if not question:
            self._say(row, "questions are empty, or the tokenizer leaves nothing of them")
        if question > self.longest:
            self._say(row, f"questions have over {self.longest} tokens and lose their end; take a larger "
                      "question_length, or finetuning.max_length")  # fmt: skip
        if not context:
            self._say(row, "contexts are empty, or the tokenizer leaves nothing of them: no text is the answer")
        if row.id in self._ids:
            self._say(row, "ids are those of earlier rows; tell rows apart by their lines")
        self._ids |= set() if row.id is None else {row.id}

    def _tokens(self, row: LabeledRow, places: NDArray[np.int64]) -> tuple[int, int] | None:
        """Return the first and the last token of the first answer that stands where it says; None: there is none."""
        context = row.texts[1]
        there = [pair for pair in zip(row.labels, row.starts, strict=True) if self._stands(row, *pair)]
        if not there:
            return None
        text, at = there[0]
        start, stop = stripped(context, at, at + len(text))
        starts, stops = places.T
        first, last = int(np.searchsorted(stops, start, side="right")), int(np.searchsorted(starts, stop)) - 1
        if first > last:
            self._say(row, "answers have no token, as the tokenizer leaves nothing of them; they are no targets")
            return None
        if last - first >= self.objective.answer_length:
            self._say(row, f"answers have over {self.objective.answer_length} tokens, and are never given; take a "
                      "larger answer_length")  # fmt: skip
        if stripped(context, int(starts[first]), int(stops[last])) != (start, stop):
            self._say(row, "answers begin or end where no token does: the nearest tokens are learned")
        return first, last

    def _stands(self, row: LabeledRow, text: str, start: int) -> bool:
        """Return whether an answer stands at its place in the context."""
        context = row.texts[1]
        there = start >= 0 and context[start : start + len(text)] == text
        if not there:
            where = "at their answer_start, but elsewhere in the context" if text in context else "in their context"
            self._say(row, f"answers do not stand {where}; they are no targets")
        return there
