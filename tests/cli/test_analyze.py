"""`genus analyze` writes what it finds as three files, and the page holds all it needs and runs nothing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from small_run import document, texts, write

from genus.analysis.findings import Confusion
from genus.cli import main
from genus.cli.analysis_page import confusion
from genus.cli.analysis_tables import LARGE, SHOWN
from genus.cli.analysis_text import plain
from genus.cli.output import markdown

if TYPE_CHECKING:
    from pathlib import Path

    from small_run import Place

    Captured = pytest.CaptureFixture[str]

CPU = ["--run", "device=cpu"]
ODD = [
    "<script>window.hacked = 1</script> & \"quotes\" 'here'",
    "سفينة في البحر tide",
    "คลื่นในทะเล",
    "| a | *b* `c` [d](e)",
    "",
]
"""Texts that are markup, run from right to left, have combining marks, or are none."""
VOID = {"meta", "rect", "circle", "path", "br"}


@pytest.fixture(scope="module")
def tuned(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("analyze") / "tuned"
    arguments = ["finetune", str(place.run), str(place.folder / "task"), "--out", str(out), "--seeds", "1", *CPU]
    assert main(arguments) == 0
    return out


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]] = [{"text": text[:60], "label": label} for text, label in texts(24, 7)]
    rows += [{"text": text, "label": "sea"} for text in ODD] + [{"text": ODD[1], "label": None}]
    return write(tmp_path / "odd.jsonl", rows)


class Page(HTMLParser):
    """What stands in a page; every tag that is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def test_three_files(capsys: Captured, tuned: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = document(capsys, "analyze", tuned, table, "--out", out, "--set", "mistakes=40", "--set", "draws=50", *CPU)
    assert {path.name for path in out.iterdir()} - {".lock"} == {"analysis.json", "analysis.md", "analysis.html"}
    assert json.loads((out / "analysis.json").read_text(encoding="utf-8")) == found
    measured = document(capsys, "evaluate", tuned, table, "--answers", tmp_path / "answers", *CPU)
    assert found["metrics"]["accuracy"]["mean"] == measured["accuracy"]
    assert (found["rows"], found["unlabeled"]) == (30, 1)
    page = (out / "analysis.html").read_text(encoding="utf-8")
    seen = Page(page)
    assert {"svg", "table", "style", "details", "nav", "figure"} <= seen.seen
    assert not seen.seen & {"script", "link", "img", "iframe", "object", "embed", "form"}
    links = [value for name, value in seen.attributes if name in {"href", "src", "action"}]
    assert all(link is not None and link.startswith("#") for link in links)
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert "url(" not in page
    assert "@import" not in page
    shown = "".join(seen.words)
    assert f"{found['metrics']['accuracy']['mean']:.4f}" in shown
    for example in (one for several in found["examples"].values() for one in several):
        for passage in example["passages"]:
            assert (passage["text"] or "(empty)") in shown
    assert page.count('role="img"') == page.count("<svg") == len(re.findall(r"<svg[^>]*aria-label=\"[^\"]+\"", page))
    text = (out / "analysis.md").read_text(encoding="utf-8")
    assert "<script" not in text
    assert f"{found['metrics']['accuracy']['mean']:.4f}" in text


def test_every_text_has_a_direction_of_its_own(capsys: Captured, tuned: Path, table: Path, tmp_path: Path) -> None:
    document(capsys, "analyze", tuned, table, "--out", tmp_path / "out", "--set", "draws=10", *CPU)
    page = (tmp_path / "out" / "analysis.html").read_text(encoding="utf-8")
    assert page.count('<p class="text" dir="auto"') == page.count('<p class="text"') > 0


def test_an_earlier_analysis_is_replaced_and_other_files_stay(
    capsys: Captured, tuned: Path, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    (out / "analysis.html").write_text("old")
    document(capsys, "analyze", tuned, table, "--out", out, "--set", "draws=10", *CPU)
    assert (out / "mine.txt").read_text() == "kept"
    assert (out / "analysis.html").read_text(encoding="utf-8") != "old"
    assert not [path for path in out.iterdir() if path.name.startswith(".") and path.name != ".lock"]


def test_a_calibrated_model_is_read_by_evaluate_and_analyzed_in_its_place(
    capsys: Captured, tuned: Path, table: Path, tmp_path: Path, place: Place
) -> None:
    out, known = tmp_path / "out", tmp_path / "noisy.jsonl"
    rows = [{"text": text[:40], "label": label} for text, label in texts(40, 9)]
    for number in range(0, 40, 5):
        rows[number]["label"] = "sea" if rows[number]["label"] == "kitchen" else "kitchen"
    write(known, rows)
    before = {path.name: path.read_bytes() for path in (tuned / "model").iterdir() if path.is_file()}
    found = document(capsys, "analyze", tuned, table, "--out", out, "--calibrate", known, "--set", "draws=10", *CPU)
    assert before == {path.name: path.read_bytes() for path in (tuned / "model").iterdir() if path.is_file()}
    measured = [
        document(capsys, "evaluate", model, table, "--answers", tmp_path / "answers", *CPU) for model in (tuned, out)
    ]
    assert measured[0] == measured[1]
    again = document(capsys, "analyze", out, table, "--out", out, "--calibrate", known, "--set", "draws=10", *CPU)
    assert again["calibration"]["ece"] == pytest.approx(found["calibrated"]["after"]["ece"], abs=1e-4)
    assert again["calibrated"]["temperature"] == pytest.approx(1, abs=1e-3)
    card = (out / "model" / "README.md").read_text(encoding="utf-8")
    assert "Fine-tuned to tell `label`" in card
    assert card.count("Calibrated: ") == 2
    page = (out / "analysis.html").read_text(encoding="utf-8")
    assert page.count("Reliability diagram before") == page.count("Reliability diagram after") == 1
    other = ["analyze", str(tuned), str(table), "--out", str(place.run), "--calibrate", str(known), *CPU]
    assert main(other) == 2
    assert "is another model, and would be replaced" in capsys.readouterr().err


def refused(capsys: Captured, *arguments: object) -> str:
    """Return the one line of a command that fails."""
    capsys.readouterr()
    assert main([*map(str, arguments)]) in {1, 2}
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("genus: error: ")]
    assert "unexpected" not in line
    return line


def test_what_cannot_be_analyzed(capsys: Captured, tuned: Path, table: Path, tmp_path: Path, place: Place) -> None:
    out = tmp_path / "out"
    assert "was not fine-tuned" in refused(capsys, "analyze", place.run, table, "--out", out, *CPU)
    strange = write(tmp_path / "strange.jsonl", [{"text": "x", "label": "forest"}, {"text": "y", "label": "sea"}])
    assert "label 'forest' does not occur in training" in refused(capsys, "analyze", tuned, strange, "--out", out, *CPU)
    blind = write(tmp_path / "blind.jsonl", [{"text": text} for text in ODD])
    line = refused(capsys, "analyze", tuned, table, "--out", out, "--calibrate", blind, *CPU)
    assert "blind.jsonl: no row has a label" in line
    assert "blind.jsonl: no row has a label" in refused(
        capsys, "analyze", tuned, blind, "--out", out, "--calibrate", table, *CPU
    )
    assert "is a file, not a folder" in refused(capsys, "analyze", tuned, table, "--out", table, *CPU)
    assert "there is no such file" in refused(capsys, "analyze", tuned, tmp_path / "no.jsonl", "--out", out, *CPU)
    assert "mistakes" in refused(capsys, "analyze", tuned, table, "--out", out, "--set", "mistakes=-1", *CPU)
    assert not out.exists()


def test_a_table_without_labels(capsys: Captured, tuned: Path, tmp_path: Path) -> None:
    blind = write(tmp_path / "blind.jsonl", [{"text": text} for text in ODD])
    assert main(["analyze", str(tuned), str(blind), "--out", str(tmp_path / "out"), *CPU]) == 0
    assert "no row has a label, so that nothing can be said of errors" in capsys.readouterr().out
    Page((tmp_path / "out" / "analysis.html").read_text(encoding="utf-8"))


def test_many_classes_are_shown_in_part() -> None:
    names = [f"class {number}" for number in range(LARGE + 10)]
    counts = np.diag(np.arange(LARGE + 10)).tolist()
    counts[3][7], counts[38][39] = 50, 40
    drawn = confusion(Confusion(names, counts))
    Page(drawn)
    assert drawn.count('scope="row"') == SHOWN
    assert all(f">class {number}<" in drawn for number in (3, 7, 38, 39))


def test_a_text_is_one_cell_of_markdown() -> None:
    line = markdown([plain("a|b")], [[plain("x | <b>*y*\n`z`")]]).splitlines()
    assert line == ["| a\\|b |", "| --- |", "| x \\| &lt;b&gt;\\*y\\* \\`z\\` |"]
