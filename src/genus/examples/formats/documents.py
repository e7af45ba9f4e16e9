"""Full rows over shuffled documents, as decoders are pretrained on them (GPT-2, GPT-3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.examples import EpochPlan, Example, ExampleFormat, Sequence
from genus.examples.formats.contiguous import pieces
from genus.examples.keys import PLAN, generator

if TYPE_CHECKING:
    from genus.examples import Limits
    from genus.examples.blocks import Documents
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


class FullDocuments(ExampleFormat):
    """Full rows over documents in random order, with an end token before each, cut where a row is full.

    The order is drawn anew in every epoch. The token after a row is known, so every token is predicted once an epoch,
    and the end token after every document. The last row of a block of about a million sentences may be shorter: no text
    is left out. With a vocabulary that has no end token, nothing stands between documents.

    Tokens attend to the documents before theirs in the row, as published: the end token alone tells them apart. With
    `isolated`, each document is cut by itself, and each piece of at most a row is a sequence of its own.

    Source: Brown et al. 2020 (GPT-3), appendix B; Radford et al. 2019 (GPT-2), released vocabulary: `<|endoftext|>`.
    """

    isolated: bool = False
    """Whether tokens attend to their own document only."""

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Draw an order of some documents, and cut them into rows; an example's label is 1 if it ends a document."""
        order = generator(seed, PLAN, epoch, documents.number).permutation(documents.last - documents.first)
        first, end = store.sentences[store.documents[documents.first : documents.last][order]].T
        length = limits["tokens"]
        cut = pieces(first, end, int(vocabulary.end is not None), length, across=not self.isolated)
        begins = np.arange(len(cut.at)) if self.isolated else np.flatnonzero(cut.at % length == 0)
        offsets = np.append(begins, len(cut.at))
        return EpochPlan(
            offsets=offsets,
            start=cut.start,
            stop=cut.stop,
            segment=np.zeros(len(cut.at), dtype=np.int8),
            label=cut.ends[offsets[1:] - 1].astype(np.int8),
            lengths={"tokens": np.add.reduceat(cut.lengths, begins)},
        )

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return the row with the end tokens within it, and the token that follows it."""
        first, last = plan.offsets[index : index + 2].tolist()
        texts = [plan.text(span, store) for span in range(first, last)]
        end = np.array([] if vocabulary.end is None else [vocabulary.end], dtype=np.int64)
        opens = plan.lengths["tokens"][index] - sum(map(len, texts)) == len(texts) * len(end)
        ahead = [end if opens else end[:0], *[end] * (len(texts) - 1)]
        ids = np.concatenate([part for pair in zip(ahead, texts, strict=True) for part in pair])
        following = vocabulary.end if plan.label[index] else int(store.ids[plan.stop[last - 1]])
        sequence = Sequence(ids, np.zeros(len(ids), dtype=np.int64), np.isin(ids, end), following=following)
        return Example({"tokens": sequence}, {})
