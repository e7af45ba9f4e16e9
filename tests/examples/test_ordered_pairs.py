"""Ordered pairs: two consecutive segments of one document, in order or swapped, and nothing lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from corpora import CLS, SEP, SPECIALS, corpus, natural, plan_whole, planner, vocabulary
from scipy import stats

from genus.errors import GenusError
from genus.examples.formats.ordered_pairs import OrderedPairs

if TYPE_CHECKING:
    from genus.examples import EpochPlan
    from genus.tokens.store import Store

UNLIKELY = 1e-4
"""Probability under the law below which a (fixed, seeded) sample is taken to break it."""
NATURAL = natural(300)
PAIRS, FILLED = OrderedPairs(), OrderedPairs(short=0.0)


def plan_of(examples: OrderedPairs = PAIRS, store: Store = NATURAL, max_length: int = 128) -> EpochPlan:
    return plan_whole(examples, store, vocabulary(store), max_length, 7)


def in_order(plan: EpochPlan) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and stops (E, 2) of the segments as they stand in the text."""
    start, stop = plan.start.reshape(-1, 2).copy(), plan.stop.reshape(-1, 2).copy()
    swapped = plan.label == 1
    start[swapped], stop[swapped] = start[swapped, ::-1], stop[swapped, ::-1]
    return start, stop


def test_segments_follow_each_other_in_one_document() -> None:
    plan = plan_of()
    start, stop = in_order(plan)
    assert (start < stop).all()
    assert (stop[:, 0] <= start[:, 1]).all()
    bounds = NATURAL.sentences[NATURAL.documents[:, 1]]
    assert (np.searchsorted(bounds, start[:, 0], "right") == np.searchsorted(bounds, stop[:, 1] - 1, "right")).all()
    whole = plan.lengths["tokens"] < 128
    assert (stop[whole, 0] == start[whole, 1]).all()
    assert whole.sum() > 100


def test_half_of_the_pairs_are_swapped() -> None:
    plan = plan_of()
    assert stats.binomtest(int(plan.label.sum()), len(plan), 0.5).pvalue > UNLIKELY
    assert plan_of(OrderedPairs(swapped=0.0)).label.sum() == 0
    assert plan_of(OrderedPairs(swapped=1.0)).label.all()


def test_every_token_is_in_one_pair() -> None:
    """Sentences of one token, so that no chunk exceeds the room and none is cut."""
    store = corpus([[1] * 401] * 50)
    start, stop = in_order(plan_of(FILLED, store))
    covered = np.sort(np.concatenate([np.arange(*span) for span in zip(start[:, 0], stop[:, 1], strict=True)]))
    np.testing.assert_array_equal(covered, np.arange(store.sentences[-1]))


def test_chunks_reach_the_room_and_split_evenly_at_sentences() -> None:
    """Chunks of 17 sentences of one token: the split is drawn from the 16 places between them."""
    store = corpus([[1] * 17 * 40] * 40)
    plan = plan_of(FILLED, store, max_length=20)
    start, stop = in_order(plan)
    assert (stop[:, 1] - start[:, 0] == 17).all()
    splits = np.bincount(start[:, 1] - start[:, 0], minlength=17)[1:]
    assert stats.chisquare(splits).pvalue > UNLIKELY


def test_a_tenth_of_the_documents_aims_at_less() -> None:
    store = corpus([[1] * 40] * 3000)
    start, stop = in_order(plan_of(PAIRS, store, max_length=20))
    first = np.unique(start[:, 0] // 40, return_index=True)[1]
    target = (stop[:, 1] - start[:, 0])[first]
    # A drawn target is one of 2, ..., 17; the sixteenth that draws 17 cannot be told from the rest.
    assert stats.binomtest(int((target < 17).sum()), len(target), 0.1 * 15 / 16).pvalue > UNLIKELY


def test_a_sentence_alone_is_split_between_any_two_tokens() -> None:
    store = corpus([[9]] * 2000)
    plan = plan_of(store=store)
    start, stop = in_order(plan)
    assert len(plan) == 2000
    assert (stop[:, 1] - start[:, 0] == 9).all()
    assert stats.chisquare(np.bincount(start[:, 1] - start[:, 0], minlength=9)[1:]).pvalue > UNLIKELY
    assert stats.binomtest(int(plan.label.sum()), 2000, 0.5).pvalue > UNLIKELY


def test_what_is_too_long_is_cut_to_the_room() -> None:
    store = corpus([[300, 10, 300]] * 20)
    plan = plan_of(store=store, max_length=64)
    assert (plan.lengths["tokens"] == 64).sum() > 20
    assert plan.lengths["tokens"].max() == 64


def test_one_document_is_enough_and_single_tokens_make_no_pair() -> None:
    assert len(plan_of(FILLED, corpus([[5, 6, 7]]))) == 1
    assert len(plan_of(FILLED, corpus([[1], [5, 6], [1]]))) == 1
    with pytest.raises(GenusError, match="pair"):
        planner(PAIRS, corpus([[1], [1]]))
    with pytest.raises(GenusError, match="choose max_length 5 or more"):
        plan_of(max_length=4)


def test_reading_an_ordered_pair() -> None:
    words, examples = vocabulary(NATURAL), OrderedPairs()
    plan = plan_of(examples)
    for index in range(0, len(plan), 17):
        example = examples.read(plan, index, NATURAL, words)
        a, b = (np.arange(plan.start[s], plan.stop[s]) + SPECIALS for s in (2 * index, 2 * index + 1))
        assert example.tokens.ids.tolist() == [CLS, *a, SEP, *b, SEP]
        assert (a[0] > b[0]) == (plan.label[index] == 1)
        assert example.tokens.segments.tolist() == [0] * (2 + len(a)) + [1] * (len(b) + 1)
        where, label = example.targets["sentence_order"]
        assert (where.tolist(), label.tolist()) == ([0], [plan.label[index]])
