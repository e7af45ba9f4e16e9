"""Sampling: its law, its filters and penalties beside those of transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from genus.generate.penalties import NoRepeatedNgrams, PenalizedSampling, RepetitionPenalty
from genus.generate.sampling import FIRST, DecayingTemperature, Greedy, Sampling, inverted

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

DRAWS = 10_000
IMPROBABLE = 1e-3
"""Of a right sampler, one in a thousand; the draws are keyed, so the outcome is always the same."""


def uniform(number: int = DRAWS) -> Tensor:
    return torch.from_numpy(np.random.default_rng(7).random(number))


def p_value(ids: Tensor, chances: Tensor) -> float:
    scipy = pytest.importorskip("scipy.stats")
    found = torch.bincount(ids, minlength=len(chances)).numpy()
    there = chances.numpy() > 0
    assert not found[~there].any()
    expected = chances.numpy()[there] * found.sum()
    return float(scipy.chisquare(found[there], expected).pvalue)


def logits(size: int, spread: float = 1.0, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) * spread


WARPED: dict[str, tuple[Sampling, Callable[[object, Tensor], Tensor]]] = {
    "all": (Sampling(), lambda hf, x: x),
    "temperature": (Sampling(temperature=0.6), lambda hf, x: hf.TemperatureLogitsWarper(0.6)(None, x)),
    "top k": (Sampling(top_k=7), lambda hf, x: hf.TopKLogitsWarper(7)(None, x)),
    "nucleus": (Sampling(top_p=0.8), lambda hf, x: hf.TopPLogitsWarper(0.8)(None, x)),
    "min p": (Sampling(min_p=0.1), lambda hf, x: hf.MinPLogitsWarper(0.1)(None, x)),
    "all together": (
        Sampling(temperature=1.5, top_k=20, top_p=0.9, min_p=0.05),
        lambda hf, x: hf.MinPLogitsWarper(0.05)(
            None,
            hf.TopPLogitsWarper(0.9)(None, hf.TopKLogitsWarper(20)(None, hf.TemperatureLogitsWarper(1.5)(None, x))),
        ),
    ),
}


@pytest.mark.parametrize("size", [50, FIRST + 100], ids=["few", "many"])
@pytest.mark.parametrize("name", WARPED)
def test_draws_follow_the_law_of_the_filtered_distribution(name: str, size: int) -> None:
    """Chi-squared against softmax of what transformers' processors leave, no token outside of it."""
    hf = pytest.importorskip("transformers.generation.logits_process")
    sampling, warp = WARPED[name]
    given = logits(size)
    expected = warp(hf, given[None].double()).softmax(-1)[0]
    ids = sampling.choose(given.expand(DRAWS, -1), uniform())
    few = expected * DRAWS >= 5  # of the law for larger counts
    rest = torch.cat([expected[few], expected[~few].sum()[None]])
    counted = torch.cat([few.nonzero()[:, 0], torch.tensor([-1])])
    place = torch.full((size,), len(rest) - 1)
    place[counted[:-1]] = torch.arange(len(rest) - 1)
    assert set(ids.tolist()) <= set(expected.nonzero()[:, 0].tolist())
    assert p_value(place[ids], rest) > IMPROBABLE


def test_the_law_is_that_of_multinomial() -> None:
    given, generator = logits(40), torch.Generator().manual_seed(3)
    theirs = torch.multinomial(given.softmax(-1), DRAWS, replacement=True, generator=generator)
    ours = Sampling().choose(given.expand(DRAWS, -1), uniform())
    scipy = pytest.importorskip("scipy.stats")
    table = np.stack([torch.bincount(one, minlength=40).numpy() for one in (ours, theirs)])
    assert scipy.chi2_contingency(table[:, table.sum(0) > 0]).pvalue > IMPROBABLE


