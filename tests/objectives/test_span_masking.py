"""Spans keep their laws: lengths, starts, shares, one fate a span."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats

from genus.examples import Sequence
from genus.objectives.masking.spans import SpanMasking
from genus.tokens.vocabulary import Vocabulary

UNLIKELY = 1e-4
"""Probability under the law below which a (fixed, seeded) sample is taken to break it."""
MEAN = 3.8
"""Words in a span (Joshi et al. 2019, section 3.1)."""
CLS, SEP, MASK, SIZE, STARTS = 2, 3, 4, 60, 40
SPECIAL = np.arange(SIZE) < 5
WORDS = Vocabulary(
    size=SIZE, roles={"pad": 0, "unk": 1, "cls": CLS, "sep": SEP, "mask": MASK},
    special=SPECIAL, word_start=np.arange(SIZE) < STARTS,
    single=((CLS, None, 0), (None, 0, 0), (SEP, None, 0)),
    pair=((CLS, None, 0), (None, 0, 0), (SEP, None, 0), (None, 1, 1), (SEP, None, 1)),
)  # fmt: skip


def sequence(length: int, seed: int, segments: int = 1) -> Sequence:
    """Return framed text in which about one piece in three continues a word; ids from `STARTS` on do."""
    rng = np.random.default_rng(seed)
    text = np.where(rng.random(length) < 0.35, rng.integers(STARTS, SIZE, length), rng.integers(5, STARTS, length))
    return Sequence(*WORDS.frame(*np.array_split(text, segments)))


def runs(positions: np.ndarray) -> list[np.ndarray]:
    return [run for run in np.split(positions, np.flatnonzero(np.diff(positions) > 1) + 1) if len(run)]


def test_lengths_follow_the_clipped_geometric_law() -> None:
    drawn = SpanMasking().lengths(20_000, np.random.default_rng(0))
    law = 0.2 * 0.8 ** np.arange(10)
    law /= law.sum()
    assert stats.chisquare(np.bincount(drawn, minlength=11)[1:], law * len(drawn)).pvalue > UNLIKELY
    assert drawn.mean() == pytest.approx(MEAN, abs=0.05)


def test_spans_of_a_text_have_the_drawn_lengths() -> None:
    """In a long text with few spans hardly any meet, so what is seen is the law itself."""
    lengths = []
    for seed in range(20):
        original = sequence(40_000, seed)
        chosen = SpanMasking(rate=0.01).choose(original, WORDS, np.random.default_rng(seed))
        lengths += [int((original.ids[run] < STARTS).sum()) for run in runs(chosen)]
    assert np.mean(lengths) == pytest.approx(MEAN, abs=0.2)


@pytest.mark.parametrize("length", [3, 8, 40, 126, 510])
@pytest.mark.parametrize("segments", [1, 2])
def test_whole_words_within_segments_up_to_the_budget(length: int, segments: int) -> None:
    for seed in range(30):
        original = sequence(length, seed, segments)
        chosen, ids = SpanMasking().corrupt(original, WORDS, np.random.default_rng(seed))
        budget = max(1, round(0.15 * len(original.ids)))
        assert len(chosen) <= budget
        assert (np.diff(chosen) > 0).all()
        assert not original.fixed[chosen].any()
        for run in runs(chosen):
            before, after = original.ids[run[0] - 1], run[-1] + 1
            assert original.ids[run[0]] < STARTS or before in (CLS, SEP)
            assert original.ids[after] < STARTS or original.fixed[after]
        ids[chosen] = original.ids[chosen]
        np.testing.assert_array_equal(ids, original.ids)


def test_fifteen_percent_in_total_and_the_same_mean_length() -> None:
    """At the published length: spans that meet lengthen the mean a little, the last one that is cut shortens it."""
    total, lengths = 0, []
    for seed in range(200):
        original = sequence(510, seed)
        chosen = SpanMasking().choose(original, WORDS, np.random.default_rng(seed))
        total += len(chosen)
        lengths += [int((original.ids[run] < STARTS).sum()) for run in runs(chosen)]
    assert total / (200 * 512) == pytest.approx(0.15, abs=0.002)
    assert np.mean(lengths) == pytest.approx(MEAN, abs=0.2)


def test_any_word_begins_a_span() -> None:
    original = sequence(80, 0)
    starts = np.flatnonzero((original.ids < STARTS) & ~original.fixed)
    firsts = np.zeros(82, dtype=int)
    for seed in range(4000):
        (chosen,) = SpanMasking(rate=0.01).choose(original, WORDS, np.random.default_rng(seed))
        firsts[chosen] += 1
    ones = starts[np.diff(np.append(starts, 81)) == 1]  # with room for one token, a longer word is passed over
    assert stats.chisquare(firsts[ones]).pvalue > UNLIKELY
    assert firsts.sum() == firsts[ones].sum()


def test_a_span_has_one_fate() -> None:
    kinds = np.zeros(3, dtype=int)
    for seed in range(1500):
        original = sequence(126, seed)
        chosen, ids = SpanMasking().corrupt(original, WORDS, np.random.default_rng(seed))
        for run in runs(chosen):
            masks, same = ids[run] == MASK, ids[run] == original.ids[run]
            assert masks.all() or not masks.any()
            if len(run) > 3:  # a long span of random tokens is hardly ever the original
                assert masks.all() or same.all() or same.mean() < 0.75
                kinds += [masks.all(), not masks.any() and not same.all(), same.all()]
    assert stats.chisquare(kinds, np.array([0.8, 0.1, 0.1]) * kinds.sum()).pvalue > UNLIKELY


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"p": 0.0}, "SpanMasking.p: expected a share above 0 and at most 1, got 0"),
        ({"p": 1.5}, "SpanMasking.p: expected a share above 0 and at most 1, got 1.5"),
        ({"longest": 0}, "SpanMasking.longest: expected at least 1, got 0"),
    ],
)
def test_what_is_no_distribution(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SpanMasking(**wrong)


def test_lengths_fall_by_the_same_factor() -> None:
    drawn = np.bincount(SpanMasking(p=0.5, longest=4).lengths(50_000, np.random.default_rng(1)))[1:]
    assert all(after / before == pytest.approx(0.5, abs=0.03) for before, after in pairwise(drawn))
