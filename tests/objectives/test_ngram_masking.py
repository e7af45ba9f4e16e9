"""N-gram masking: its law of lengths, whole words, and the released loop word by word."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from genus.examples import Sequence
from genus.objectives.masking.ngram import NGramMasking
from genus.tokens.vocabulary import Vocabulary

UNLIKELY = 1e-4
"""Probability under the law below which a (fixed, seeded) sample is taken to break it."""
CLS, SEP, MASK, SIZE, STARTS = 2, 3, 4, 60, 40
"""Ids below `STARTS` begin a word, ids from there on continue one."""
WORDS = Vocabulary(
    size=SIZE, roles={"pad": 0, "unk": 1, "cls": CLS, "sep": SEP, "mask": MASK},
    special=np.arange(SIZE) < 5,
    word_start=np.arange(SIZE) < STARTS,
    single=((CLS, None, 0), (None, 0, 0), (SEP, None, 0)),
    pair=((CLS, None, 0), (None, 0, 0), (SEP, None, 0), (None, 1, 1), (SEP, None, 1)),
)  # fmt: skip


def sequence(length: int, seed: int) -> Sequence:
    """Return a framed pair, about one piece in three continuing a word, the first ones of segments too."""
    rng = np.random.default_rng(seed)
    size = length - 3
    text = np.where(rng.random(size) < 0.35, rng.integers(STARTS, SIZE, size), rng.integers(5, STARTS, size))
    cut = int(rng.integers(1, size))
    return Sequence(*WORDS.frame(text[:cut], text[cut:]))


def plain(length: int) -> Sequence:
    """Return one segment of single-piece words."""
    return Sequence(*WORDS.frame(np.random.default_rng(0).integers(5, STARTS, length - 2)))


def words_of(ids: list[int], fixed: list[bool]) -> list[list[int]]:
    """Return the positions of every word."""
    words: list[list[int]] = []
    for position, piece in enumerate(ids):
        if fixed[position]:
            continue
        if piece >= STARTS and not fixed[position - 1]:
            words[-1].append(position)
        else:
            words.append([position])
    return words


def runs_of(original: Sequence, longest: int) -> list[list[list[list[int]]]]:
    """Return for every word the runs that begin with it: of 1, 2, ... words, as far as its segment goes."""
    words = words_of(original.ids.tolist(), original.fixed.tolist())
    segment = [0]
    for before, word in pairwise(words):
        segment.append(segment[-1] + (word[0] > before[-1] + 1))
    return [
        [words[at : at + n] for n in range(1, longest + 1) if segment[at : at + n] == [segment[at]] * n]
        for at in range(len(words))
    ]


def published(runs: list[list[list[list[int]]]], budget: int, order: list[int], draws: list[float]) -> list[int]:
    """Return the positions that the released loop takes, with its shuffled order and its draws of n handed in."""
    covered: set[int] = set()
    for at in order:
        if len(covered) >= budget:
            break
        chances = [1 / n for n in range(1, len(runs[at]) + 1)]
        shares = np.cumsum(chances) / sum(chances)
        n = next(n for n, share in enumerate(shares, 1) if draws[at] < share)
        while n > 1 and len(covered) + sum(map(len, runs[at][n - 1])) > budget:
            n -= 1
        taken = [position for word in runs[at][n - 1] for position in word]
        if len(covered) + len(taken) <= budget and not covered & set(taken):
            covered |= set(taken)
    return sorted(covered)


@pytest.mark.parametrize("longest", [1, 2, 3, 5])
@pytest.mark.parametrize("length", [5, 9, 31, 128])
def test_it_takes_what_the_released_loop_takes(length: int, longest: int) -> None:
    masking = NGramMasking(longest=longest)
    for seed in range(25):
        original = sequence(length, seed)
        runs = runs_of(original, longest)
        rng = np.random.default_rng(seed)
        order, draws = rng.permutation(len(runs)).tolist(), rng.random(len(runs)).tolist()
        expected = published(runs, max(1, round(0.15 * length)), order, draws)
        assert masking.choose(original, WORDS, np.random.default_rng(seed)).tolist() == expected


def test_the_length_of_a_run_follows_the_law() -> None:
    """Room for three words: by p(1), p(2), p(3) = 6/11, 3/11, 2/11 it is one run, two, or three."""
    masking, rng, original = NGramMasking(rate=0.003), np.random.default_rng(0), plain(1000)
    runs = np.zeros(4, dtype=int)
    for _ in range(2000):
        chosen = masking.choose(original, WORDS, rng)
        assert len(chosen) == 3
        runs[1 + (np.diff(chosen) > 1).sum()] += 1
    one, three = 2 / 11, (6 / 11) ** 2  # three singles: the third has no room for more
    law = np.array([one, 1 - one - three, three])
    assert stats.chisquare(runs[1:], law * runs.sum()).pvalue > UNLIKELY


def test_the_budget_is_spent() -> None:
    """With single-piece words the last run is cut to what is left, so exactly 15 % are chosen."""
    rng = np.random.default_rng(0)
    for length in (20, 100, 512):
        assert len(NGramMasking().choose(plain(length), WORDS, rng)) == round(0.15 * length)


def test_words_are_chosen_evenly() -> None:
    masking, rng, original = NGramMasking(), np.random.default_rng(0), plain(60)
    counts = np.zeros(60, dtype=int)
    for _ in range(3000):
        counts[masking.choose(original, WORDS, rng)] += 1
    inner = counts[3:57]
    assert counts[[0, 59]].sum() == 0
    assert inner.std() / inner.mean() < 0.05


def test_eighty_ten_ten_of_runs() -> None:
    masking, rng = NGramMasking(), np.random.default_rng(0)
    kinds = np.zeros(3, dtype=int)
    for seed in range(400):
        original = sequence(128, seed)
        chosen, ids = masking.corrupt(original, WORDS, rng)
        now, same = ids[chosen], ids[chosen] == original.ids[chosen]
        kinds += [(now == WORDS.mask).sum(), (~same & (now != WORDS.mask)).sum(), same.sum()]
    ordinary = SIZE - WORDS.special.sum()
    law = np.array([0.8, 0.1 * (1 - 1 / ordinary), 0.1 + 0.1 / ordinary])
    assert stats.chisquare(kinds, law * kinds.sum()).pvalue > UNLIKELY


def test_nothing_to_choose_from() -> None:
    frame = np.array([WORDS.cls, WORDS.sep])
    empty = Sequence(frame, np.zeros(2, dtype=np.int64), np.ones(2, dtype=bool))
    assert NGramMasking().choose(empty, WORDS, np.random.default_rng(0)).tolist() == []
