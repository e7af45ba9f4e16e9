"""Paragraphs whose segments are shuffled.

Legend: E examples, n segments.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np

from genus.examples import Example, Examples, Plan
from genus.examples.keys import PLAN, generator
from genus.examples.runs import framed, plan_runs
from genus.part import Range

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Limits
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


class ShuffledSegments(Examples):
    """Runs of sentences as in `DocSentences`, split into 1 to `most` segments, which stand in random order.

    A separator stands between segments. The label says how many they are and in which order: of the Σ n! classes, those
    of fewer segments come first, and those of n segments in the order of their permutations as words.

    Source: Sun et al. 2019, ERNIE 2.0, section 3.2.2, sentence reordering. The number of segments is drawn evenly from
    what the sentences allow, and the cuts evenly from all.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"sentence_reordering"})

    most: Annotated[int, Range("2 to 4 segments", lambda number: 2 <= number <= 4)] = 3
    """Fewer have one class, more have too many to learn."""

    @property
    def classes(self) -> int:
        """How many labels there are: 9 for 3 segments."""
        return sum(math.factorial(n) for n in range(1, self.most + 1))

    def plan(self, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int) -> Plan:
        """Cut every document into runs, each run into segments, and shuffle them."""
        runs = plan_runs(store, vocabulary, limits["tokens"] - self.most + 1, across=False, separators=0)
        rng = generator(seed, PLAN, epoch, 0)
        within = np.searchsorted(store.sentences, runs.start, side="right")  # the first sentence to begin inside
        inner = np.searchsorted(store.sentences, runs.stop, side="left") - within
        number = 1 + (rng.random(len(runs)) * np.minimum(self.most, inner + 1)).astype(np.int64)
        parts, labels = [], []
        for n in range(1, self.most + 1):
            own = number == n
            cuts = store.sentences[within[own, None] + distinct(inner[own], n - 1, rng)]
            bounds = np.column_stack([runs.start[own], cuts, runs.stop[own]])
            order = rng.permuted(np.tile(np.arange(n), (len(bounds), 1)), axis=1)
            spans = np.stack([bounds[:, :-1], bounds[:, 1:]], axis=-1)
            parts.append(np.take_along_axis(spans, order[..., None], axis=1).reshape(-1, 2))
            labels.append(sum(math.factorial(fewer) for fewer in range(1, n)) + rank(order))
        label = np.concatenate(labels)
        spans = np.sort(number)
        start, stop = np.concatenate(parts).T
        return Plan(
            offsets=np.concatenate([[0], np.cumsum(spans)]),
            start=start,
            stop=stop,
            segment=np.zeros(len(start), dtype=np.int8),
            label=label.astype(np.int8),
            lengths={"tokens": runs.lengths["tokens"][np.argsort(number, kind="stable")] + spans - 1},
        )

    def read(self, plan: Plan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the framed segments, with the target `sentence_reordering` at the token that stands for the whole."""
        texts = [plan.text(span, store) for span in range(plan.offsets[index], plan.offsets[index + 1])]
        tokens = framed(texts, vocabulary, separators=1)
        target = np.array([vocabulary.whole(len(tokens.ids))]), np.array([plan.label[index]], dtype=np.int64)
        return Example({"tokens": tokens}, {"sentence_reordering": target})


def distinct(below: NDArray[np.int64], number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return `number` different integers in [0, below) (E,) for each, any set as likely, rising (E, number).

    By Floyd's method (Bentley and Floyd 1987, Communications of the ACM 30(9), algorithm F2).
    """
    chosen = np.zeros((len(below), 0), dtype=np.int64)
    for top in (below - number + step for step in range(number)):
        draw = rng.integers(0, top + 1)
        again = (chosen == draw[:, None]).any(axis=1)
        chosen = np.column_stack([chosen, np.where(again, top, draw)])
    return np.sort(chosen, axis=1)


def rank(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place (E,) of each permutation (E, n) among all n! in the order of words."""
    n = order.shape[1]
    place = np.zeros(len(order), dtype=np.int64)
    for column in range(n):
        smaller = (order[:, column + 1 :] < order[:, column, None]).sum(axis=1)
        place += math.factorial(n - 1 - column) * smaller
    return place
