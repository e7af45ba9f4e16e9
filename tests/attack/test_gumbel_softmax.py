"""Samples and losses beside the equations of the papers, written out with the numbers of one at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from genus.attack.gumbel import expected_nll, gumbel_noise, gumbel_softmax, margin_loss

EULER = 0.5772156649015329


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_sample_is_a_softmax_of_noisy_logits(temperature: float) -> None:
    theta, noise = numbers(3, 5), numbers(2, 3, 5, seed=1)
    found = gumbel_softmax(theta, noise, temperature)
    for sample in range(2):
        for token in range(3):
            raised = [
                math.exp((theta[token, v].item() + noise[sample, token, v].item()) / temperature) for v in range(5)
            ]
            expected = [one / sum(raised) for one in raised]
            assert found[sample, token].tolist() == pytest.approx(expected, rel=1e-12)


def test_noise_has_the_moments_of_the_gumbel_distribution() -> None:
    noise = gumbel_noise(50, 40, 100, torch.Generator().manual_seed(0)).double().numpy()
    assert noise.shape == (50, 40, 100)
    error = 5 / math.sqrt(noise.size)
    assert noise.mean() == pytest.approx(EULER, abs=error * math.pi / math.sqrt(6))
    assert noise.var() == pytest.approx(math.pi**2 / 6, rel=0.03)


def test_the_largest_entry_is_a_draw_from_the_softmax() -> None:
    """The Gumbel-max trick (Jang et al. 2017, equation 1)."""
    theta = torch.tensor([[0.0, 1.0, 2.0, float("-inf")]])
    noise = gumbel_noise(20_000, 1, 4, torch.Generator().manual_seed(3))
    chosen = gumbel_softmax(theta, noise, 1.0).argmax(-1)[:, 0].numpy()
    chances = theta.softmax(-1)[0].numpy()
    counts = np.bincount(chosen, minlength=4) / 20_000
    assert counts == pytest.approx(chances, abs=5 * math.sqrt(0.25 / 20_000))
    assert counts[3] == 0


@pytest.mark.parametrize("margin", [0.0, 5.0])
def test_the_margin_loss_is_that_of_the_paper(margin: float) -> None:
    logits, label = 3 * numbers(40, 4), torch.arange(40) % 4
    found = margin_loss(logits, label, margin).tolist()
    expected = [
        max(row[y] - max(value for k, value in enumerate(row) if k != y) + margin, 0.0)
        for row, y in zip(logits.tolist(), label.tolist(), strict=True)
    ]
    assert found == pytest.approx(expected, rel=1e-12)
    assert 0 < sum(one == 0 for one in found) < 40


def test_the_expected_likelihood_is_cross_entropy_at_known_tokens() -> None:
    logits, ids = numbers(6, 9), torch.tensor([0, 3, 6, 6, 1, 2])
    one_hot = torch.nn.functional.one_hot(ids, 7).double()
    cut = torch.nn.functional.cross_entropy(logits[:, :7], ids, reduction="none")
    assert expected_nll(logits, one_hot).tolist() == pytest.approx(cut.tolist())
    mixed = numbers(6, 7, seed=2).softmax(-1)
    expected = [
        -sum(p * (row[v] - math.log(sum(map(math.exp, row)))) for v, p in enumerate(chances))
        for row, chances in zip(logits[:, :7].tolist(), mixed.tolist(), strict=True)
    ]
    assert expected_nll(logits, mixed).tolist() == pytest.approx(expected)
