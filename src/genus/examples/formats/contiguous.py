"""The corpus as it runs, in rows that are always full.

Legend: D documents, E pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.errors import GenusError
from genus.examples import EpochPlan, Example, Sequence
from genus.examples.streams import Streams

if TYPE_CHECKING:
    from genus.examples import Limits
    from genus.examples.blocks import Documents
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


class Contiguous(Streams):
    """Documents one after the other, each with a separator before it, cut wherever a row is full.

    A piece of a document is a sequence of its own. A document that a row does not hold to its end goes on in the next
    row, and so is read with what is remembered of it. What follows a piece is known: the next token of the document, or
    a separator; so each token of each document is predicted once, the first from the separator.

    Source: Dai et al. 2019, released code, data_utils.py, LMOrderedIterator.
    Deviation: there, documents see each other.
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
        begins = np.append(0, np.cumsum(end - first + 1))  # cells, one more than tokens for the separator
        pieces = np.union1d(begins[:-1], np.arange(0, begins[-1], limits["tokens"]))
        document = np.searchsorted(begins, pieces, side="right") - 1
        start = first[document] + np.maximum(pieces - begins[document] - 1, 0)
        lengths = np.diff(np.append(pieces, begins[-1]))
        return EpochPlan(
            offsets=np.arange(len(pieces) + 1),
            start=start,
            stop=start + lengths - (pieces == begins[document]),
            segment=np.zeros(len(pieces), dtype=np.int8),
            label=np.full(len(pieces), -1, dtype=np.int8),
            lengths={"tokens": lengths},
        )

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the piece, after a separator where a document begins."""
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
    """Return whether a piece begins its document: then it has a cell more than tokens."""
    return bool(plan.lengths["tokens"][index] > plan.stop[index] - plan.start[index])
