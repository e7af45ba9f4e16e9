"""Segment pairs: the base of formats with two segments, and the truncation and sampling of spans."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.errors import GenusError
from genus.examples import EpochPlan, Example, ExampleFormat, Sequence
from genus.examples.blocks import SentenceBlock, flatten
from genus.examples.keys import PLAN, generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Limits
    from genus.examples.blocks import Documents
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary

    Span = tuple[NDArray[np.int64], NDArray[np.int64]]
    Labeled = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]
    """Starts and stops (E, 2) of the two segments, and labels (E,)."""


class PairFormat(ExampleFormat):
    """A format of labeled segment pairs: chunks of sentences, split in two; the label is the format's one target.

    A pair that is too long is truncated token by token, each from the currently longer segment, at its front or back
    with equal probability.
    """

    texts: ClassVar[int] = 2
    nothing: ClassVar[str] = "the corpus has no text of which {format} can make a pair"

    @abstractmethod
    def pairs(
        self, block: SentenceBlock, store: Store, vocabulary: Vocabulary, room: int, rng: np.random.Generator
    ) -> Labeled:
        """Return starts and stops (E, 2) of a block's pairs, at most `room` tokens each, and labels (E,)."""

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Cut some documents into pairs.

        Raises:
            GenusError: no room for two segments, or what the format itself cannot do without.
        """
        max_length = limits["tokens"]
        room = max_length - vocabulary.framing(2)
        if room < 2:
            least = vocabulary.framing(2) + 2
            raise GenusError(f"sequences of {max_length} have no room for a pair: choose max_length {least} or more")
        rng = generator(seed, PLAN, epoch, documents.number)
        start, stop, label = self.pairs(flatten(store, documents), store, vocabulary, room, rng)
        examples = len(label)
        return EpochPlan(
            offsets=np.arange(0, 2 * examples + 1, 2),
            start=start.reshape(-1),
            stop=stop.reshape(-1),
            segment=np.tile(np.array([0, 1], dtype=np.int8), examples),
            label=label,
            lengths={"tokens": (stop - start).sum(1) + vocabulary.framing(2)},
        )

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the pair with special tokens, and its label as a target at the summary token."""
        (target,) = self.provides
        spans = range(plan.offsets[index], plan.offsets[index + 1])
        framed = vocabulary.frame(*(plan.text(span, store) for span in spans))
        label = np.array([plan.label[index]], dtype=np.int64)
        return Example({"tokens": Sequence(*framed)}, {target: (np.array([vocabulary.whole(len(framed[0]))]), label)})


def filled(block: SentenceBlock, room: int, short: float, rng: np.random.Generator) -> Span:
    """Return the ends (S,) of chunks that reach a target length or the end of the document, and the targets (S,).

    The target is `room` tokens, except in a share `short` of the documents: a number drawn from [2, room].
    """
    document = block.document - block.document[0]
    drawn = rng.random(document[-1] + 1) < short
    target = np.where(drawn, rng.integers(2, room + 1, len(drawn)), room)[document]
    reached = np.searchsorted(block.stop, block.start + target) + 1
    return np.minimum(reached, block.end), target


def cut(first: Span, second: Span, room: int, rng: np.random.Generator) -> Span:
    """Truncate pairs of spans (E,) to `room` tokens in total; return starts and stops (E, 2)."""
    (start_a, stop_a), (start_b, stop_b) = first, second
    kept_b = np.clip(room // 2, room - (stop_a - start_a), stop_b - start_b)
    kept_a = np.minimum(stop_a - start_a, room - kept_b)
    spans = shorten(start_a, stop_a, kept_a, rng), shorten(start_b, stop_b, kept_b, rng)
    start, stop = (np.stack(ends, axis=1) for ends in zip(*spans, strict=True))
    return start, stop


def elsewhere(store: Store, document: NDArray[np.int64], missing: NDArray[np.int64], rng: np.random.Generator) -> Span:
    """Return random spans (E,), each from a document other than `document` (E,).

    A span begins at a random sentence of a random document and takes whole sentences until it has `missing` (E,) tokens
    or the document ends, at least one sentence.

    Raises:
        GenusError: there is no other document.
    """
    if len(store.documents) == 1:
        raise GenusError(
            "there is one document, but text of another is needed: "
            "give four or more, with blank lines between them, or two with --run held_out=0"
        )
    other = rng.integers(0, len(store.documents) - 1, len(document))
    first, end = store.documents[other + (other >= document)].T
    sentence = rng.integers(first, end)
    start = store.sentences[sentence]
    wanted = start + missing
    order = np.argsort(wanted)  # sorted queries access a large corpus in order: four times as fast
    filled = np.empty_like(wanted)
    filled[order] = np.searchsorted(store.sentences, wanted[order])
    return start, store.sentences[np.clip(filled, sentence + 1, end)]


def shorten(
    start: NDArray[np.int64], stop: NDArray[np.int64], kept: NDArray[np.int64], rng: np.random.Generator
) -> Span:
    """Truncate spans (E,) to `kept` (E,) tokens, each token at the front or the back with equal probability."""
    lost = stop - start - kept
    front = rng.binomial(lost, 0.5)
    return start + front, stop - (lost - front)
