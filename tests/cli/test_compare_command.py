"""`genus compare`: two rows and two seeds; what is done is not done again; other recipes and texts are made anew."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from small_run import WORDS, write_text

from genus import pipeline
from genus.cli import main
from genus.study import comparison
from genus.study.measurements.likelihood import HeldOutBits

if TYPE_CHECKING:
    from pathlib import Path

    Captured = pytest.CaptureFixture[str]

SMALL = [
    "tokens.vocab_size=300", "model.layers=1", "model.hidden=32", "model.attention.heads=2",
    "model.feedforward.size=64", "stages=[{max_length=32, batch=8, micro_batch=8}]",
]  # fmt: skip
LONGEST = 30.0
"""Seconds of a comparison of two tiny rows with two seeds."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "LOOKED_AT", 0.05)


def command(folder: Path, *more: str) -> list[str]:
    """Return the arguments of a small comparison."""
    small = [part for setting in SMALL for part in ("--set", setting)]
    return [
        "compare", "bert/mini", "genus/mini", "--text", str(folder / "text.jsonl"), "--out", str(folder / "out"),
        "--budget", "3000tokens", "--seeds", "2", "--measure", "held-out-bits,passages=5,characters=60",
        *small, "--run", "device=cpu", "--run", "threads=1", *more,
    ]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_text(tmp_path)
    return tmp_path


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "results.json").read_text(encoding="utf-8"))
    return found


def made(folder: Path) -> dict[str, int]:
    """Return when each result file was written."""
    paths = (folder / "out" / "rows").rglob("*.json")
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in paths if "/run/" not in str(path)}


