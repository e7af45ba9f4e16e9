"""Questions on contexts, tokenized: a long context is read in overlapping windows.

Legend: N windows, C candidates of a window: the null position, then its tokens of the context.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch

from genus.batch import IGNORE, Targets
from genus.evaluate.written import answer, referenced
from genus.examples import Example
from genus.tasks.encode import EncodedTexts
from genus.tasks.spans import BestSpans, Span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Several

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.objectives.supervised import FineTuned
    from genus.objectives.supervised.span_extraction import SpanExtraction
    from genus.tasks.answer import Outputs
    from genus.tasks.dataset import LabeledRow
    from genus.tasks.notices import Notices

CONTEXT, OTHER = -1, -2
"""What stands for tokens of the context, and for others, where a template is asked for their places."""


def windows(length: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Return the windows of a context of so many tokens: (first token, tokens); there is one of an empty context.

    They have up to `room` tokens, begin `stride` tokens apart, or `room` where that is less, and together have every
    token (released code, run_squad.py: doc_spans).
    """
    found = [(0, min(length, room))]
    while sum(found[-1]) < length:
        first = found[-1][0] + min(stride, room)
        found.append((first, min(length - first, room)))
    return found


def with_most_context(spans: Several[tuple[int, int]]) -> list[NDArray[np.bool_]]:
    """Return for each token of each window whether it has the most context there of all windows, which one alone has.

    That is the least of the numbers of tokens before and after it (released code, run_squad.py: _check_is_max_context).
    """
    length = max(first + count for first, count in spans)
    most, best = np.full(length, -np.inf), np.zeros(length, np.int64)
    for window, (first, count) in enumerate(spans):  # a table of all windows and tokens would not fit in memory
        before, own = np.arange(count), slice(first, first + count)
        scores = np.minimum(before, before[::-1]) + 0.01 * count
        better = scores > most[own]
        most[own][better], best[own][better] = scores[better], window
    return [best[first : first + count] == window for window, (first, count) in enumerate(spans)]


@dataclass(frozen=True)
class EncodedWindows(EncodedTexts):
    """Tokenized questions, each with a window of its context; every window is an example of its own.

    Its label is begin and end of the answer among its candidates, 0 for both where it does not hold the answer whole.
    """

    nothing_left: ClassVar[str] = "no row has an answer at its answer_start of which the tokenizer leaves something"

    rows: Several[LabeledRow]
    places: Several[NDArray[np.int64]]
    """(tokens, 2) characters [start, stop) of the tokens of each row's context."""
    owner: NDArray[np.int64]
    """(N,) index of each window's row, ascending."""
    first: NDArray[np.int64]
    """(N,) index of each window's first token in its context."""
    begins: Several[NDArray[np.bool_]]
    """(C,) for each window, the candidates at which a span may begin, those with the most context there."""
    notices: Notices

    @property
    def candidates(self) -> int:
        """The largest number of candidates of a window."""
        return max(map(len, self.begins), default=1)

    def example(self, index: int) -> Example:
        """Return one window, whose target is at its beginning, and has its index in the place of a label."""
        return Example({"tokens": self._framed(index)}, {self.target: (np.zeros(1, np.int64), np.array([index]))})

    def gathered(self, targets: Targets, chosen: NDArray[np.int64]) -> Targets:
        """Return one target per window: its candidates (M, C), and which are begin and end (M, 2)."""
        beginning = dict(zip(targets.label.tolist(), targets.index.tolist(), strict=True))
        index = torch.full((len(chosen), self.candidates), -1)
        for row, window in enumerate(chosen.tolist()):
            places = self.candidates_of(window) + beginning[window]
            index[row, : len(places)] = torch.from_numpy(places)
        return Targets(index, torch.from_numpy(self.labels[chosen]))

    def candidates_of(self, window: int) -> NDArray[np.int64]:
        """Return the places (C,) of a window's candidates in its sequence.

        The null position is that of the token `cls`, of XLNet's template the last one; without it, the first token.
        """
        question, context = (len(ids) for ids in self.texts[window])
        ids, _, _ = self.vocabulary.frame(np.full(question, OTHER), np.full(context, CONTEXT))
        special = np.flatnonzero(ids == self.vocabulary.roles.get("cls", OTHER - 1))
        null = special[-1 if self.vocabulary.summary == "last" else 0] if len(special) else 0
        return np.append(null, np.flatnonzero(ids == CONTEXT))

    @property
    def is_empty(self) -> bool:
        """Whether no window has a target."""
        return not (self.labels != IGNORE).any()

    @property
    def warnings(self) -> list[str]:
        """Messages on what is not read as it stands, or not learned, and on the number of windows."""
        rows, found = len(self.rows), self.notices.sentences()
        if len(self) > rows:
            found.append(f"{rows:,} rows are read in {len(self):,} windows of at most {self.max_length} tokens")
        return found

    def answer(self, outputs: dict[str, Tensor], targets: Targets) -> Tensor:
        """Return the logits of begin and end (M, C, 2)."""
        return torch.stack([*outputs.values()], dim=-1)

    def best(self, objective: FineTuned, outputs: Outputs) -> list[BestSpans]:
        """Return the best spans of each row, over all of its windows (released code, run_squad.py)."""
        spans, logits_NC2 = cast("SpanExtraction", objective), outputs.values
        null_N = logits_NC2[:, 0].astype(np.float64).sum(-1)
        bounds = np.searchsorted(self.owner, np.arange(len(self.rows) + 1))
        found = []
        for row, (some, end) in enumerate(pairwise(bounds.tolist())):
            ranked = [spans.ranked(logits_NC2[n, : len(self.begins[n])], self.begins[n]) for n in range(some, end)]
            tokens = np.concatenate([pairs + self.first[some + n] - 1 for n, (pairs, _) in enumerate(ranked)])
            scores = np.concatenate([sums for _, sums in ranked])
            best = self._spans(row, tokens, scores, np.argsort(-scores, kind="stable"))
            found.append(BestSpans.of(self.rows[row].texts[1], best, float(null_N[some:end].min())))
        return found

    def _spans(
        self, row: int, tokens: NDArray[np.int64], scores: NDArray[np.float64], order: NDArray[np.int64]
    ) -> Iterator[Span]:
        """Yield spans of tokens of a row's context as characters."""
        for one in order.tolist():
            (start, _), (_, stop) = self.places[row][tokens[one]].tolist()
            yield Span(start, stop, float(scores[one]))

    def references(self, *, able: bool) -> list[tuple[str, ...]]:
        """Return the right answers of each labeled row; none is the empty text.

        Where a model is able to give none, texts of which nothing is compared are no references, unless all are such
        (evaluate-v2.0.py).
        """
        labels = [row.labels for row in self.rows if row.label is not None]
        return [tuple(filter(answer, several)) or ("",) for several in labels] if able else labels

    def for_metrics(self, objective: FineTuned, outputs: Outputs, judges: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return references and predicted texts of the labeled rows."""
        given = [text for text, _ in self.answers(objective, outputs)]
        texts = [text for row, text in zip(self.rows, given, strict=True) if row.label is not None]
        able = cast("SpanExtraction", objective).null_threshold is not None
        return referenced(self.references(able=able)), np.array(texts, dtype=object)

    def answers(self, objective: FineTuned, outputs: Outputs) -> list[tuple[Any, Any]]:
        """Return the answer of each row, with its place in the context, its score and its probability."""
        threshold = cast("SpanExtraction", objective).null_threshold
        return [best.answered(threshold) for best in self.best(objective, outputs)]
