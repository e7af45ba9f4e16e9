"""Batches that grow from stage to stage: how many rows a step takes, and at what rate."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from toy_run import ToyFeed, rows, toy_train

from genus import catalog
from genus.cli import main
from genus.optim.schedule import Constant, Cosine, Linear, ScaledWithBatch
from genus.train.data import TrainStage

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "train.md").read_text(encoding="utf-8")
SMALL = ["tokens.vocab_size=300", "model.layers=1", "model.hidden=32", "model.attention.heads=2"]
SMALL += ["model.feedforward.size=64", "budget.amount=40960"]
RUN = ["device=cpu", "workers=0", "tracker=none", "log_every=1", "held_out=0.1"]
EXACT = 1e-12
"""A handful of float64 operations."""
GROWING = [TrainStage(ToyFeed(), 1, 0.5, batch_ratio=1.0), TrainStage(ToyFeed(salt=1), 3, 0.5, batch_ratio=3.0)]


@pytest.mark.parametrize(("power", "factor"), [(1.0, 3.0), (0.5, 3.0**0.5), (0.0, 1.0)])
def test_the_rate_follows_the_batch(tmp_path: Path, power: float, factor: float) -> None:
    curve = Linear(warmup=0.2)
    toy_train(tmp_path, stages=GROWING, schedule=ScaledWithBatch(curve=curve, power=power))
    rates = [row["lr"] for row in rows(tmp_path)]
    wanted = [1e-2 * curve.factor(step / 10) * (factor if step >= 5 else 1.0) for step in range(10)]
    assert rates == pytest.approx(wanted, rel=EXACT)


def test_other_schedules_do_not_follow_it(tmp_path: Path) -> None:
    toy_train(tmp_path, stages=GROWING, schedule=Constant())
    assert [row["lr"] for row in rows(tmp_path)] == [1e-2] * 10
    assert Cosine().scale(7.0) == 1.0


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, draw = tmp_path_factory.mktemp("growing") / "text.jsonl", random.Random(0)
    words = ["wave", "tide", "harbor", "sail", "anchor", "salt", "island", "gull", "storm", "captain"]
    texts = (". ".join(" ".join(draw.choices(words, k=6)) for _ in range(12)) + "." for _ in range(200))
    path.write_text("".join(json.dumps({"text": each}) + "\n" for each in texts))
    return path


@pytest.mark.parametrize(
    ("schedule", "batch_ratio"),
    [(None, [1, 1, 1]), ('{kind = "ScaledWithBatch", curve = {kind = "Constant", warmup = 0.1}}', [1, 2, 4])],
    ids=["constant", "scaled"],
)
def test_the_overlay_of_the_page(tmp_path: Path, text: Path, schedule: str | None, batch_ratio: list[int]) -> None:
    (overlay,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "growing.toml").write_text(overlay)
    settings = [*SMALL, *([f"schedule={schedule}"] if schedule else [])]
    assert [stage.batch for stage in catalog.load(tmp_path / "growing.toml", settings).stages] == [32, 64, 128]
    options = [part for setting in settings for part in ("--set", setting)]
    options += [part for setting in RUN for part in ("--run", setting)]
    assert main(["pretrain", str(tmp_path / "growing.toml"), str(text), "--out", str(tmp_path / "run"), *options]) == 0
    found = [row for row in rows(tmp_path / "run") if "loss" in row]
    tokens = [0, *(row["tokens"] for row in found)]
    for row, before in zip(found, tokens, strict=False):
        batch = (32, 64, 128)[row["stage"]]
        assert 0.9 * batch * 128 < row["tokens"] - before <= batch * 128
        wanted = 1e-3 * min(1.0, before / 40960 / 0.1) * batch_ratio[row["stage"]]
        assert row["lr"] == pytest.approx(wanted, rel=EXACT)
    assert {row["stage"] for row in found} == {0, 1, 2}
