"""ERNIE 2.0's formats: token-document relation, sentence reordering and sentence distance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np

from genus.examples import EpochPlan, Example, ExampleFormat, Sequence
from genus.examples.formats.pairs import PairFormat, cut, elsewhere
from genus.examples.formats.sentences import framed, plan_runs
from genus.examples.keys import PLAN, generator
from genus.part import Range

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Limits
    from genus.examples.blocks import Documents, SentenceBlock
    from genus.examples.formats.pairs import Labeled
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


class ShuffledSegments(ExampleFormat):
    """Sentence reordering: runs of sentences as in `DocSentences`, split into 1 to `most` segments in random order.

    Segments are joined by a separator. The label is the number of segments and their permutation: of the Σ n! classes,
    those of fewer segments come first, and those of n segments are in the lexicographic order of permutations.

    Source: Sun et al. 2019, ERNIE 2.0, section 3.2.2, sentence reordering. The number of segments is drawn uniformly
    from those that the sentences allow, and the cuts uniformly from all.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"sentence_reordering"})

    most: Annotated[int, Range("2 to 4 segments", lambda number: 2 <= number <= 4)] = 3
    """Largest number of segments; with 1 there is one class, with more than 4 too many classes to learn."""

    @property
    def classes(self) -> int:
        """Number of classes, Σ n! for n from 1 to `most`: 9 for 3 segments."""
        return sum(math.factorial(n) for n in range(1, self.most + 1))

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Cut every document into runs, cut each run into segments, and shuffle the segments."""
        runs = plan_runs(documents, store, vocabulary, limits["tokens"] - self.most + 1, across=False, separators=0)
        rng = generator(seed, PLAN, epoch, documents.number)
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
        return EpochPlan(
            offsets=np.concatenate([[0], np.cumsum(spans)]),
            start=start,
            stop=stop,
            segment=np.zeros(len(start), dtype=np.int8),
            label=label.astype(np.int8),
            lengths={"tokens": runs.lengths["tokens"][np.argsort(number, kind="stable")] + spans - 1},
        )

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the segments with special tokens, and the target `sentence_reordering` at the summary token."""
        texts = [plan.text(span, store) for span in range(plan.offsets[index], plan.offsets[index + 1])]
        tokens = framed(texts, vocabulary, separators=1)
        target = np.array([vocabulary.whole(len(tokens.ids))]), np.array([plan.label[index]], dtype=np.int64)
        return Example({"tokens": tokens}, {"sentence_reordering": target})


def distinct(below: NDArray[np.int64], number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Sample `number` distinct integers from [0, below) for each `below` (E,), uniformly; ascending (E, number).

    Floyd's algorithm (Bentley and Floyd 1987, Communications of the ACM 30(9), algorithm F2).
    """
    chosen = np.zeros((len(below), 0), dtype=np.int64)
    for top in (below - number + step for step in range(number)):
        draw = rng.integers(0, top + 1)
        again = (chosen == draw[:, None]).any(axis=1)
        chosen = np.column_stack([chosen, np.where(again, top, draw)])
    return np.sort(chosen, axis=1)


def rank(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the lexicographic rank (E,), from 0, of each permutation (E, n) among all n!."""
    n = order.shape[1]
    place = np.zeros(len(order), dtype=np.int64)
    for column in range(n):
        smaller = (order[:, column + 1 :] < order[:, column, None]).sum(axis=1)
        place += math.factorial(n - 1 - column) * smaller
    return place


class DistantSentences(PairFormat):
    """Sentence distance: pairs of each sentence with another one.

    Label 0: the next sentence; 1: a sentence of the same document that is not adjacent; 2: one of another document. The
    label is drawn uniformly; it becomes 2 if the document has no such sentence.

    Source: Sun et al. 2019, ERNIE 2.0, section 3.2.2, sentence distance.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"sentence_distance"})

    @property
    def classes(self) -> int:
        """Three classes: adjacent, same document, different documents."""
        return 3

    def pairs(
        self, block: SentenceBlock, store: Store, vocabulary: Vocabulary, room: int, rng: np.random.Generator
    ) -> Labeled:
        """Return starts and stops (E, 2) and labels (E,) of a block's pairs."""
        one = np.arange(len(block.end))
        begin = np.searchsorted(block.document, block.document)
        first, last = np.maximum(one - 1, begin), np.minimum(one + 1, block.end - 1)  # itself and its neighbors
        beside = last - first + 1
        far = block.end - begin - beside
        label = rng.integers(0, 3, len(one))
        label[((label == 0) & (one + 1 == block.end)) | ((label == 1) & (far == 0))] = 2
        other = begin + (rng.random(len(one)) * far).astype(np.int64)
        other += np.where(other >= first, beside, 0)
        other = np.where(label == 0, last, np.minimum(other, len(one) - 1))
        start, stop = block.start[other], block.stop[other]
        away = label == 2
        least = np.zeros(away.sum(), dtype=np.int64)  # tokens to reach: 0 takes one sentence
        start[away], stop[away] = elsewhere(store, block.document[away], least, rng)
        return *cut((block.start, block.stop), (start, stop), room, rng), label.astype(np.int8)


class DocumentSegments(ExampleFormat):
    """Segments of documents for token-document relation: a token's label is 1 if another segment contains it too.

    Segments are runs of whole sentences as in `DocSentences`. A document that is one run is halved at a sentence; a
    document of a single sentence that fits has no other segment and is left out.

    Source: Sun et al. 2019, ERNIE 2.0, section 3.2.1, token-document relation prediction.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"token_document"})
    stochastic: ClassVar[bool] = False
    nothing: ClassVar[str] = "no document has two segments, which the token-document relation is about"

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Cut each document into segments; beside each stands the span of its document, which `read` alone looks at."""
        runs = plan_runs(documents, store, vocabulary, limits["tokens"], across=False, separators=0)
        own = store.documents[documents.first : documents.last]
        bounds = store.sentences[own]
        document = np.searchsorted(bounds[:, 1], runs.start, side="right")
        whole = (runs.start == bounds[document, 0]) & (runs.stop == bounds[document, 1])
        halved = document[whole & (np.diff(own[document]).ravel() > 1)]
        middle = store.sentences[own[halved].sum(1) // 2]
        start = np.concatenate([runs.start[~whole], bounds[halved, 0], middle])
        stop = np.concatenate([runs.stop[~whole], middle, bounds[halved, 1]])
        of = bounds[np.concatenate([document[~whole], halved, halved])]
        examples = len(start)
        return EpochPlan(
            offsets=np.arange(0, 2 * examples + 1, 2),
            start=np.stack([start, of[:, 0]], axis=1).reshape(-1),
            stop=np.stack([stop, of[:, 1]], axis=1).reshape(-1),
            segment=np.zeros(2 * examples, dtype=np.int8),
            label=np.full(examples, -1, dtype=np.int8),
            lengths={"tokens": stop - start + vocabulary.framing(1)},
        )

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the segment with special tokens, and the target `token_document` at every token of text."""
        segment, document = range(plan.offsets[index], plan.offsets[index + 1])
        text = plan.text(segment, store)
        before = store.ids[plan.start[document] : plan.start[segment]]
        after = store.ids[plan.stop[segment] : plan.stop[document]]
        label = np.isin(text, np.concatenate([before, after])).astype(np.int64)
        framed = Sequence(*vocabulary.frame(text))
        return Example({"tokens": framed}, {"token_document": (np.flatnonzero(~framed.fixed), label)})
