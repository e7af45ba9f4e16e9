"""The best spans of a context as answers to a question: texts cut out of it, with their places and scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genus.objectives.supervised.span_extraction import N_BEST

if TYPE_CHECKING:
    from collections.abc import Iterable


class Span(NamedTuple):
    """Characters [start, stop) of a context."""

    start: int
    stop: int
    score: float
    """The logits of its begin and its end, summed."""


@dataclass(frozen=True, slots=True)
class BestSpans:
    """The best spans of a question's context; their texts are the context's own characters."""

    context: str
    spans: tuple[Span, ...]
    """Best first, with different texts; none where the context has no text."""
    null: float
    """The logits of the null position, summed, the least of all windows."""

    @classmethod
    def of(cls, context: str, ranked: Iterable[Span], null: float) -> BestSpans:
        """Return the best of the spans, which come best first; of those with the same text, the first one.

        White space at both ends of a span is left out.
        """
        best: dict[str, Span] = {}
        for span in ranked:
            start, stop = stripped(context, span.start, span.stop)
            if start < stop:
                best.setdefault(context[start:stop], Span(start, stop, span.score))
            if len(best) == N_BEST:
                break
        return cls(context, tuple(best.values()), null)

    @property
    def text(self) -> str:
        """The text of the best span; empty where there is none."""
        return self.context[slice(*self.spans[0][:2])] if self.spans else ""

    @property
    def difference(self) -> float:
        """How far the null position is above the best span (run_squad.py: score_diff)."""
        return self.null - self.spans[0].score

    def candidates(self, threshold: float | None) -> tuple[list[float], int]:
        """Return the scores of what may be told, the best spans and last that there is no answer, and which is told.

        Args:
            threshold: as in `answered`.
        """
        scores = [span.score for span in self.spans] + [self.null] * (threshold is not None or not self.spans)
        none = not self.spans or (threshold is not None and self.difference > threshold)
        return scores, len(self.spans) if none else 0

    def answered(self, threshold: float | None) -> tuple[str, dict[str, float]]:
        """Return the answer with its place, its score, and the softmax of this among those of the best spans.

        Args:
            threshold: there is no answer where `difference` is above it; None: there always is one.
        """
        able = threshold is not None and bool(self.spans)
        scores, chosen = self.candidates(threshold)
        chances = np.exp(np.array(scores) - max(scores))
        start, stop, score = Span(0, 0, self.null) if chosen == len(self.spans) else self.spans[0]
        chance = float(chances[chosen] / chances.sum())
        told = {"start": start, "end": stop, "score": score, "probability": chance}
        return self.context[start:stop], told | ({"null_difference": self.difference} if able else {})


def stripped(text: str, start: int, stop: int) -> tuple[int, int]:
    """Return a span without the white space at both of its ends."""
    inner = text[start:stop]
    return start + len(inner) - len(inner.lstrip()), stop - len(inner) + len(inner.rstrip())
