"""Masking keeps its laws: how many, which, and what stands in their place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats

from genus import catalog
from genus.cost import component_cost
from genus.errors import GenusError, UsageError
from genus.examples import Example, Sequence
from genus.objectives.masking.tokens import TokenMasking, WholeWordMasking
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from genus.objectives.masking import Masking

UNLIKELY = 1e-4
"""Probability under the law below which a (fixed, seeded) sample is taken to break it."""
DRAWS = 2000
CLS, SEP, MASK, SIZE = 2, 3, 4, 60
STARTS = 40
"""Ids below begin a word, ids from here on continue one."""
SPECIAL = np.isin(np.arange(SIZE), [0, 1, CLS, SEP, MASK, 37])
WORDS = Vocabulary(
    size=SIZE, roles={"pad": 0, "unk": 1, "cls": CLS, "sep": SEP, "mask": MASK},
    special=SPECIAL, word_start=np.arange(SIZE) < STARTS,
    single=((CLS, None, 0), (None, 0, 0), (SEP, None, 0)),
    pair=((CLS, None, 0), (None, 0, 0), (SEP, None, 0), (None, 1, 1), (SEP, None, 1)),
)  # fmt: skip
MASKINGS = [TokenMasking(), WholeWordMasking(), TokenMasking(rate=0.4), WholeWordMasking(rate=0.4)]


def sequence(length: int, seed: int) -> Sequence:
    """Return a framed pair, about one piece in three continuing a word, the first ones of segments too."""
    rng = np.random.default_rng(seed)
    size = length - 3
    text = np.where(rng.random(size) < 0.35, rng.integers(STARTS, SIZE, size), rng.integers(5, 37, size))
    cut = int(rng.integers(1, size))
    return Sequence(*WORDS.frame(text[:cut], text[cut:]))


def words_of(ids: list[int], fixed: list[bool]) -> list[list[int]]:
    """Return the positions of every word, as the published loop over pieces groups them."""
    words: list[list[int]] = []
    for position, piece in enumerate(ids):
        if fixed[position]:
            continue
        if piece >= STARTS and position and not fixed[position - 1]:
            words[-1].append(position)
        else:
            words.append([position])
    return words


def published(words: list[list[int]], budget: int) -> list[int]:
    """Return the positions that the published loop over shuffled words takes."""
    chosen: list[int] = []
    for word in words:
        if len(chosen) >= budget:
            break
        if len(chosen) + len(word) <= budget:
            chosen += word
    return sorted(chosen)


@pytest.mark.parametrize("masking", MASKINGS)
@pytest.mark.parametrize("length", [5, 7, 10, 31, 128])
def test_number_frame_and_restoration(masking: Masking, length: int) -> None:
    for seed in range(30):
        original = sequence(length, seed)
        chosen, ids = masking.corrupt(original, WORDS, np.random.default_rng(seed))
        budget = max(1, round(masking.rate * length))
        assert len(chosen) <= budget
        assert len(chosen) == min(budget, length - 3) or isinstance(masking, WholeWordMasking)
        assert (np.diff(chosen) > 0).all()
        assert not original.fixed[chosen].any()
        assert np.isin(np.flatnonzero(ids != original.ids), chosen).all()
        restored = ids.copy()
        restored[chosen] = original.ids[chosen]
        np.testing.assert_array_equal(restored, original.ids)


def test_the_objective_keeps_the_originals_as_targets() -> None:
    original = sequence(64, 0)
    before = original.ids.copy()
    corrupted = MaskedLM().prepare_example(Example({"tokens": original}, {}), WORDS, np.random.default_rng(0))
    where, label = corrupted.targets["masked_lm"]
    np.testing.assert_array_equal(original.ids, before)
    ids = corrupted.tokens.ids.copy()
    assert (ids != before).any()
    ids[where] = label
    np.testing.assert_array_equal(ids, before)


@pytest.mark.parametrize("masking", [TokenMasking(), WholeWordMasking()])
def test_eighty_ten_ten(masking: Masking) -> None:
    """Of each chosen piece: 80 % mask, 10 % even over the ordinary ids (one of them itself), 10 % as it was."""
    kinds = np.zeros(3, dtype=int)
    replaced = np.zeros(SIZE, dtype=int)
    rng = np.random.default_rng(0)
    for seed in range(600):
        original = sequence(128, seed)
        chosen, ids = masking.corrupt(original, WORDS, rng)
        now = ids[chosen]
        same = now == original.ids[chosen]
        kinds += [(now == MASK).sum(), (~same & (now != MASK)).sum(), same.sum()]
        replaced += np.bincount(now[~same & (now != MASK)], minlength=SIZE)
    ordinary = (~SPECIAL).sum()
    law = np.array([0.8, 0.1 * (1 - 1 / ordinary), 0.1 + 0.1 / ordinary])
    assert stats.chisquare(kinds, law * kinds.sum()).pvalue > UNLIKELY
    assert not replaced[SPECIAL].any()
    # An id replaces any other than itself: its chance falls with how often it is chosen, too little to be seen.
    assert stats.chisquare(replaced[~SPECIAL]).pvalue > UNLIKELY


def test_other_shares() -> None:
    original = sequence(128, 0)
    chosen, ids = TokenMasking(mask=1.0, random=0.0).corrupt(original, WORDS, np.random.default_rng(0))
    assert (ids[chosen] == MASK).all()
    chosen, ids = TokenMasking(mask=0.0, random=0.0).corrupt(original, WORDS, np.random.default_rng(0))
    np.testing.assert_array_equal(ids, original.ids)
    chosen, ids = TokenMasking(rate=0.5, mask=0.0, random=1.0).corrupt(original, WORDS, np.random.default_rng(0))
    assert len(chosen) == 64
    assert (ids[chosen] != original.ids[chosen]).mean() > 0.9
    assert not (ids == MASK).any()


def test_every_token_is_as_likely() -> None:
    original = sequence(43, 1)
    hits = np.zeros(43, dtype=int)
    for seed in range(3000):
        hits[TokenMasking().choose(original, WORDS, np.random.default_rng(seed))] += 1
    assert stats.chisquare(hits[~original.fixed]).pvalue > UNLIKELY


@pytest.mark.parametrize("length", [5, 12, 40, 128])
def test_whole_words_as_the_published_loop_takes_them(length: int) -> None:
    for seed in range(40):
        original = sequence(length, seed)
        words = words_of(original.ids.tolist(), original.fixed.tolist())
        masking = WholeWordMasking()
        chosen = masking.choose(original, WORDS, np.random.default_rng(seed)).tolist()
        for word in words:
            assert set(word) <= set(chosen) or not set(word) & set(chosen)
        shuffled = [words[number] for number in np.random.default_rng(seed).permutation(len(words))]
        assert chosen == published(shuffled, max(1, round(0.15 * length)))


def test_words_of_one_length_are_as_likely() -> None:
    text = np.tile([6, 50], 20)
    original = Sequence(*WORDS.frame(text))
    hits = np.zeros(42, dtype=int)
    for seed in range(3000):
        hits[WholeWordMasking().choose(original, WORDS, np.random.default_rng(seed))] += 1
    np.testing.assert_array_equal(hits[1:41:2], hits[2:41:2])
    assert stats.chisquare(hits[1:41:2]).pvalue > UNLIKELY


def test_a_sequence_that_begins_within_a_word() -> None:
    original = Sequence(*WORDS.frame(np.array([50, 51, 6, 7]), np.array([52, 8])))
    assert words_of(original.ids.tolist(), original.fixed.tolist()) == [[1, 2], [3], [4], [6], [7]]
    masking = WholeWordMasking(rate=0.2)
    taken = {tuple(masking.choose(original, WORDS, np.random.default_rng(seed)).tolist()) for seed in range(200)}
    assert (1, 2) in taken
    assert all((1 in chosen) == (2 in chosen) for chosen in taken)
    # The second segment's first piece joins neither the word before the frame nor the one after it.
    assert any(6 in chosen and 4 not in chosen and 7 not in chosen for chosen in taken)


def test_a_frame_that_begins_with_text() -> None:
    ids = np.array([50, 51, 6, 52, 7, SEP])
    original = Sequence(ids, np.zeros_like(ids), ids == SEP)
    masking = WholeWordMasking(rate=0.3)
    taken = {tuple(masking.choose(original, WORDS, np.random.default_rng(seed)).tolist()) for seed in range(50)}
    assert taken == {(0, 1), (2, 3), (4,)}


def test_a_word_longer_than_the_budget_is_left_alone() -> None:
    original = Sequence(*WORDS.frame(np.array([6, 50, 51, 52])))
    chosen, ids = WholeWordMasking().corrupt(original, WORDS, np.random.default_rng(0))
    assert len(chosen) == 0
    np.testing.assert_array_equal(ids, original.ids)


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"rate": 1.5}, "rate: expected a share from 0 to 1, got 1.5"),
        ({"mask": -0.1}, "mask: expected a share from 0 to 1, got -0.1"),
        ({"mask": 0.8, "random": 0.3}, "must lie between 0 and 1"),
    ],
)
def test_shares_that_are_none(shares: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WholeWordMasking(**shares)
    with pytest.raises(UsageError, match=words):
        MaskedLM().overlay({"masking": {"kind": "WholeWordMasking", **shares}})


@pytest.mark.parametrize("length", [9, 20, 33, 128])
def test_a_share_is_rounded_up_as_in_spanbert_s_code(length: int) -> None:
    masking = TokenMasking(rounding="up")
    chosen = masking.choose(sequence(length, 0), WORDS, np.random.default_rng(0))
    assert len(chosen) == -(-15 * length // 100)


@pytest.mark.parametrize("length", [5, 30, 128])
def test_a_share_is_rounded_at_random_as_in_fairseq(length: int) -> None:
    """The number is one of the two whole ones beside 15 %, which it is on average; of five tokens it is mostly none."""
    masking, rng = TokenMasking(rounding="stochastic"), np.random.default_rng(0)
    numbers = np.array([len(masking.choose(sequence(length, 0), WORDS, rng)) for _ in range(DRAWS)])
    below, fraction = divmod(0.15 * length, 1)
    assert set(numbers) == {below, below + 1}
    assert stats.binomtest(int((numbers > below).sum()), DRAWS, fraction).pvalue > UNLIKELY


def test_a_sequence_has_so_many_predictions_at_most() -> None:
    masking, original = WholeWordMasking(rate=0.4, max_predictions=20), sequence(512, 0)
    assert len(masking.choose(original, WORDS, np.random.default_rng(0))) in (19, 20)
    assert len(masking.choose(sequence(30, 0), WORDS, np.random.default_rng(0))) in (11, 12)
    objective = MaskedLM(masking=TokenMasking(max_predictions=20))
    assert objective.max_targets(1024, 2) == {"masked_lm": 40}
    assert objective.max_targets(60, 4) == {"masked_lm": 13}
    recipe = catalog.load("bert/tiny")
    free, capped = (recipe.overrides({"objectives.0.masking.max_predictions": most}) for most in (None, 7))
    flops = [component_cost(one, {"tokens": 128}).flops for one in (free, capped)]
    head = MaskedLM().output.cost(recipe.model, recipe.vocab_rows).flops
    assert flops[0] - flops[1] == pytest.approx(head * (0.15 - 7 / 128))


def test_the_frame_can_be_chosen_where_it_may() -> None:
    """As in fairseq, each token of a sequence is as likely as any other: `<s>` and `</s>` too."""
    original = sequence(40, 0)
    masking, rng = TokenMasking(specials=True, mask=1.0, random=0.0), np.random.default_rng(0)
    times = sum(np.bincount(masking.choose(original, WORDS, rng), minlength=40) for _ in range(DRAWS))
    assert stats.chisquare(times).pvalue > UNLIKELY
    assert original.fixed.any()
    chosen, ids = masking.corrupt(original, WORDS, rng)
    assert (ids[chosen] == MASK).all()


def test_random_tokens_are_as_frequent_as_in_the_corpus() -> None:
    counts = np.zeros(SIZE, dtype=np.int64)
    counts[[1, 5, 6, 50]] = 900, 100, 300, 600
    masking = TokenMasking(mask=0.0, random=1.0, replacement="frequency")
    assert MaskedLM(masking=masking).counts_tokens
    words, rng = replace(WORDS, counts=counts), np.random.default_rng(0)
    found = np.zeros(SIZE, dtype=int)
    for seed in range(300):
        chosen, ids = masking.corrupt(sequence(128, seed), words, rng)
        found += np.bincount(ids[chosen], minlength=SIZE)
    assert found.sum() == found[[5, 6, 50]].sum()
    assert stats.chisquare(found[[5, 6, 50]], found.sum() * np.array([0.1, 0.3, 0.6])).pvalue > UNLIKELY
    with pytest.raises(GenusError, match="the tokens of the corpus were not counted"):
        masking.corrupt(sequence(128, 0), WORDS, rng)
