"""Full-sentences and doc-sentences against a slow greedy transcription, and what they keep of the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from corpora import CLS, SEP, SPECIALS, corpus, natural, plan_whole, vocabulary
from hypothesis import given
from hypothesis import strategies as st

from genus.errors import GenusError
from genus.examples import EpochPlan, ExampleFormat, blocks
from genus.examples.formats.sentences import DocSentences, FullSentences

if TYPE_CHECKING:
    from genus.tokens.store import Store

FORMATS = [FullSentences(), FullSentences(separate=False), DocSentences()]
CORPORA = st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=8), min_size=1, max_size=8)


def plan_of(examples: ExampleFormat, store: Store, max_length: int) -> EpochPlan:
    return plan_whole(examples, store, vocabulary(store), max_length)


def texts(examples: ExampleFormat, store: Store, max_length: int) -> list[list[int]]:
    """Return the ids of every example between its frame."""
    words, plan = vocabulary(store), plan_of(examples, store, max_length)
    framed = [examples.read(plan, index, store, words).tokens.ids.tolist() for index in range(len(plan))]
    assert all(ids[0] == CLS and ids[-1] == SEP for ids in framed)
    assert [len(ids) for ids in framed] == plan.lengths["tokens"].tolist()
    return [ids[1:-1] for ids in framed]


def greedy(documents: list[list[int]], room: int, across: bool, separate: bool) -> list[list[int]]:
    """Sentence after sentence goes into the current sequence if it fits, and else begins the next one."""
    made: list[list[int]] = [[]]
    token = SPECIALS
    for number, document in enumerate(documents):
        opens = number > 0
        for sentence in document:
            ids = list(range(token, token + sentence))
            token += sentence
            for piece in (ids[at : at + room] for at in range(0, sentence, room)):
                between = [SEP] if opens and across and separate and made[-1] else []
                if made[-1] and ((opens and not across) or len(made[-1]) + len(between) + len(piece) > room):
                    made.append([])
                    between = []
                made[-1] += [*between, *piece]
                opens = False
    return made


@given(documents=CORPORA, room=st.integers(1, 20), examples=st.sampled_from(FORMATS))
def test_agrees_with_the_greedy_transcription(documents: list[list[int]], room: int, examples: ExampleFormat) -> None:
    across, separate = isinstance(examples, FullSentences), examples == FullSentences()
    assert texts(examples, corpus(documents), room + 2) == greedy(documents, room, across, separate)


@pytest.mark.parametrize("examples", FORMATS)
def test_every_token_once_and_in_order(examples: ExampleFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SENTENCES", 700)
    store = natural(200)
    assert len(blocks.cut(store)) > 3
    joined = np.concatenate(texts(examples, store, 64))
    np.testing.assert_array_equal(joined[joined != SEP], store.ids)
    assert plan_of(examples, store, 64).lengths["tokens"].max() == 64


def test_a_separator_between_documents_is_untouchable() -> None:
    store = corpus([[3], [2, 2], [4]])
    words = vocabulary(store)
    example = FullSentences().read(plan_of(FullSentences(), store, 32), 0, store, words)
    assert example.tokens.ids.tolist() == [CLS, 5, 6, 7, SEP, 8, 9, 10, 11, SEP, 12, 13, 14, 15, SEP]
    np.testing.assert_array_equal(example.tokens.fixed, np.isin(example.tokens.ids, [CLS, SEP]))
    assert not example.tokens.segments.any()
    assert not example.targets


def test_the_plan_is_the_same_in_every_epoch() -> None:
    store = natural(50)
    for examples in FORMATS:
        assert not examples.stochastic
        first, later = (
            plan_whole(examples, store, vocabulary(store), 64, seed, epoch) for seed, epoch in ((0, 0), (5, 9))
        )
        np.testing.assert_array_equal(first.start, later.start)


@pytest.mark.parametrize("examples", FORMATS)
def test_errors(examples: ExampleFormat) -> None:
    with pytest.raises(GenusError, match="the corpus is empty"):
        plan_of(examples, corpus([]), 16)
    with pytest.raises(GenusError, match="choose max_length 3 or more"):
        plan_of(examples, corpus([[4]]), 2)
    assert texts(examples, corpus([[4]]), 3) == [[5], [6], [7], [8]]
