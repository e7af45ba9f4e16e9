"""RoBERTa's doc sentences: sequences of consecutive sentences that end where their document ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from genus.examples import Example, Examples, Plan, Sequence
from genus.examples.runs import plan_runs

if TYPE_CHECKING:
    from genus.examples import Limits
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


class DocSentences(Examples):
    """As many consecutive whole sentences of one document as fit; the last sequence of a document may be short.

    RoBERTa enlarges the batch where sequences are short, to keep its number of tokens. Here that follows from packing:
    a batch counts rows, and a row holds several short sequences. However short, nothing is left out.

    Source: Liu et al. 2019, section 4.2, `DOC-SENTENCES`.
    """

    drawn: ClassVar[bool] = False

    def plan(self, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int) -> Plan:
        """Cut every document into sequences."""
        return plan_runs(store, vocabulary, limits["tokens"], across=False, separators=0)

    def read(self, plan: Plan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the framed text."""
        return Example({"tokens": Sequence(*vocabulary.frame(plan.text(index, store)))}, {})
