"""RoBERTa's full sentences: sequences filled with consecutive sentences, across documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from genus.examples import Example, Examples, Plan
from genus.examples.runs import framed, plan_runs

if TYPE_CHECKING:
    from genus.examples import Limits
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


class FullSentences(Examples):
    """As many consecutive whole sentences as fit, going on in the next document, with a separator between documents.

    The order is the corpus's own, so the plan is the same in every epoch; only the order of rows and the masks change.

    Source: Liu et al. 2019, section 4.2, `FULL-SENTENCES`.
    """

    drawn: ClassVar[bool] = False

    separate: bool = True
    """Put the extra separator token between two documents of one sequence."""

    def plan(self, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int) -> Plan:
        """Cut the whole store into full sequences."""
        return plan_runs(store, vocabulary, limits["tokens"], across=True, separators=int(self.separate))

    def read(self, plan: Plan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the framed text."""
        texts = [plan.text(span, store) for span in range(plan.offsets[index], plan.offsets[index + 1])]
        return Example({"tokens": framed(texts, vocabulary, int(self.separate))}, {})
