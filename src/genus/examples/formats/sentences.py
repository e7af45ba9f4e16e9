"""Sequences of consecutive full sentences, across documents or within one (RoBERTa)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.errors import GenusError
from genus.examples import EpochPlan, Example, ExampleFormat, Sequence
from genus.examples.blocks import SentenceBlock, flatten, follow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Limits
    from genus.examples.blocks import Documents
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


def plan_runs(
    documents: Documents, store: Store, vocabulary: Vocabulary, max_length: int, *, across: bool, separators: int
) -> EpochPlan:
    """Cut some documents into the longest runs of whole sentences that fit; every token is in one run.

    A sentence longer than the room is cut into pieces of the room's length, which then count as sentences.

    Args:
        documents: what to cut.
        store: whose documents they are.
        vocabulary: whose frame takes room.
        max_length: the room, frame included.
        across: a run may go on in the next one of the documents.
        separators: tokens that go between two documents of a run.

    Returns:
        The plan: a span for each document of a run.

    Raises:
        GenusError: no room for a token.
    """
    room = max_length - vocabulary.framing(1)
    if room < 1:
        least = vocabulary.framing(1) + 1
        raise GenusError(f"sequences of {max_length} have no room for text: choose max_length {least} or more")
    start, stop, spans, lengths = _runs(_cut(flatten(store, documents), room), room, across, separators)
    return EpochPlan(
        offsets=np.concatenate([[0], np.cumsum(spans)]),
        start=start,
        stop=stop,
        segment=np.zeros(len(start), dtype=np.int8),
        label=np.full(len(lengths), -1, dtype=np.int8),
        lengths={"tokens": lengths + vocabulary.framing(1)},
    )


def framed(texts: list[NDArray[np.int64]], vocabulary: Vocabulary, separators: int) -> Sequence:
    """Add special tokens to several texts as one segment; separators between texts are as fixed as the frame."""
    between = np.full(separators, vocabulary.sep)
    first, *rest = texts
    pieces = [first, *(piece for text in rest for piece in (between, text))]
    ids, segments, fixed = vocabulary.frame(np.concatenate(pieces))
    return Sequence(ids, segments, fixed | (ids == vocabulary.sep))


def sentences(
    plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary, length: int, separators: int = 0
) -> NDArray[np.int64]:
    """Return (L,) the number of the sentence of each token of an example of L = `length`, -1 in the frame.

    A separator between two texts is of the sentence before it.
    """
    found: list[NDArray[np.int64]] = []
    for span in range(plan.offsets[index], plan.offsets[index + 1]):
        between = [np.full(separators, found[-1][-1])] if found else []
        found += [*between, plan.sentences(span, store)]
    inner, before = np.concatenate(found), len(vocabulary.begins)
    numbers = np.full(length, -1, dtype=np.int64)
    numbers[before : before + len(inner)] = inner
    return numbers


def _cut(block: SentenceBlock, room: int) -> SentenceBlock:
    """Return the block with every sentence longer than `room` cut into pieces."""
    length = block.stop - block.start
    if length.max() <= room:
        return block
    pieces = -(-length // room)
    total = np.cumsum(pieces)
    within = np.arange(total[-1]) - np.repeat(total - pieces, pieces)
    start = np.repeat(block.start, pieces) + within * room
    stop = np.minimum(start + room, np.repeat(block.stop, pieces))
    end = np.repeat(total[block.end - 1], pieces)
    return replace(block, start=start, stop=stop, document=np.repeat(block.document, pieces), end=end)


def _runs(block: SentenceBlock, room: int, across: bool, separators: int) -> tuple[NDArray[np.int64], ...]:
    """Return starts and stops of the spans, and the number of spans and of tokens (E,) of each run."""
    length = block.stop - block.start
    between = separators * (block.document - block.document[0])
    # Cumulative tokens from the block's start to the end of each sentence, separators included.
    through = np.cumsum(length) + between
    onward = np.searchsorted(through, through - length + room, side="right")
    first = follow(onward if across else np.minimum(onward, block.end))
    last = np.append(first[1:], len(length)) - 1
    opens = np.zeros(len(length), dtype=np.bool_)
    opens[first] = True
    opens[1:] |= block.document[1:] != block.document[:-1]
    span = np.flatnonzero(opens)
    stop = block.stop[np.append(span[1:], len(length)) - 1]
    spans = np.diff(np.append(np.searchsorted(span, first), len(span)))
    return block.start[span], stop, spans, (through[last] - (through - length)[first])


class FullSentences(ExampleFormat):
    """As many consecutive whole sentences as fit, going on in the next document, with a separator between documents.

    None goes on in the next block of about a million sentences.

    The order is the corpus's own, so the plan is the same in every epoch; only the order of rows and the masks change.

    Source: Liu et al. 2019, section 4.2, `FULL-SENTENCES`.
    """

    stochastic: ClassVar[bool] = False
    tells_sentences: ClassVar[bool] = True

    separate: bool = True
    """Whether an extra separator token is put between two documents of one sequence."""

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Cut some documents into full sequences."""
        return plan_runs(documents, store, vocabulary, limits["tokens"], across=True, separators=int(self.separate))

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the texts with special tokens and separators, without targets."""
        texts = [plan.text(span, store) for span in range(plan.offsets[index], plan.offsets[index + 1])]
        tokens = framed(texts, vocabulary, int(self.separate))
        length, separators = len(tokens.ids), int(self.separate)
        tokens.sentences = partial(sentences, plan, index, store, vocabulary, length, separators)
        return Example({"tokens": tokens}, {})


class DocSentences(ExampleFormat):
    """RoBERTa's DOC-SENTENCES: as many consecutive whole sentences of one document as fit.

    The last sequence of a document may be short. RoBERTa then enlarges the batch, to keep its number of tokens. Here
    packing has this effect: a batch counts rows, and a row packs several short sequences. No text is left out.

    Source: Liu et al. 2019, section 4.2, `DOC-SENTENCES`.
    """

    stochastic: ClassVar[bool] = False
    tells_sentences: ClassVar[bool] = True

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Cut each document into sequences."""
        return plan_runs(documents, store, vocabulary, limits["tokens"], across=False, separators=0)

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the text with special tokens, without targets."""
        tokens = Sequence(*vocabulary.frame(plan.text(index, store)))
        tokens.sentences = partial(sentences, plan, index, store, vocabulary, len(tokens.ids))
        return Example({"tokens": tokens}, {})
