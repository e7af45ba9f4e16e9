"""Segments of documents, and which of their tokens occur elsewhere in the same document."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.errors import GenusError
from genus.examples import Example, Examples, Plan, Sequence
from genus.examples.runs import plan_runs

if TYPE_CHECKING:
    from genus.examples import Limits
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


class DocumentSegments(Examples):
    """Runs of whole sentences as in `DocSentences`, labeled token by token: 1 where another segment has it too.

    A document that is one run is halved at a sentence; one of a single sentence that fits has no other segment and is
    left out.

    Source: Sun et al. 2019, ERNIE 2.0, section 3.2.1, token-document relation prediction.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"token_document"})
    drawn: ClassVar[bool] = False

    def plan(self, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int) -> Plan:
        """Cut every document into segments; beside each stands the span of its document, which `read` alone looks at.

        Raises:
            GenusError: no document has two segments.
        """
        runs = plan_runs(store, vocabulary, limits["tokens"], across=False, separators=0)
        bounds = store.sentences[store.documents]
        document = np.searchsorted(bounds[:, 1], runs.start, side="right")
        whole = (runs.start == bounds[document, 0]) & (runs.stop == bounds[document, 1])
        halved = document[whole & (np.diff(store.documents[document]).ravel() > 1)]
        middle = store.sentences[store.documents[halved].sum(1) // 2]
        start = np.concatenate([runs.start[~whole], bounds[halved, 0], middle])
        stop = np.concatenate([runs.stop[~whole], middle, bounds[halved, 1]])
        of = bounds[np.concatenate([document[~whole], halved, halved])]
        if not len(start):
            raise GenusError("no document has two segments, which the token-document relation is about")
        examples = len(start)
        return Plan(
            offsets=np.arange(0, 2 * examples + 1, 2),
            start=np.stack([start, of[:, 0]], axis=1).reshape(-1),
            stop=np.stack([stop, of[:, 1]], axis=1).reshape(-1),
            segment=np.zeros(2 * examples, dtype=np.int8),
            label=np.full(examples, -1, dtype=np.int8),
            lengths={"tokens": stop - start + vocabulary.framing(1)},
        )

    def read(self, plan: Plan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the framed segment with the target `token_document` at every token of text."""
        segment, document = range(plan.offsets[index], plan.offsets[index + 1])
        text = plan.text(segment, store)
        before = store.ids[plan.start[document] : plan.start[segment]]
        after = store.ids[plan.stop[segment] : plan.stop[document]]
        label = np.isin(text, np.concatenate([before, after])).astype(np.int64)
        framed = Sequence(*vocabulary.frame(text))
        return Example({"tokens": framed}, {"token_document": (np.flatnonzero(~framed.fixed), label)})
