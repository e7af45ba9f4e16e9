"""Made-up corpora in which every token is its own position, so that an id says where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.examples import EpochPlan
from genus.examples.blocks import cut
from genus.examples.feed.planner import Planner
from genus.tokens.store import Store
from genus.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.examples import ExampleFormat

PAD, UNK, CLS, SEP, MASK = range(5)
SPECIALS = 5


def corpus(documents: Sequence[Sequence[int]]) -> Store:
    """Return the store of documents given by the lengths of their sentences; token t has the id SPECIALS + t."""
    sizes = [len(document) for document in documents]
    ends = np.cumsum(sizes, dtype=np.int64)
    sentences = np.cumsum([0, *(length for document in documents for length in document)], dtype=np.int64)
    return Store(
        ids=np.arange(SPECIALS, SPECIALS + sentences[-1], dtype=np.uint32),
        sentences=sentences,
        documents=np.stack([ends - sizes, ends], axis=1) if sizes else np.zeros((0, 2), dtype=np.int64),
        document_bytes=np.ones(len(sizes), dtype=np.int64),
    )


def natural(documents: int, seed: int = 0) -> Store:
    """Return documents of about 20 sentences of about 24 tokens, both skewed as in real text."""
    rng = np.random.default_rng(seed)
    lengths = [1 + rng.lognormal(3.0, 0.6, 1 + rng.geometric(1 / 20)).astype(int) for _ in range(documents)]
    return corpus([document.tolist() for document in lengths])


def vocabulary(store: Store, middle: int = 1) -> Vocabulary:
    """Return a vocabulary of the corpus; `middle` separators stand between two segments, as RoBERTa has 2."""
    size = SPECIALS + int(store.sentences[-1])
    special = np.arange(size) < SPECIALS
    text_a, text_b = (None, 0, 0), (None, 1, 1)
    end = (SEP, None, 1)
    return Vocabulary(
        size=size, roles={"pad": PAD, "unk": UNK, "cls": CLS, "sep": SEP, "mask": MASK},
        special=special, word_start=~special,
        single=((CLS, None, 0), text_a, (SEP, None, 0)),
        pair=((CLS, None, 0), text_a, *[(SEP, None, 0)] * middle, text_b, end),
    )  # fmt: skip


def document_of(store: Store, token: int) -> int:
    """Return the document in which a token of the store stands."""
    return int(np.searchsorted(store.sentences[store.documents[:, 1]], token, side="right"))


def planner(examples: ExampleFormat, store: Store, words: Vocabulary | None = None, max_length: int = 64) -> Planner:
    """Return what plans a format for a feed."""
    return Planner(store, words or vocabulary(store), examples, (), {"tokens": max_length}, 3)


def plan_whole(
    examples: ExampleFormat, store: Store, words: Vocabulary, max_length: int, seed: int = 0, epoch: int = 0
) -> EpochPlan:
    """Return the plans of all blocks, one after the other."""
    plans = [examples.plan(each, store, words, {"tokens": max_length}, seed, epoch) for each in cut(store)]
    sizes = np.concatenate([np.diff(plan.offsets) for plan in plans])
    start, stop, segment, label, lengths = (
        np.concatenate(part)
        for part in zip(
            *((plan.start, plan.stop, plan.segment, plan.label, plan.lengths["tokens"]) for plan in plans), strict=True
        )
    )
    return EpochPlan(np.concatenate([[0], np.cumsum(sizes)]), start, stop, segment, label, {"tokens": lengths})
