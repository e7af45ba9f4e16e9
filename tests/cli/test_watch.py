"""`genus watch`: a run as its files stand, spikes of the loss, the time left, and a page that holds all it needs."""

from __future__ import annotations

import json
import random
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from genus.cli import main
from genus.cli.watch import spark, thinned
from genus.watch import spikes, watched

if TYPE_CHECKING:
    from pathlib import Path

    Captured = pytest.CaptureFixture[str]

STEPS, SPIKE = 120, 80


def made(folder: Path, *, until: float = 0.6, seed: int = 0) -> Path:
    """Write the files of a run that falls steadily, but for a leap at one step."""
    draw = random.Random(seed)
    rows = []
    for step in range(1, STEPS + 1):
        loss = 6 - 3 * step / STEPS + 0.02 * draw.random() + (2.0 if step == SPIKE else 0.0)
        rows.append({"step": step, "stage": 0, "spent": until * step / STEPS, "loss": loss, "lr": 1e-3,
                     "gradient_norm": 1 + draw.random(), "tokens": 100 * step, "epochs": 0.1, "seconds": 2.0 * step,
                     "tokens_per_second": 50.0, "utilization": 0.4})  # fmt: skip
        if step % 40 == 0:
            rows.append({"step": step, "held_out/loss": loss + 0.1, "held_out/masked_lm": loss + 0.1})
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text("{}", encoding="utf-8")
    (folder / "checkpoints").mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_where_a_run_stands(tmp_path: Path, capsys: Captured) -> None:
    """Two seconds a step, 0.005 of the budget each: 40 % are left, 80 steps, 160 seconds."""
    assert main(["watch", str(made(tmp_path / "a")), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["seconds_left"] == pytest.approx(160)
    assert not found["ended"]
    assert [spike["step"] for spike in found["spikes"]] == [SPIKE]
    assert found["evaluation"]["step"] == STEPS


def test_several_runs_in_the_terminal(tmp_path: Path, capsys: Captured) -> None:
    runs = [str(made(tmp_path / name, until=until)) for name, until in (("first", 0.6), ("second", 1.0))]
    assert main(["watch", *runs]) == 0
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines()[1:3]] == ["first", "second"]
    assert "2:40" in told.splitlines()[1]
    assert told.splitlines()[2].endswith("ended")
    assert "1 spikes of the loss, the last at steps 80" in told


class Figures(HTMLParser):
    """Counts what a page draws, and what it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: dict[str, int] = {}
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.drawn[tag] = self.drawn.get(tag, 0) + 1
        self.loads += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_the_page_holds_all_it_needs(tmp_path: Path, capsys: Captured) -> None:
    runs = [str(made(tmp_path / name, seed=seed)) for seed, name in enumerate(("first", "<second>"))]
    page = tmp_path / "page.html"
    assert main(["watch", *runs, "--page", str(page)]) == 0
    text, figures = page.read_text(encoding="utf-8"), Figures()
    figures.feed(text)
    assert figures.loads == []
    assert "script" not in figures.drawn
    assert "<second>" not in text
    assert figures.drawn["svg"] == 7  # five of training, two held out
    assert figures.drawn["circle"] == 2  # a spike each


def test_a_real_run_is_watched(place: object, capsys: Captured, tmp_path: Path) -> None:
    from small_run import SMALL, Place

    assert isinstance(place, Place)
    run = tmp_path / "run"
    options = ["--out", str(run), *SMALL, "--run", "log_every=1"]
    assert main(["pretrain", "bert/mini", str(place.folder / "text.jsonl"), *options]) == 0
    assert watched(run).ended
    capsys.readouterr()
    assert main(["watch", str(run), "--once"]) == 0
    assert "ended" in capsys.readouterr().out


def test_noise_and_falling_are_no_spikes() -> None:
    draw = random.Random(0)
    assert spikes([(step, 5 * 0.99**step + 0.05 * draw.random()) for step in range(300)]) == []
    assert spikes([(step, 3.0) for step in range(100)]) == []
    assert spikes([(step, 3.0 + (step == 50)) for step in range(100)]) == [(50, 4.0)]


def test_thinning_keeps_every_spike_and_the_end() -> None:
    curve = [(float(step), float(step == 777)) for step in range(5000)]
    kept = thinned(curve, 100)
    assert len(kept) <= 100
    assert (777.0, 1.0) in kept
    assert kept[-1] == curve[-1]
    assert spark([0.0, 1.0, 2.0]) == "▁▄█" or spark([0.0, 1.0, 2.0]) == "▁▅█"


def test_what_cannot_be_watched(tmp_path: Path, capsys: Captured) -> None:
    assert main(["watch", str(tmp_path)]) == 1
    assert "is no pretraining run with metrics.jsonl" in capsys.readouterr().err
    run = str(made(tmp_path / "a"))
    assert main(["watch", run, run]) == 2
    assert "named twice" in capsys.readouterr().err
    (tmp_path / "a" / "metrics.jsonl").write_text('{"step": 1, "loss"}\n', encoding="utf-8")
    assert main(["watch", run]) == 1
    told = capsys.readouterr().err
    assert "metrics.jsonl" in told
    assert told.count("\n") == 1
