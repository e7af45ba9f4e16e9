"""The gradient noise scale: of a quadratic whose noise is known, and in a run, where it changes nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from toy_run import RUN, STILL, ToyFeed, losses, rows, toy_learner, toy_train

from forked import ranks
from genus.errors import UsageError
from genus.train.data import TrainStage
from genus.train.noise_scale import NoiseScale, suggestion
from genus.train.world import World

if TYPE_CHECKING:
    from pathlib import Path

SALT = 3
"""Of a feed whose first step has an estimate above 0."""
ALONE = World(0, 1, torch.device("cpu"))
DIMENSIONS, SIGMA, ROWS, MICRO = 200, 0.5, 4, 8


@pytest.mark.parametrize("length", [1.0, 3.0])
def test_of_a_quadratic_with_known_noise(length: float) -> None:
    """Loss |w - x|² / 2 of rows x ~ N(0, σ² I): G = w, Σ = σ² I, and so B = d σ² / |w|²."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.full((DIMENSIONS,), length / math.sqrt(DIMENSIONS)))
    noise, found = NoiseScale(ALONE), list[float]()
    for _ in range(1500):
        x = SIGMA * torch.randn(MICRO, ROWS, DIMENSIONS, generator=draw)
        gradients = (weight.detach() - x.mean(1)) / MICRO  # that of each micro-batch, as it is accumulated
        weight.grad = gradients[0]
        noise.first([weight], ROWS, MICRO)
        weight.grad = gradients.sum(0)
        found.append(float(noise.of_step(weight.grad.norm())))
    expected = DIMENSIONS * SIGMA**2 / length**2
    assert sum(found[-500:]) / 500 == pytest.approx(expected, rel=0.1)


def test_it_is_that_of_the_gradients_of_a_run_and_changes_nothing(tmp_path: Path) -> None:
    """The first row, recomputed by gradients of the first micro-batch and of all (McCandlish et al. 2018, A.1)."""
    stages = [TrainStage(ToyFeed(SALT), 4)]
    for name, run in (("with", RUN.override("noise_scale", True)), ("without", RUN)):
        toy_train(tmp_path / name, run=run, stages=stages, learner=toy_learner(model=STILL))
    assert losses(tmp_path / "with") == losses(tmp_path / "without")
    first = rows(tmp_path / "with")[0]
    assert all("noise_scale" not in row for row in rows(tmp_path / "without"))

    each = gradients(4, SALT)
    expected = scale([(4 * each[0]).norm() ** 2], sum(each, torch.tensor(0.0)).norm() ** 2, 2, 8)
    assert expected is not None
    assert first["noise_scale"] == pytest.approx(expected, rel=1e-4)
    assert any(row.get("noise_scale") is not None for row in rows(tmp_path / "with"))


def gradients(micro: int, salt: int = 0) -> list[torch.Tensor]:
    """Return the shares of each micro-batch in the gradient of a step."""
    learner, batches = toy_learner(model=STILL), [ToyFeed(salt)[number] for number in range(micro)]
    counts = {"masked_lm": torch.stack([learner.counts(batch)["masked_lm"] for batch in batches]).sum()}
    found = []
    for batch in batches:
        learner.zero_grad()
        learner.objective(learner(batch).sums, counts).backward()  # type: ignore[no-untyped-call]
        found.append(torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None]))
    return found


def scale(small: list[torch.Tensor], large: torch.Tensor, b: int, whole: int) -> float | None:
    """Return B of squared norms over b rows and over the whole step (McCandlish et al. 2018, appendix A.1)."""
    mean, big = float(sum(small)) / len(small), float(large)
    square, trace = (whole * big - b * mean) / (whole - b), (mean - big) / (1 / b - 1 / whole)
    return trace / square if square > 0 and trace > 0 else None


def test_two_processes_measure_their_first_micro_batches(tmp_path: Path) -> None:
    """Of four micro-batches, the first of each process: gradients that no process has summed yet."""
    ranks(2, "noise_processes", tmp_path)
    each = gradients(4)
    expected = scale([(4 * part).norm() ** 2 for part in each[:2]], sum(each, torch.tensor(0.0)).norm() ** 2, 2, 8)
    assert expected is not None
    assert rows(tmp_path)[0]["noise_scale"] == pytest.approx(expected, rel=1e-3)


def test_steps_of_one_micro_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two micro-batches a step"):
        toy_train(tmp_path, run=RUN.override("noise_scale", True), stages=[TrainStage(ToyFeed(), 1)])


def test_what_a_noise_scale_suggests() -> None:
    assert "takes fewer steps" in suggestion(1000.0, 32)
    assert "takes less text" in suggestion(10.0, 256)
    assert suggestion(100.0, 128) == ""
