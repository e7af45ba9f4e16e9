"""XLNet's input: text that is cached in the recurrence memory, followed by a pair of lookahead segments.

Legend: D documents, E examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np

from genus.errors import GenusError
from genus.examples import EpochPlan, Example, Sequence
from genus.examples.feed.bins import PackedRows
from genus.examples.formats.pairs import elsewhere
from genus.examples.keys import PLAN, generator
from genus.examples.streams import Streams, successive
from genus.part import Range, Share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Limits
    from genus.examples.blocks import Documents
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary

    Span = tuple[NDArray[np.int64], NDArray[np.int64]]


class CarriedPairs(Streams):
    """XLNet's segment pairs: `carried text, segment A <sep> segment B <sep> <cls>`; A continues the carried text.

    The carried text is half a row by default. The recurrence memory keeps only this text: the carried text of the
    document's next example follows it directly, so A is read again. A ends with a sentence; B continues A or, with
    probability `random_next`, is from another document (label 1). The last example of a document has no carried text.
    With `bidirectional`, half of the streams read their documents backward.

    Source: Yang et al. 2019, sections 2.5 and 3.1; released code, data_utils.py, create_tfrecords and _split_a_and_b.
    Deviation: there, A and the remembered text may span several documents.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"next_sentence"})
    texts: ClassVar[int] = 2

    carried: Annotated[float, Range("a share between 0 and 1", lambda share: 0 < share < 1)] = 0.5
    """Carried text as a share of the row length."""
    random_next: Share = 0.5
    bidirectional: bool = True

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Cut some documents into examples of three spans, the forward ones first.

        Raises:
            GenusError: one document or none, or rows too short for carried text and a pair.
        """
        max_length = limits["tokens"]
        carry = int(self.carried * max_length)
        room = max_length - carry - vocabulary.framing(2)
        if carry < 1 or room < 2:
            raise GenusError(f"rows of {max_length} have no room for carried text and a pair: take a larger max_length")
        if len(store.documents) < 2:
            raise GenusError(
                "there is one document, but random next segments come from another: "
                "give four or more, with blank lines between them, or two with --run held_out=0, "
                "or set examples=Contiguous"
            )
        rng = generator(seed, PLAN, epoch)
        ways = [self._cut(documents, store, carry, room, way, rng) for way in (False, True)[: 1 + self.bidirectional]]
        start, stop, label = (np.concatenate(part) for part in zip(*ways, strict=True))
        examples = len(label)
        return EpochPlan(
            offsets=np.arange(0, 3 * examples + 1, 3),
            start=start.reshape(-1),
            stop=stop.reshape(-1),
            segment=np.tile(np.array([0, 0, 1], dtype=np.int8), examples),
            label=label,
            lengths={"tokens": (stop - start).sum(1) + vocabulary.framing(2)},
        )

    def rows(self, plan: EpochPlan, max_length: int, max_sequences: int | None = None) -> PackedRows:
        """Return rows of examples with one reading direction per row, the forward rows first."""
        ways = np.split(plan.lengths["tokens"], 2 if self.bidirectional else 1)
        each = [successive(lengths, max_length, max_sequences) for lengths in ways]
        offsets = [rows.offsets[:-1] + way * len(ways[0]) for way, rows in enumerate(each)]
        return PackedRows(np.arange(len(plan)), np.append(np.concatenate(offsets), len(plan)))

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the example with special tokens, and the target `next_sentence` at the summary token."""
        backward = self.bidirectional and index >= len(plan) // 2
        spans = range(plan.offsets[index], plan.offsets[index + 1])
        carried, a, b = (plan.text(span, store)[:: -1 if backward else 1] for span in spans)
        ids, segments, fixed = vocabulary.frame(np.concatenate([carried, a]), b)
        before = plan.offsets[index] - 3  # the carried text of the example before
        tokens = Sequence(
            ids=ids,
            segments=segments,
            fixed=fixed,
            continues=index > 0 and bool(plan.stop[before] > plan.start[before]),
            through=int(fixed.argmin()) + len(carried),
            backward=backward,
        )
        target = np.array([vocabulary.whole(len(ids))]), plan.label[index : index + 1].astype(np.int64)
        return Example({"tokens": tokens}, {"next_sentence": target})

    def _cut(
        self, documents: Documents, store: Store, carry: int, room: int, backward: bool, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
        """Return starts and stops (E, 3) and labels (E,), reading every document forward or backward.

        Offsets count in the reading direction, and are converted to store offsets at the end.
        """
        first, end = store.sentences[store.documents[documents.first : documents.last]].T
        examples = -(-(end - first) // carry)
        within = np.repeat(np.arange(len(examples)), examples)
        document = documents.first + within
        begin = carry * (np.arange(len(document)) - np.repeat(np.cumsum(examples) - examples, examples))
        first, end = first[within], end[within]
        length = end - first
        middle = begin + np.where(length - begin > carry, carry, 0)
        ahead = np.minimum(length, middle + room)

        def placed(start: NDArray[np.int64], stop: NDArray[np.int64]) -> Span:
            return (end - stop, end - start) if backward else (first + start, first + stop)

        left, right = placed(middle, ahead)
        low = np.searchsorted(store.sentences, left, side="right")
        high = np.searchsorted(store.sentences, right, side="left")
        boundary = store.sentences[low + (rng.random(len(low)) * (high - low)).astype(np.int64)]
        whole = high <= low  # no sentence ends in the lookahead
        halved = middle + np.maximum(1, np.minimum(ahead - middle, room // 2))
        split = np.where(whole, halved, end - boundary if backward else boundary - first)
        random = whole | (rng.random(len(document)) < self.random_next)
        missing = room - (split - middle)
        start_b, stop_b = placed(split, ahead)
        start_b[random], stop_b[random] = elsewhere(store, document[random], missing[random], rng)
        stop_b = np.minimum(stop_b, start_b + missing)
        spans = placed(begin, middle), placed(middle, split), (start_b, stop_b)
        start, stop = (np.stack(ends, axis=1) for ends in zip(*spans, strict=True))
        return start, stop, random.astype(np.int8)
