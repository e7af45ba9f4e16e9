"""Rare tokens are masked more often: the law of one draw, of several, and the counts of a store."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from genus.errors import GenusError
from genus.examples import Sequence
from genus.objectives.masking.rare import RareMasking
from genus.objectives.pretraining.distillation import DistilledMaskedLM
from genus.objectives.pretraining.generator import MaskedLMGenerator
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.tokens.store import Store
from genus.tokens.vocabulary import Vocabulary

UNLIKELY = 1e-4
"""Probability under the law below which a (fixed, seeded) sample is taken to break it."""
DRAWS = 4000
COUNTS = np.array([0, 3, 0, 0, 0, 1000, 100, 10, 1, 0])
"""Ids 5 to 9 are ordinary; the last one is not in the corpus, and counts as if it were there once."""
WORDS = Vocabulary(
    size=10, roles={"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4},
    special=np.arange(10) < 5, word_start=np.ones(10, dtype=np.bool_),
    single=((2, None, 0), (None, 0, 0), (3, None, 0)), pair=((2, None, 0), (None, 0, 0), (3, None, 0)), counts=COUNTS,
)  # fmt: skip


def framed(*ids: int) -> Sequence:
    return Sequence(*WORDS.frame(np.array(ids)))


def expected(weights: np.ndarray, number: int) -> np.ndarray:
    """Return how likely each is among as many draws one by one, by summing over all orders."""
    chance = np.zeros(len(weights))
    for order in permutations(range(len(weights)), number):
        left, one = weights.sum(), 1.0
        for index in order:
            one, left = one * weights[index] / left, left - weights[index]
        chance[list(order)] += one
    return chance


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("smoothing", [0.7, 0.0])
def test_draws_follow_the_counts(number: int, smoothing: float) -> None:
    sequence = framed(5, 6, 7, 8, 9)
    masking = RareMasking(rate=number / len(sequence.ids), smoothing=smoothing)
    rng = np.random.default_rng(0)
    times = np.zeros(5)
    for _ in range(DRAWS):
        chosen = masking.choose(sequence, WORDS, rng)
        assert len(chosen) == number
        assert (np.diff(chosen) > 0).all()
        times[chosen - 1] += 1
    weights = np.array([1000, 100, 10, 1, 1.0]) ** -smoothing
    for found, chance in zip(times, expected(weights, number), strict=True):
        assert stats.binomtest(int(found), DRAWS, min(chance, 1.0)).pvalue > UNLIKELY


def test_special_tokens_are_never_chosen() -> None:
    sequence = framed(1, 1, 9, 1)
    assert RareMasking(rate=1.0).choose(sequence, WORDS, np.random.default_rng(0)).tolist() == [3]


def test_without_counts_it_is_one_line() -> None:
    with pytest.raises(GenusError, match="the tokens of the corpus were not counted"):
        RareMasking().choose(framed(5), replace(WORDS, counts=None), np.random.default_rng(0))


def test_objectives_say_that_they_need_counts() -> None:
    rare = MaskedLM(masking=RareMasking())
    assert [
        o.counts_tokens for o in (rare, DistilledMaskedLM(masking=RareMasking()), MaskedLMGenerator(masked=rare))
    ] == [True] * 3
    assert not any(objective.counts_tokens for objective in (MaskedLM(), DistilledMaskedLM(), MaskedLMGenerator()))


def test_a_store_counts_its_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genus.tokens.store.COUNTED_AT_ONCE", 7)
    ids = np.random.default_rng(0).integers(0, 9, 50).astype(np.uint16)
    store = Store(ids, np.array([0, 20, 50]), np.array([[0, 1], [1, 2]]), np.array([60, 90]))
    assert store.counts(12).tolist() == [ids.tolist().count(number) for number in range(12)]
    assert store.split(0.5)[0].counts(12).tolist() == store.counts(12).tolist()