class Reader(HTMLParser):
    """Notes what a page opens, closes and asks others for."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asked: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        found = [value for name, value in attrs if name in ("src", "href") and value]
        self.asked += [value for value in found if not value.startswith("#")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_two_rows_and_two_seeds(place: Path, capsys: Captured) -> None:
    begun = time.monotonic()
    table = ["--tasks", str(place / "task")]
    assert main(command(place, *table, "--json")) == 0
    assert time.monotonic() - begun < LONGEST
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert re.search(r"8 of 8 jobs to do .* about \d+ (seconds|minutes) on this machine", told.err)
    assert [one["name"] for one in found["measured"]] == ["held-out-bits", "linear-probe task", "fine-tuning task"]
    for one in found["measured"]:
        (group,) = one["groups"]
        assert group["cells"].keys() == {"bert/mini", "genus/mini"}
        for cell in group["cells"].values():
            assert cell["scores"].keys() == {"0", "1"}
            assert cell["random"]["runs"] == cell["over"]["runs"] == 2
            assert cell["rank"] in (1, 2)
        ((a, b, apart),) = group["differences"]
        ours, theirs = (group["cells"][name]["scores"] for name in (a, b))
        assert apart["over"]["mean"] == pytest.approx(sum(ours[seed] - theirs[seed] for seed in "01") / 2)
    for row in found["rows"]:
        assert len(row["hash"]) == 16
        assert row["training"].keys() == {"0", "1"}
        assert 2700 <= row["training"]["0"]["progress"]["tokens"] < 3000 + 8 * 32
        assert row["training"]["0"]["curve"]
    assert found["about"]["versions"]["torch"]
    assert not found["missing"]
    check_page(place)


def check_page(place: Path) -> None:
    """The page is whole and needs nothing from elsewhere; the report has the same tables."""
    page = (place / "out" / "index.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    assert (reader.asked, reader.scripts) == ([], 0)
    assert page.count("<svg") >= 4
    assert "Loss curves" in page
    markdown = (place / "out" / "report.md").read_text(encoding="utf-8")
    for name in ("held-out-bits", "linear-probe task", "fine-tuning task", "Rows", "How to read it"):
        assert f"## {name}" in markdown
        assert f"<h2>{name}</h2>" in page
    assert "| bert/mini |" in markdown


def test_what_is_done_is_not_done_again_and_a_stop_between_results_is_no_loss(
    place: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, calls = HeldOutBits.measure, list[int]()

    def stopping(self: HeldOutBits, subject: Any) -> Any:
        calls.append(subject.seed)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measure(self, subject)

    with monkeypatch.context() as patch:
        patch.setattr(HeldOutBits, "measure", stopping)
        assert main(command(place)) == 130
    before = made(place)
    assert sum(path.endswith("held-out-bits.json") for path in before) == 3
    assert len(results(place)["missing"]) == 5
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "pretrain", counted(pipeline.pretrain, trained := list[str]()))
        assert main(command(place)) == 0
    after = made(place)
    assert {path: when for path, when in after.items() if path in before} == before
    assert len(trained) == 2, "the first seed of both rows is pretrained already"
    assert not results(place)["missing"]
    assert main(command(place)) == 0
    assert made(place) == after
    assert "everything is done already" in capsys.readouterr().err


def counted(function: Any, calls: list[str]) -> Any:
    def call(recipe: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(recipe.name)
        return function(recipe, *args, **kwargs)

    return call


def test_another_recipe_or_text_is_made_anew_and_said(place: Path, capsys: Captured) -> None:
    one = [*command(place), "--seeds", "1"]
    assert main(one) == 0
    first = results(place)
    capsys.readouterr()
    assert main([*one, "--set", "model.layers=2"]) == 0
    assert "bert/mini pretrained 0: what is there was made with another recipe, and is made anew" in capsys.readouterr().err  # noqa: E501
    second = results(place)
    assert [row["hash"] for row in second["rows"]] != [row["hash"] for row in first["rows"]]
    assert second["rows"][0]["parameters"] > first["rows"][0]["parameters"]
    with (place / "text.jsonl").open("a") as file:
        file.write(json.dumps({"text": " ".join(WORDS["sea"])}) + "\n")
    assert main([*one, "--set", "model.layers=2"]) == 0
    assert "another text, and is made anew" in capsys.readouterr().err
    path = next((place / "out" / "rows").rglob("pretrained-0/result.json"))
    table = json.loads(path.read_text())
    table["choices"]["version"] = "0.0.1"
    path.write_text(json.dumps(table))
    assert main([*one, "--set", "model.layers=2"]) == 0
    assert "another version, and is made anew" in capsys.readouterr().err


def test_further_measurements_keep_the_pretraining(
    place: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = [*command(place), "--seeds", "1"]
    assert main(one) == 0
    monkeypatch.setattr(pipeline, "pretrain", counted(pipeline.pretrain, trained := list[str]()))
    assert main([*one, "--tasks", str(place / "task")]) == 0
    assert not trained
    assert "other measurements are asked for; what fits is kept" in capsys.readouterr().err
    assert len(results(place)["measured"]) == 3


def test_learning_rates_are_tried_and_the_best_is_taken(place: Path) -> None:
    assert main([*command(place), "--seeds", "1", "--tune-lr", "1e-6,5e-3", "--tune-share", "0.5"]) == 0
    for row in results(place)["rows"]:
        assert row["tried"].keys() == {"1e-06", "0.005"}
        best = min(row["tried"], key=lambda rate: row["tried"][rate])
        assert row["rate"] == float(best) == 5e-3
        assert row["training"]["0"]["progress"]["tokens"] > 2700
    assert "held-out loss after the short run" in (place / "out" / "report.md").read_text()


@pytest.mark.slow
def test_several_processes_and_a_flops_budget(place: Path) -> None:
    several = [*command(place), "--seeds", "1", "--jobs", "2", "--budget", "4e8flops"]
    assert main(several) == 0
    found = results(place)
    assert not found["missing"]
    for row in found["rows"]:
        assert row["training"]["0"]["progress"]["flops"] >= 4e8
    assert found["about"]["jobs"] == 2


def test_one_tokenizer_for_all_rows(place: Path, capsys: Captured) -> None:
    words = place / "words"
    train = ["tokenizer", "train", "gpt2/tiny", str(place / "text.jsonl"), "--out", str(words)]
    assert main([*train, "--set", "tokens.vocab_size=300"]) == 0
    assert main([*command(place), "--tokenizer", str(words)]) == 2
    assert "bert/mini: cannot share the tokenizer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["compare", "--text", "t", "--budget", "1e5tokens"], "name the rows"),
        (["compare", "bert/tiny", "--budget", "1e5tokens"], "--text: name the text"),
        (["compare", "bert/tiny", "--text", "t"], "--budget: name one"),
        (["compare", "bert/tine", "--text", "t", "--budget", "1e5tokens"], "there is no member"),
        (["compare", "bert/tiny", "--text", "t", "--budget", "10tokens"], "less than one step"),
        (["compare", "bert/tiny", "--text", "t", "--budget", "1e5tokens", "--measure", "x"], "no measurement 'x'"),
        (["compare", "bert/tiny", "--text", "t", "--budget", "1e5tokens", "--jobs", "0"], "jobs"),
        (["compare", "bert/tiny", "--text", "t", "--budget", "1e5tokens", "--tune-lr", "1e-3,x"], "--tune-lr"),
        (["compare", "bert/tiny", "--text", "t", "--budget", "1e5tokens", "--tasks", "nowhere"], "nowhere"),
        (["compare", "--study", "nothing"], "there is no study 'nothing'"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(options: list[str], said: str, tmp_path: Path, capsys: Captured) -> None:
    assert main([*options, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_text_that_is_missing_or_empty_is_one_line(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "empty.txt").write_text("")
    for name, said in (("empty.txt", "is empty"), ("none.txt", "none.txt")):
        command = ["compare", "bert/tiny", "--text", str(tmp_path / name), "--budget", "1e5tokens"]
        assert main([*command, "--out", str(tmp_path / "out")]) in (1, 2)
        assert said in capsys.readouterr().err


def test_the_named_studies_are_listed_with_their_cost(capsys: Captured) -> None:
    assert main(["compare", "--studies", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(one["flops"] > 1e12 and one["rows"] >= 2 and "arXiv:" in one["citation"] for one in found)
    assert {"roberta-formats", "modifications"} <= {one["name"] for one in found}
