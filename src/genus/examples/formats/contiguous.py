"""Contiguous text: the corpus in its order, cut into full rows (language modeling with recurrence memory).

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
