"""`genus plan`: what it prints, what its exit code says, and how it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from small_run import SMALL

from genus.cli import main
from genus.devices import DEVICES
from genus.train.record import read_metrics

if TYPE_CHECKING:
    from pathlib import Path

    from small_run import Place

    Captured = pytest.CaptureFixture[str]


def planned(capsys: Captured, *arguments: str) -> dict[str, object]:
    assert main(["plan", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_the_exit_code_says_whether_it_fits(capsys: Captured) -> None:
    assert main(["plan", "bert/base", "--device", "h100", "--count", "1", "--fits"]) == 0
    assert capsys.readouterr().out == "bert/base fits on 1 h100\n"
    assert main(["plan", "gpt3/175b", "--device", "h100", "--count", "8", "--fits"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("genus: error: gpt3/175b does not fit on 8 h100: even ")
    enough = int(told.err.rsplit("; ", 1)[1].split()[0])
    assert main(["plan", "gpt3/175b", "--device", "h100", "--count", str(enough), "--fits"]) == 0
    assert main(["plan", "gpt3/175b", "--device", "h100", "--count", str(enough // 2), "--fits"]) == 1


def test_what_does_not_fit_is_json_too(capsys: Captured) -> None:
    assert main(["plan", "gpt3/175b", "--count", "2", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["fits"], found["plan"], found["run"]) == (False, None, None)
    assert found["why"]


def test_the_plan_says_how_to_run(capsys: Captured) -> None:
    assert main(["plan", "gpt3/175b", "--device", "a100", "--count", "1024"]) == 0
    told = capsys.readouterr().out
    for line in ("layout ", "micro-batch ", "memory ", "speed ", "whole run ", "why ", "settings ", "assumed "):
        assert f"\n{line}" in told
    assert "--runtime parallel.data=Sharded" in told
    assert "padded_vocab_size=" in told


def test_figures_are_stated(capsys: Captured) -> None:
    """Twice the efficiency and the price asked for; nothing is exchanged on one device, so speed doubles with it."""
    options = ["bert/base", "--device", "a100", "--assume", "device.bandwidth=1e30"]
    slow = planned(capsys, *options, "--assume", "efficiency=0.2", "--assume", "price=3")
    fast = planned(capsys, *options, "--assume", "efficiency=0.4")
    assert isinstance(slow["plan"], dict)
    assert isinstance(fast["plan"], dict)
    assert fast["plan"]["tokens_per_second"] == pytest.approx(2 * slow["plan"]["tokens_per_second"])
    assert isinstance(slow["run"], dict)
    assert isinstance(fast["run"], dict)
    assert slow["run"]["cost"] == pytest.approx(3 * 24 * slow["run"]["days"])
    assert fast["run"]["cost"] is None
    assert slow["run"]["kilowatt_hours"] == pytest.approx(24 * slow["run"]["days"] * 0.4 * 1.1)


def test_speed_is_that_of_a_run(capsys: Captured, place: Place, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--out", str(run), *SMALL, "--run", "log_every=1"]
    assert main(["pretrain", "bert/mini", str(place.folder / "text.jsonl"), *options]) == 0
    rows = [row["tokens_per_second"] for row in read_metrics(run / "metrics.jsonl") if "loss" in row]
    capsys.readouterr()
    found = planned(capsys, str(run), "--device", "l4", "--measured", str(run))
    assert isinstance(found["assumptions"], dict)
    assert isinstance(found["plan"], dict)
    share = found["assumptions"]["efficiency"]
    assert 0 < share < 1
    computing = found["plan"]["seconds"]["compute"] / found["plan"]["seconds"]["total"]
    assert min(rows) * 0.99 < found["plan"]["tokens_per_second"] / computing < max(rows) * 1.01


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["bert", "--device", "h10"], "there is no device 'h10'. Did you mean 'h100'"),
        (["bert", "--assume", "efficiency=2"], "a share above 0 and at most 1"),
        (["bert", "--assume", "speed=2"], "Assumptions has no choice 'speed'"),
        (["bert", "--count", "0"], "--count"),
    ],
)
def test_a_wrong_call_is_one_line(arguments: list[str], line: str, capsys: Captured) -> None:
    assert main(["plan", *arguments]) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: Captured) -> None:
    assert main(["plan", "bert", "--measured", str(tmp_path)]) == 1
    assert "is no pretraining run with metrics.jsonl" in capsys.readouterr().err


def test_every_device_is_offered(capsys: Captured) -> None:
    assert main(["plan", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert all(f"{name}," in told or f"{name};" in told for name in DEVICES)
