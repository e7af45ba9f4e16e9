"""Extractive question answering: the answer to a question is a span of a context (SQuAD), or there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from genus.errors import UsageError
from genus.evaluate.metrics import Metric  # a choice is read by its annotation
from genus.evaluate.thresholds import best_threshold
from genus.evaluate.written import AnswerExactMatch, AnswerF1, referenced
from genus.objectives.supervised.span_extraction import SpanExtraction
from genus.part import Count, Fraction
from genus.tasks import Task
from genus.tasks.cell import answers_in, text_in, written
from genus.tasks.dataset import LabeledRow
from genus.tasks.encode import room_for
from genus.tasks.learned_spans import NONE, LearnedSpans
from genus.tasks.windows import EncodedWindows, windows, with_most_context

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.objectives.supervised import FineTuned
    from genus.tasks.answer import Outputs
    from genus.tasks.dataset import Label
    from genus.tasks.encode import EncodedTexts
    from genus.tokens.tokenizer import Tokenizer

STRIDE, SHARE = 128, 3
"""Tokens from window to window (released code, run_squad.py: doc_stride), and that of a sequence which they are of its
384 tokens (max_seq_length): shorter sequences have windows as near each other."""


class QuestionAnswering(Task):
    """Extractive question answering: the answer to each question is a span of its context, or none.

    The label is a list of texts with the characters at which they begin, `{"text": [...], "answer_start": [...]}`,
    empty where there is no answer. The first one is learned, all are references.

    Source: Rajpurkar et al. 2016 and 2018; Devlin et al. 2018, sections 4.2 and 4.3.
    """

    learns: ClassVar = SpanExtraction
    answers: ClassVar = "answer"
    judged: ClassVar[tuple[str, ...]] = ("written texts",)
    labels_stand_in_texts: ClassVar = True

    texts: tuple[str, ...] = ("question", "context")
    label: str = "answers"
    id: str = "id"
    """The column of the rows' names, which a table need not have."""
    metrics: tuple[Metric, ...] = (AnswerF1(), AnswerExactMatch())
    dropout: Fraction | None = 0.0
    stride: Count | None = None
    """Tokens from window to window; None: see `SpanExtraction`, and so below, in evaluation the model's own."""
    question_length: Count | None = None
    """Most tokens of a question."""
    answer_length: Count | None = None
    """Most tokens of an answer."""
    null_threshold: float | None = None
    """How far above its best span the null position makes that a question has no answer; None: what is best for the
    first metric in validation, if there are such questions in training."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: other than the two columns of question and context; no metric, or one that does not judge texts.
        """
        if len(self.texts) != 2 or self.symmetric:
            raise UsageError("texts: name the column of the question, then that of the context; they are read in this "
                             "order alone")  # fmt: skip
        self._check_metrics(())

    @property
    def others(self) -> tuple[str, ...]:
        """The column of names."""
        return (self.id,)

    def read(self, row: dict[str, Any]) -> tuple[tuple[str, ...], Label | None]:
        """Return question and context of a row, and its answers: an empty one where there is none.

        Raises:
            ValueError: a column holds something else.
        """
        found = self.row(0, row)
        return found.texts, found.label

    def row(self, line: int, row: dict[str, Any]) -> LabeledRow:
        """Return a row of a table with the places of its answers; see `read`."""
        texts = tuple(text_in(row, column) for column in self.texts)
        name = written(row.get(self.id), self.id) or None
        answers = answers_in(row, self.label)
        if answers is None:
            return LabeledRow(line, texts, None, id=name)
        labels, starts = zip(*answers, strict=True) if answers else ((NONE,), ())
        return LabeledRow(line, texts, labels, starts, name)

    def objective(self, labels: Sequence[str]) -> SpanExtraction:
        """Return the objective, with a null threshold if any question has no answer."""
        found = SpanExtraction(null_threshold=0.0 if NONE in labels else None)
        return self.chosen(found)

    def chosen(self, objective: FineTuned) -> SpanExtraction:
        """Return the objective with those lengths and the threshold that are given."""
        names = ("stride", "question_length", "answer_length", "null_threshold")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return replace(cast("SpanExtraction", objective), **given)

    def tuned(self, objective: FineTuned, encoded: EncodedTexts, found: Outputs) -> FineTuned:
        """Return the objective with the best null threshold for the mean of the first metric, unless it is given."""
        spans, asked = cast("SpanExtraction", objective), cast("EncodedWindows", encoded)
        if spans.null_threshold is None or self.null_threshold is not None:
            return objective
        best = [one for one, row in zip(asked.best(spans, found), asked.rows, strict=True) if row.label is not None]
        gained = [
            (one.difference, self._score(several, one.text) - self._score(several, NONE))
            for one, several in zip(best, asked.references(able=True), strict=True)
            if one.spans
        ]
        if not gained:
            return objective
        return replace(spans, null_threshold=best_threshold(*np.array(gained).T))

    def _score(self, references: tuple[str, ...], text: str) -> float:
        """Return the first metric of one answer."""
        return self.metrics[0](referenced([references]), np.array([text], dtype=object))

    def encode(
        self,
        tokenizer: Tokenizer,
        rows: Sequence[LabeledRow],
        objective: FineTuned,
        max_length: int,
        path: Path | None = None,
    ) -> EncodedWindows:
        """Tokenize the questions, each with every window of its context; a question that is too long loses its end.

        Raises:
            GenusError: `max_length` leaves no room for text beside the special tokens.
        """
        spans, vocabulary = cast("SpanExtraction", objective), tokenizer.vocabulary
        whole = room_for(2, vocabulary, max_length)
        longest = min(spans.question_length, whole // 2)
        stride = spans.stride or min(STRIDE, max(1, max_length // SHARE))
        known = {text: tokenizer.encode_with_offsets(text) for text in {row.texts[1] for row in rows}}
        contexts, places = zip(*(known[row.texts[1]] for row in rows), strict=True)
        questions = tokenizer.encode([row.texts[0] for row in rows], specials=False)
        asked = [np.array(ids[:longest], np.int32) for ids in questions]
        pairs = zip(asked, contexts, strict=True)
        cuts = [windows(len(context), whole - len(question), stride) for question, context in pairs]
        labels = LearnedSpans(spans, longest)
        learned = map(labels, rows, map(len, questions), places, cuts)
        every = [(row, *window) for row, cut in enumerate(cuts) for window in cut]
        return EncodedWindows(
            texts=[(asked[row], contexts[row][first : first + count].astype(np.int32)) for row, first, count in every],
            labels=np.array([label for several in learned for label in several], np.int64),
            target=objective.target,
            vocabulary=vocabulary,
            max_length=max_length,
            cut=np.zeros(0, np.int64),
            rows=rows,
            places=places,
            owner=np.array([row for row, _, _ in every]),
            first=np.array([first for _, first, _ in every]),
            begins=[np.append(False, begins) for cut in cuts for begins in with_most_context(cut)],
            notices=labels.notices,
        )
