"""ELECTRA's chunks: consecutive sentences of one document, halved at a sentence, cut to the length and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from corpora import CLS, SEP, corpus, natural, plan_whole, vocabulary
from scipy import stats

from genus.errors import GenusError
from genus.examples.formats.halved_chunks import HalvedChunks

if TYPE_CHECKING:
    from genus.examples import EpochPlan
    from genus.tokens.store import Store

UNLIKELY = 1e-4
"""Probability under the law below which a (fixed, seeded) sample is taken to break it."""
NATURAL = natural(300)
CHUNKS, FILLED = HalvedChunks(), HalvedChunks(short=0.0, single=0.0)


def plan_of(
    examples: HalvedChunks = CHUNKS, store: Store = NATURAL, max_length: int = 128, epoch: int = 0
) -> EpochPlan:
    return plan_whole(examples, store, vocabulary(store), max_length, 7, epoch)


def ends(plan: EpochPlan) -> tuple[np.ndarray, np.ndarray]:
    """Return where each chunk begins and ends in the text."""
    return plan.start[plan.offsets[:-1]], plan.stop[plan.offsets[1:] - 1]


def slow(store: Store, max_length: int, coins: list[bool]) -> list[list[tuple[int, int]]]:
    """Return the spans of every chunk of full length, sentence by sentence; a coin a chunk says who gets the middle."""
    found = []
    for first, last in store.documents:
        sentences = [(int(store.sentences[s]), int(store.sentences[s + 1])) for s in range(first, last)]
        chunk: list[tuple[int, int]] = []
        for number, sentence in enumerate(sentences):
            chunk.append(sentence)
            if sum(b - a for a, b in chunk) < max_length and number + 1 < len(sentences):
                continue
            coin, one, two = coins[len(found)], [], []
            for a, b in chunk:
                size = sum(y - x for x, y in one)
                if not two and (
                    not one or size + b - a < (max_length - 3) // 2 or (size < (max_length - 3) // 2 and coin)
                ):
                    one.append((a, b))
                else:
                    two.append((a, b))
            head = min(one[-1][1] - one[0][0], max_length - 2)
            spans = [(one[0][0], one[0][0] + head)]
            room = max_length - head - 3
            if two and room > 0:
                spans.append((two[0][0], two[0][0] + min(two[-1][1] - two[0][0], room)))
            found.append(spans)
            chunk = []
    return found


@pytest.mark.parametrize("max_length", [16, 40, 128])
def test_chunks_are_the_released_code_s(max_length: int) -> None:
    """With all coins alike; a chunk whose middle sentence goes the one way or the other is one of the two."""
    plan = plan_of(FILLED, max_length=max_length)
    either = [slow(NATURAL, max_length, [coin] * 10_000) for coin in (False, True)]
    assert len(plan) == len(either[0]) == len(either[1])
    took = [0, 0]
    for number, (low, high) in enumerate(zip(plan.offsets[:-1], plan.offsets[1:], strict=True)):
        spans = list(zip(plan.start[low:high].tolist(), plan.stop[low:high].tolist(), strict=True))
        assert spans in (either[0][number], either[1][number])
        if either[0][number] != either[1][number]:
            took[spans == either[1][number]] += 1
    assert stats.binomtest(took[1], sum(took), 0.5).pvalue > UNLIKELY


def test_chunks_stay_in_their_document() -> None:
    start, stop = ends(plan_of())
    bounds = NATURAL.sentences[NATURAL.documents[:, 1]]
    assert (start < stop).all()
    assert (np.searchsorted(bounds, start, "right") == np.searchsorted(bounds, stop - 1, "right")).all()


def test_every_token_is_in_one_chunk() -> None:
    """Sentences of one token, and chunks of one segment, of which the frame's two tokens are cut off."""
    store = corpus([[1] * 401] * 50)
    plan = plan_of(HalvedChunks(short=0.0, single=1.0), store, max_length=32)
    start, stop = ends(plan)
    assert (np.diff(plan.offsets) == 1).all()
    inner = start[1:] != stop[:-1]
    assert (start[1:][inner] - stop[:-1][inner] == 2).all()
    assert set(plan.lengths["tokens"].tolist()) == {32, 401 % 32 + 2}


def test_lengths_are_those_of_the_framed_text() -> None:
    plan, words = plan_of(), vocabulary(NATURAL)
    for number in range(0, len(plan), 17):
        tokens = CHUNKS.read(plan, number, NATURAL, words).tokens
        assert len(tokens.ids) == plan.lengths["tokens"][number] <= 128
        spans = plan.offsets[number + 1] - plan.offsets[number]
        assert tokens.ids[0] == CLS
        assert (tokens.ids == SEP).sum() == spans
        assert set(tokens.segments.tolist()) == set(range(spans))


def test_a_tenth_stay_one_segment() -> None:
    """Of chunks that can be halved: sentences of one token."""
    store = corpus([[1] * 30 * 100] * 20)
    plan = plan_of(HalvedChunks(short=0.0), store, max_length=30)
    alone = int((np.diff(plan.offsets) == 1).sum())
    assert stats.binomtest(alone, len(plan), 0.1).pvalue > UNLIKELY
    assert (np.diff(plan_of(FILLED, store, max_length=30).offsets) == 2).all()


def test_a_twentieth_are_short_and_of_any_length() -> None:
    """Of chunks that no document's end cuts off: lengths are drawn evenly from 5 to 30, the full one among them."""
    store = corpus([[1] * 30 * 100] * 20)
    start, _ = ends(plan_of(HalvedChunks(single=1.0), store, max_length=30))
    whole = np.diff(start)[start[1:] % 3000 != 0]
    assert set(whole.tolist()) == set(range(5, 31))
    short = whole[whole < 30]
    assert stats.binomtest(len(short), len(whole), 0.05 * 25 / 26).pvalue > UNLIKELY
    assert stats.chisquare(np.bincount(short)[5:]).pvalue > UNLIKELY


def test_every_epoch_is_cut_anew() -> None:
    first, again, other = plan_of(), plan_of(), plan_of(epoch=1)
    np.testing.assert_array_equal(first.start, again.start)
    assert not np.array_equal(first.start, other.start)


def test_no_room() -> None:
    with pytest.raises(GenusError, match="choose max_length 5 or more"):
        plan_of(max_length=4)
