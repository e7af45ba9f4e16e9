"""A text and itself again: the sequence autoencoder (Dai and Le 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.errors import GenusError
from genus.examples import EpochPlan, Example, ExampleFormat, Sequence
from genus.examples.formats.contiguous import pieces

if TYPE_CHECKING:
    from genus.examples import Limits
    from genus.examples.blocks import Documents
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


class Repeated(ExampleFormat):
    """Sequence autoencoder: x_1 ... x_n, a separator, and x_1 ... x_n again, of which only the second half is learned.

    A causal language model reads the text, and says it again by what it remembers; the separator after it ends it. A
    document that fills more than half a row is cut into pieces.

    Source: Dai and Le 2015; released code, adversarial_text/data/data_utils.py, build_seq_ae_sequence.
    Deviation: there, a document is one sequence, of which back-propagation reaches the last steps.
    """

    stochastic: ClassVar[bool] = False

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Cut some documents into pieces.

        Raises:
            GenusError: a row has no room for a token, a separator and the token again.
        """
        room = (limits["tokens"] - 1) // 2
        if room < 1:
            length = limits["tokens"]
            raise GenusError(f"rows of {length} have no room for a text and itself: choose max_length 3 or more")
        first, end = store.sentences[store.documents[documents.first : documents.last]].T
        cut = pieces(first, end, 0, room, across=False)
        return EpochPlan(
            offsets=np.arange(len(cut.start) + 1),
            start=cut.start,
            stop=cut.stop,
            segment=np.zeros(len(cut.start), dtype=np.int8),
            label=np.full(len(cut.start), -1, dtype=np.int8),
            lengths={"tokens": 2 * cut.lengths + 1},
        )

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the piece twice, the first of them given, and the separator that follows."""
        text = plan.text(index, store)
        ids = np.concatenate([text, [vocabulary.sep], text])
        learned = np.arange(len(ids)) > len(text)
        separator = np.arange(len(ids)) == len(text)
        return Example({"tokens": Sequence(ids, 0 * ids, separator, following=vocabulary.sep, learned=learned)}, {})
