"""Number formats of a GPU against float32; skipped where there is none."""

from __future__ import annotations

import pytest
import torch
from toy_run import RUN, STILL, ToyFeed, toy_learner

from genus.model.block.gradient_scaled import GradientScaled
from genus.model.block.residual import PostNorm
from genus.optim.adamw import AdamW
from genus.train.data import MicroBatch
from genus.train.step import TrainStep
from genus.train.world import init_distributed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

NEAR = {"bfloat16": 0.01, "float16": 0.003, "float8": 0.03}
"""Relative, of losses."""
SCALED = STILL.overlay({"block": GradientScaled(block=PostNorm()).to_json()})


def losses(precision: str, *, blocks: bool = False) -> list[float]:
    run = RUN.override("device", "cuda").override("precision", precision)
    world, learner = init_distributed(run), toy_learner(model=SCALED if blocks else STILL)
    train_step, found = TrainStep(learner.to(world.device), AdamW(lr=1e-2), run, world, seed=0), []
    for step in range(5):
        counts = train_step.count({step: MicroBatch(ToyFeed()[step], 0.0)})
        found.append(train_step({step: ToyFeed()[step]}, 0, 1.0, counts.targets).read().loss)
    return found


@pytest.mark.parametrize(("precision", "blocks"), [("bfloat16", False), ("float16", False), ("float16", True)])
def test_16_bits_are_near(precision: str, blocks: bool) -> None:
    assert losses(precision, blocks=blocks) == pytest.approx(losses("float32"), rel=NEAR[precision])


def test_8_bits_are_near() -> None:
    pytest.importorskip("torchao")
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("needs a GPU with products in float8")
    assert losses("float8") == pytest.approx(losses("float32"), rel=NEAR["float8"])
