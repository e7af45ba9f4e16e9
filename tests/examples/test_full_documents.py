"""Full rows over shuffled documents: every token a target once, in rows that are full, in an order drawn anew."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from corpora import SEP, SPECIALS, corpus, document_of, natural, plan_whole, vocabulary
from hypothesis import given
from hypothesis import strategies as st

from genus.examples import blocks
from genus.examples.feed.feed import Feed
from genus.examples.formats.documents import FullDocuments
from genus.objectives.pretraining.causal_lm import CausalLM

if TYPE_CHECKING:
    from genus.examples import Example
    from genus.tokens.store import Store

FORMATS = [FullDocuments(), FullDocuments(isolated=True)]
CORPORA = st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=8), min_size=1, max_size=8)
LENGTH = 32


def examples(form: FullDocuments, store: Store, length: int, seed: int = 0, epoch: int = 0) -> list[Example]:
    """Return the examples of an epoch in the order of the plan, with their targets."""
    words = vocabulary(store)
    plan = plan_whole(form, store, words, length, seed, epoch)
    read = [form.read(plan, index, store, words) for index in range(len(plan))]
    assert [len(example.tokens.ids) for example in read] == plan.lengths["tokens"].tolist()
    return [CausalLM().prepare_example(example, words, np.random.default_rng(0)) for example in read]


def order_of(read: list[Example], store: Store) -> list[int]:
    """Return the documents in the order in which their first tokens come."""
    ids = np.concatenate([example.tokens.ids for example in read])
    firsts = set((store.ids[store.sentences[store.documents[:, 0]]]).tolist())
    return [document_of(store, token - SPECIALS) for token in ids.tolist() if token in firsts]


@given(documents=CORPORA, length=st.integers(1, 40), form=st.sampled_from(FORMATS), epoch=st.integers(0, 3))
def test_every_token_and_every_end_is_a_target_once(
    documents: list[list[int]], length: int, form: FullDocuments, epoch: int
) -> None:
    store = corpus(documents)
    labels = np.concatenate([example.targets["causal_lm"][1] for example in examples(form, store, length, 1, epoch)])
    assert sorted(labels.tolist()) == sorted([*store.ids.tolist(), *[SEP] * len(documents)])


@given(documents=CORPORA, length=st.integers(1, 40))
def test_rows_are_full_and_go_on_from_each_other(documents: list[list[int]], length: int) -> None:
    """Laid end to end they are the documents in another order, whole, each after a separator."""
    store = corpus(documents)
    read = examples(FullDocuments(), store, length)
    assert all(len(example.tokens.ids) == length for example in read[:-1])
    ends = store.sentences[store.documents]
    texts = [[SEP, *store.ids[slice(*ends[number])].tolist()] for number in order_of(read, store)]
    assert sorted(order_of(read, store)) == list(range(len(documents)))
    ids = np.concatenate([example.tokens.ids for example in read])
    assert ids.tolist() == [token for text in texts for token in text]
    for one, after in zip(read, [*read[1:], None], strict=True):
        assert one.tokens.following == (SEP if after is None else after.tokens.ids[0])
        assert (one.tokens.fixed == (one.tokens.ids == SEP)).all()


@given(documents=CORPORA, length=st.integers(2, 40))
def test_isolated_pieces_are_of_one_document(documents: list[list[int]], length: int) -> None:
    """None is cut that fits into a row."""
    store = corpus(documents)
    found: dict[int, int] = {}
    for example in examples(FullDocuments(isolated=True), store, length):
        (document,) = {document_of(store, token - SPECIALS) for token in example.tokens.ids.tolist() if token != SEP}
        found[document] = found.get(document, 0) + 1
    assert found == {number: -(-(sum(document) + 1) // length) for number, document in enumerate(documents)}


def test_the_order_is_a_function_of_seed_and_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SENTENCES", 700)
    store = natural(200)
    assert len(blocks.cut(store)) > 3
    orders = [
        order_of(examples(FullDocuments(), store, LENGTH, *key), store) for key in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert orders[0] == orders[1]
    assert all(order != list(range(200)) and sorted(order) == list(range(200)) for order in orders)
    assert orders[0] != orders[2] != orders[3] != orders[0]


@pytest.mark.parametrize("form", FORMATS)
def test_a_feed_goes_on_where_it_was(form: FullDocuments, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SENTENCES", 700)
    store = natural(100)
    one, other = (
        Feed(store, vocabulary(store), form, [CausalLM()], limits={"tokens": LENGTH}, micro_batch=8, seed=3)
        for _ in range(2)
    )
    last = int(one.size[1] * 2.5) // 8  # in the third epoch
    for number in range(last):
        one[number]
    assert one[last].tokens.ids.tolist() == other[last].tokens.ids.tolist()
    assert one[last].tokens.one_per_row != form.isolated


def test_what_shares_a_row_is_one_sequence_or_isolated() -> None:
    """Attention stays within a sequence: of a row it holds all documents, or one piece of one."""
    store = natural(60)
    for form in FORMATS:
        feed = Feed(store, vocabulary(store), form, [CausalLM()], limits={"tokens": 64}, micro_batch=16, seed=0)
        packed = feed[0].tokens
        shared = 0
        for start, end in packed.spans():
            several = {document_of(store, token - SPECIALS) for token in packed.ids[start:end].tolist() if token != SEP}
            shared += len(several) > 1
        assert (shared == 0) == form.isolated


def test_without_an_end_token_nothing_stands_between() -> None:
    store = corpus([[3, 4], [5], [2]])
    words = replace(vocabulary(store), roles={"pad": 0})
    plan = plan_whole(FullDocuments(), store, words, 5)
    ids = [FullDocuments().read(plan, index, store, words).tokens.ids for index in range(len(plan))]
    assert [len(one) for one in ids] == [5, 5, 4]
    assert sorted(np.concatenate(ids).tolist()) == store.ids.tolist()
