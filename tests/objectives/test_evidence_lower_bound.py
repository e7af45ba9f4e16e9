"""The relaxed bound: each term written out slowly, its schedules, and what images are learned from."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from genus import catalog
from genus.batch import Batch, Packed
from genus.images.decode import patches
from genus.model.discrete_vae import DiscreteVAE
from genus.objectives.pretraining.evidence_lower_bound import (
    EvidenceLowerBound,
    eased,
    from_uniform,
    gumbel_softmax,
    logit_laplace,
    mirrored,
)

SMALL = DiscreteVAE(codes=12, grid=2, channels=8, code_channels=8, groups=2, blocks=1)
UPDATES = 3_000_000
STAGE = {"kind": "Stage", "max_length": 8, "batch": 2, "micro_batch": 2}


def test_logit_laplace_is_that_of_the_paper() -> None:
    """Appendix A.3, equation 2, in Python's numbers; and it is a density: it integrates to 1."""
    draw = np.random.default_rng(0)
    for x, mean, log_scale in zip(draw.uniform(0.1, 0.9, 50), draw.normal(size=50), draw.normal(size=50), strict=True):
        b = math.exp(log_scale)
        density = math.exp(-abs(math.log(x / (1 - x)) - mean) / b) / (2 * b * x * (1 - x))
        found = logit_laplace(*(torch.tensor(one, dtype=torch.float64) for one in (x, mean, log_scale)))
        assert found.item() == pytest.approx(-math.log(density), rel=1e-9)
    x = torch.linspace(0, 1, 2_000_001, dtype=torch.float64)[1:-1]
    whole = torch.exp(-logit_laplace(x, torch.tensor(0.3), torch.tensor(-0.5))).mean()
    assert whole.item() == pytest.approx(1.0, abs=1e-5)


def test_divergence_from_the_uniform_distribution() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [math.log(2), 0.0, -math.inf], [50.0, 0.0, 0.0]], dtype=torch.float64)
    logits = logits.clamp(min=-700)
    slow = []
    for row in logits.tolist():
        whole = sum(math.exp(one) for one in row)
        q = [math.exp(one) / whole for one in row]
        slow.append(sum(one * math.log(one * len(q)) for one in q if one > 0))
    assert from_uniform(logits).tolist() == pytest.approx(slow, abs=1e-12)
    assert slow[0] == pytest.approx(0.0)
    assert slow[2] == pytest.approx(math.log(3))


def test_relaxed_draws_are_softmaxes_of_noise_and_their_largest_are_draws() -> None:
    """The formula with PyTorch's own noise; the argmax has the softmax's frequencies, whatever the temperature."""
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0])
    many = logits.expand(40_000, 4)
    torch.manual_seed(0)
    theirs = torch.nn.functional.gumbel_softmax(many, tau=0.4)
    torch.manual_seed(0)
    torch.testing.assert_close(gumbel_softmax(many, 0.4), theirs)
    for temperature in (1.0, 1 / 16):
        shares = gumbel_softmax(many, temperature).argmax(-1).bincount(minlength=4) / len(many)
        torch.testing.assert_close(shares, logits.softmax(-1), atol=0.01, rtol=0)
    assert gumbel_softmax(many, 1 / 16).amax(-1).mean() > gumbel_softmax(many, 1.0).amax(-1).mean()


def test_schedules_are_half_a_cosine_over_the_published_updates() -> None:
    """Appendix A.2: τ from 1 to 1/16 in 150,000 updates, β from 0 to 6.6 in 5,000, of 3,000,000."""
    objective: Any = catalog.load("dvae").objectives[0]

    def temperature(update: int) -> float:
        return eased(update / UPDATES, 1.0, objective.temperature, objective.cooling)

    def weight(update: int) -> float:
        return eased(update / UPDATES, 0.0, objective.divergence_weight, objective.rising)

    assert [temperature(one) for one in (0, 150_000, UPDATES)] == pytest.approx([1.0, 1 / 16, 1 / 16])
    assert temperature(75_000) == pytest.approx((1 + 1 / 16) / 2)
    assert temperature(50_000) == pytest.approx(1 / 16 + 15 / 16 * (1 + math.cos(math.pi / 3)) / 2)
    assert [weight(one) for one in (0, 2_500, 5_000, UPDATES)] == pytest.approx([0.0, 3.3, 6.6, 6.6], abs=1e-3)
    schedule = catalog.load("dvae").schedule
    lr = [1e-4 * schedule.factor(update / UPDATES) for update in (0, 600_000, 1_200_000, UPDATES)]
    assert lr == pytest.approx([1e-4, (1e-4 + 1.25e-6) / 2, 1.25e-6, 1.25e-6])