def test_a_wrong_temperature_would_be_seen() -> None:
    given = logits(40)
    ids = Sampling(temperature=1.1).choose(given.expand(DRAWS, -1), uniform())
    assert p_value(ids, given.double().softmax(-1)) < IMPROBABLE


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2**-53])
def test_extreme_draws_take_tokens_that_have_a_probability(draw: float) -> None:
    chances = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0, 0.0]], dtype=torch.float64)
    assert inverted(chances, torch.tensor([draw])).item() in {1, 3}
    assert Sampling(top_p=1e-9).choose(logits(30)[None], torch.tensor([draw])).item() == logits(30).argmax()
    assert Sampling(temperature=0.0).choose(logits(30)[None], torch.tensor([draw])).item() == logits(30).argmax()
    assert Greedy().choose(logits(30)[None], torch.tensor([draw])).item() == logits(30).argmax()


def test_a_draw_does_not_depend_on_other_rows() -> None:
    rows = torch.stack([logits(3 * FIRST, 5.0, seed) for seed in range(8)] + [torch.zeros(3 * FIRST)])
    draws, sampling = uniform(9), Sampling(top_p=0.9)
    together = sampling.choose(rows, draws)
    assert together.tolist() == [int(sampling.choose(rows[n : n + 1], draws[n : n + 1])) for n in range(9)]


def test_penalties_are_those_of_transformers() -> None:
    hf = pytest.importorskip("transformers.generation.logits_process")
    rng = np.random.default_rng(1)
    texts = rng.integers(0, 12, (5, 30))
    given = torch.stack([logits(40, seed=seed) for seed in range(5)])
    for ours, theirs in (
        (RepetitionPenalty(value=1.3), hf.RepetitionPenaltyLogitsProcessor(1.3)),
        (NoRepeatedNgrams(size=3), hf.NoRepeatNGramLogitsProcessor(3)),
        (NoRepeatedNgrams(size=1), hf.NoRepeatNGramLogitsProcessor(1)),
    ):
        expected = theirs(torch.from_numpy(texts), given.clone())
        torch.testing.assert_close(ours(given.clone(), texts.tolist()), expected, rtol=0, atol=0)
    assert torch.equal(NoRepeatedNgrams(size=3)(given.clone(), [[1, 2]] * 5), given)


def test_penalized_sampling_is_its_formula() -> None:
    """p_i = exp(x_i / (T I(i))) / Σ, written out."""
    given, text, temperature, theta = logits(10).double(), [3, 3, 7], 0.7, 1.2
    terms = [torch.exp(x / (temperature * (theta if i in text else 1.0))) for i, x in enumerate(given)]
    expected = torch.stack(terms) / torch.stack(terms).sum()
    found = PenalizedSampling(theta=theta)(given.clone()[None], [text])[0]
    torch.testing.assert_close((found / temperature).softmax(-1), expected, rtol=1e-12, atol=0)


def test_a_decaying_temperature_falls_from_ten_to_one_over_twenty_tokens() -> None:
    decoding, x = DecayingTemperature(), logits(50)
    heat = [float((x / decoding.tempered(x[None], [number])[0])[0]) for number in range(40)]
    assert heat[:20] == pytest.approx([10 - 9 * number / 19 for number in range(20)])
    assert heat[19:] == pytest.approx([1.0] * 21)
    both = decoding.tempered(torch.stack([x, x]), [0, 30])
    assert torch.allclose(both[0], x / 10)
    assert torch.allclose(both[1], x)
    assert DecayingTemperature(temperature=0.5).tempered(x[None], [0])[0].tolist() == pytest.approx((x / 20).tolist())


def test_a_decaying_temperature_is_a_draw_from_each_of_its_softmaxes() -> None:
    decoding, x = DecayingTemperature(start=4.0, tokens=3, temperature=0.5), logits(12, 2.0)
    for written, heat in ((0, 4.0), (1, 2.25), (2, 0.5), (9, 0.5)):
        ids = decoding.choose(decoding.tempered(x.expand(DRAWS, -1), [written] * DRAWS), uniform())
        assert p_value(ids, (x.double() / heat).softmax(-1)) > IMPROBABLE
