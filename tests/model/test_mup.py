"""Maximal update parametrization: what table 8 of its paper says of every weight, and coordinates that do not grow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from genus import catalog
from genus.cli import main
from genus.errors import UsageError
from genus.optim.adamw import AdamW
from genus.scale.coordinates import Coordinate, powers, widened
from genus.train.record import read_metrics
from small import documents

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner

BASE, WIDTH = 32, 128
RATIO = WIDTH / BASE
MUP = [f'model.initialization={{kind="MuP", base={BASE}, std=0.1}}']


def learner(name: str, settings: list[str], width: int = WIDTH) -> Learner:
    small = ["model.layers=2", f"model.hidden={BASE}", "model.attention.heads=2", "model.feedforward.size=64"]
    row = widened(catalog.load(name, [*small, *settings]), width)
    torch.manual_seed(0)
    return row.learner()


@pytest.mark.parametrize("name", ["bert/tiny", "gpt2/tiny", "roberta/tiny"])
def test_every_weight_is_drawn_and_updated_as_table_8_says(name: str) -> None:
    """Yang et al. 2022, table 8, Adam, relative to the base: hidden weights have variance 1 / r and rate 1 / r, input
    weights and vectors 1 and 1, and the output is multiplied by 1 / r."""
    made = learner(name, MUP)
    built = AdamW(lr=1e-2, weight_decay=0.1).build(made)
    rate = {id(p): (group["lr"], group["weight_decay"]) for group in built.param_groups for p in group["params"]}
    hidden = {f"{path}.weight" for path, one in made.named_modules() if isinstance(one, torch.nn.Linear)}
    ends = ("attention.out.weight", "feedforward.out.weight")
    for path, weight in made.named_parameters():
        if path in hidden:
            assert rate[id(weight)] == pytest.approx((1e-2 / RATIO, 0.1 * RATIO)), path
            if not path.endswith(ends):  # those have a factor of their own in some blocks
                assert float(weight.detach().std()) == pytest.approx(0.1 / RATIO**0.5, rel=0.15), path
        else:
            assert rate[id(weight)][0] == 1e-2, path
    table = made.network.token_embedding.weight
    assert float(table.detach().std()) == pytest.approx(0.1, rel=0.02)
    head: Any = next(one.lm_head for one in made.heads.values() if hasattr(one, "lm_head"))
    states = torch.randn(3, WIDTH)
    inner = states if head.transform is None else head.transform(states)
    torch.testing.assert_close(head(states), inner @ head.weight.T / RATIO + (0 if head.bias is None else head.bias))


def test_at_the_base_it_is_the_usual_initialization() -> None:
    mup, usual = learner("gpt2/tiny", MUP, BASE), learner("gpt2/tiny", ["model.initialization.std=0.1"], BASE)
    for (path, ours), (_, theirs) in zip(mup.named_parameters(), usual.named_parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=path)
    assert len(AdamW(lr=1.0).build(mup).param_groups) == 2


def corpus(folder: Path) -> str:
    path = folder / "text.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in documents(60)), encoding="utf-8")
    return str(path)


def test_coordinates_are_flat_and_otherwise_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Logits after four updates: of the same size from 32 to 256 with muP, and growing with the width without it."""
    sets = ["model.layers=2", f"model.hidden={BASE}", "model.attention.heads=2", "model.feedforward.size=64",
            "tokens.vocab_size=300", "stages=[{max_length=32, batch=16, micro_batch=16}]", "optimizer.lr=0.01",
            "model.embedding.position.length=32", "model.dropout=0.0"]  # fmt: skip
    widths = [part for width in (32, 64, 128, 256) for part in ("--width", str(width))]
    found = {}
    for name, more in (("muP", [*MUP]), ("standard", ["model.initialization.std=0.1"])):
        options = [part for one in [*sets, *more] for part in ("--set", one)]
        page = str(tmp_path / f"{name}.html")
        assert main(["mup", "check", "gpt2/tiny", corpus(tmp_path), *widths, *options, "--json", "--page", page]) == 0
        found[name] = json.loads(capsys.readouterr().out)
        assert (tmp_path / f"{name}.html").read_text(encoding="utf-8").count("<svg") == 4
    assert found["muP"]["powers"]["logits"] < 0.2
    assert found["standard"]["powers"]["logits"] > 0.4
    assert abs(found["muP"]["powers"]["layers.1"]) < 0.25


def test_powers_are_those_of_the_width() -> None:
    made = [Coordinate(width, step, "x", width**0.5 * (step + 1)) for width in (8, 16, 64) for step in (0, 1)]
    assert powers(made) == pytest.approx({"x": 0.5})


@pytest.mark.parametrize(
    ("name", "settings", "line"),
    [
        ("albert/tiny", MUP, "token embeddings as wide as the hidden states"),
        ("lstm/tiny", MUP, "an LSTM does not take MuP"),
    ],
)
def test_who_cannot_take_it_says_so(name: str, settings: list[str], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        catalog.load(name, settings)


def test_a_width_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="take multiples of"):
        widened(catalog.load("bert/tiny"), 100)


def test_a_run_goes_on_and_is_published_as_what_it_is(tmp_path: Path) -> None:
    """No class of transformers divides its logits: the folder is one that genus alone reads."""
    options = ["--run", "device=cpu", "--run", "workers=0", "--run", "tracker=none", "--run", "log_every=1"]
    sets = ["model.layers=1", "model.hidden=64", "model.attention.heads=2", "model.feedforward.size=64", *MUP]
    sets += ["tokens.vocab_size=300", "budget.unit=steps", "stages=[{max_length=32, batch=8, micro_batch=8}]"]
    options += [part for one in sets for part in ("--set", one)]
    command = ["pretrain", "gpt2/tiny", corpus(tmp_path), *options]
    for name, amounts in (("whole", ["8"]), ("halves", ["4", "8"])):
        for number, amount in enumerate(amounts):
            more = ["--set", f"budget.amount={amount}", "--set", "schedule=Constant", *(["--resume"] if number else [])]
            assert main([*command, "--out", str(tmp_path / name), *more]) == 0
    losses = []
    for name in ("whole", "halves"):
        rows = read_metrics(tmp_path / name / "metrics.jsonl")
        losses.append([row["loss"] for row in rows if "loss" in row])
    assert losses[0] == losses[1]
    assert json.loads((tmp_path / "whole" / "model" / "config.json").read_text())["model_type"] == "genus"