@pytest.fixture
def batch() -> Batch:
    squares = np.random.default_rng(0).integers(0, 256, (3, SMALL.side, SMALL.side, 3), dtype=np.uint8)
    pixels = torch.from_numpy(np.concatenate([patches(one, SMALL.patch) for one in squares]))
    pixels = torch.cat([pixels, torch.zeros(4, pixels.shape[1], dtype=torch.uint8)])
    ids = torch.ones(16, dtype=torch.long)
    return Batch({"tokens": replace(Packed.laid(ids, [[4, 4], [4]], 8), pixels=pixels)}, {})


def test_the_loss_is_the_negative_bound_of_a_number(batch: Batch) -> None:
    """Of three images, slowly: codes by the argmax, as of held-out images; padding counts nowhere."""
    torch.manual_seed(0)
    recipe = catalog.load("dvae/tiny").overlay(
        {"model": SMALL.to_json(), "examples": {"side": 4, "patch": 2}, "stages": [STAGE]}
    )
    learner = recipe.learner().double().eval()
    objective: Any = recipe.objectives[0]
    sums, counts = learner(batch).sums, learner.counts(batch)
    network: Any = learner.network
    whole = 0.0
    for number in range(3):
        square = batch.tokens.pixels[4 * number : 4 * number + 4].view(2, 2, 3, 2, 2)  # type: ignore[index]
        image = square.permute(2, 0, 3, 1, 4).reshape(1, 3, 4, 4)
        logits = network.logits(image)[0]
        codes = logits.argmax(0)
        maps = network.decoder(torch.nn.functional.one_hot(codes, SMALL.codes).permute(2, 0, 1)[None].double())[0]
        x = 0.8 * image[0].double() / 255 + 0.1
        likely = -logit_laplace(x, maps[:3], maps[3:]).sum()
        away = from_uniform(logits.flatten(1).T).sum()
        whole += (likely - objective.divergence_weight * away).item()
    assert float(counts["reconstruction"]) == 3 * 3 * SMALL.side**2
    found = learner.objective(sums, counts).item()
    assert found == pytest.approx(-whole / (3 * 3 * SMALL.side**2), rel=1e-5)


def test_the_temperature_and_the_weight_follow_the_budget(batch: Batch) -> None:
    recipe = catalog.load("dvae/tiny").overlay(
        {"model": SMALL.to_json(), "examples": {"side": 4, "patch": 2}, "stages": [STAGE]}
    )
    learner = recipe.learner().train()
    found = []
    for spent in (0.0, 0.1, 1.0):
        torch.manual_seed(1)
        found.append(learner(replace(batch, spent=spent)).sums)
    raw = [one["kl_divergence/nats"].item() / (3 * SMALL.patch**2) for one in found]
    assert raw == pytest.approx([raw[0]] * 3)
    objective: Any = recipe.objectives[0]
    weights = [one["kl_divergence"].item() / raw[0] for one in found]
    assert weights == pytest.approx([0.0, eased(0.1, 0, objective.divergence_weight, objective.rising), 1.0], rel=1e-5)
    assert len({one["reconstruction"].item() for one in found}) == 3


def test_an_image_is_mirrored_patch_by_patch() -> None:
    square = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    assert (mirrored(patches(square, 4)) == patches(square[:, ::-1], 4)).all()


def test_a_model_of_texts_is_refused() -> None:
    with pytest.raises(ValueError, match="take model=DiscreteVAE"):
        EvidenceLowerBound().check(catalog.load("bert/tiny").model)
