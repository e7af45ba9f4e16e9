"""Contiguous text: the corpus in its order, cut into full rows (language modeling with recurrence memory).

Legend: D documents, S pieces of documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.errors import GenusError
from genus.examples import EpochPlan, Example, Sequence
from genus.examples.streams import Streams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Limits
    from genus.examples.blocks import Documents
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Pieces:
    """Documents end to end, cut where a row is full: piece s is tokens [start, stop) of one document."""

    at: NDArray[np.int64]
    """(S,) index of the piece's first token position among those of all documents, separators included."""
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    lengths: NDArray[np.int64]
    """(S,) token positions: those of its text, and of the separator where the piece begins its document."""
    ends: NDArray[np.bool_]
    """(S,) whether the document ends with the piece."""


def pieces(first: NDArray[np.int64], end: NDArray[np.int64], ahead: int, length: int, *, across: bool = True) -> Pieces:
    """Lay documents of tokens [first, end) (D,) end to end, each after `ahead` separators, and cut them into pieces.

    Args:
        first: the first token of each document.
        end: its end.
        ahead: separators before each document, 0 or 1.
        length: token positions of a row.
        across: cut at the ends of rows that documents share; otherwise each document by itself.
    """
    begins = np.append(0, np.cumsum(end - first + ahead))
    if across:
        at = np.union1d(begins[:-1], np.arange(0, begins[-1], length))
    else:
        number = -(-np.diff(begins) // length)
        within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        at = np.repeat(begins[:-1], number) + length * within
    document = np.searchsorted(begins, at, side="right") - 1
    lengths = np.diff(np.append(at, begins[-1]))
    start = first[document] + np.maximum(at - begins[document] - ahead, 0)
    stop = start + lengths - ahead * (at == begins[document])
    return Pieces(at, start, stop, lengths, stop == end[document])


class Contiguous(Streams):
    """Contiguous text: documents in order, each with a separator before it, cut where a row is full.

    A piece of a document is a sequence of its own. A document that does not fit into a row continues in the next row,
    with the recurrence memory of it. The token after a piece is known: the next token of the document, or a separator.
    So each token of each document is predicted once, the first one from the separator.

    Source: Dai et al. 2019, released code, data_utils.py, LMOrderedIterator.
    Deviation: there, attention crosses documents.
    """

    stochastic: ClassVar[bool] = False

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Cut some documents into pieces.

        Raises:
            GenusError: there is no document.
        """
        if not len(store.documents):
            raise GenusError("the corpus is empty: no document has any text; check the files and the field read")
        first, end = store.sentences[store.documents[documents.first : documents.last]].T
        cut = pieces(first, end, 1, limits["tokens"])
        return EpochPlan(
            offsets=np.arange(len(cut.start) + 1),
            start=cut.start,
            stop=cut.stop,
            segment=np.zeros(len(cut.start), dtype=np.int8),
            label=np.full(len(cut.start), -1, dtype=np.int8),
            lengths={"tokens": cut.lengths},
        )

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the piece; the first piece of a document begins with a separator."""
        opens = _opens(plan, index)
        text = plan.text(index, store)
        ids = np.append(vocabulary.sep, text) if opens else text
        closes = index + 1 == len(plan) or _opens(plan, index + 1)
        fixed = np.zeros(len(ids), dtype=np.bool_)
        fixed[0] = opens
        sequence = Sequence(
            ids=ids,
            segments=np.zeros(len(ids), dtype=np.int64),
            fixed=fixed,
            following=vocabulary.sep if closes else int(store.ids[plan.stop[index]]),
            continues=not opens,
        )
        return Example({"tokens": sequence}, {})


def _opens(plan: EpochPlan, index: int) -> bool:
    """Return whether a piece begins its document: its length then exceeds its span by the separator."""
    return bool(plan.lengths["tokens"][index] > plan.stop[index] - plan.start[index])
