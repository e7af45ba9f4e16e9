"""The command `probe`: what is asked, files, and one line for what cannot be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from small_run import document, write

from genus.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from small_run import Place


def test_own_sentences_and_pairs(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "probe", place.run, "--run", "device=cpu")
    assert found["layers"] is None
    assert found["cloze"]["kinds"].keys() >= {"facts", "syntax", "all"}
    assert len(found["pairs"]["each"]) == 36


def test_everything_on_a_page(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cloze = write(tmp_path / "cloze.jsonl", [{"text": "the <salt> ___ of the sea", "words": ["wave", "tide"]}])
    out = tmp_path / "out"
    given = ["probe", str(place.run), "--cloze", str(cloze), "--layers-on", str(place.folder / "task")]
    assert main([*given, "--rows", "30", "--out", str(out), "--run", "device=cpu"]) == 0
    told = capsys.readouterr()
    assert "majority" in told.out
    assert "precision@1" in told.out
    assert "the first 30 of 40 rows are taken" in told.err
    found = json.loads((out / "probes.json").read_text())
    assert [*found["layers"]["accuracy"]] == ["0", "1"]
    assert found["pairs"] is None
    page = (out / "probes.html").read_text()
    assert "<svg" in page
    assert "<script" not in page
    assert "&lt;salt&gt;" in page
    assert "## Layers" in (out / "probes.md").read_text()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--cloze", "nowhere.jsonl"], 1, "nowhere.jsonl"),
        (["--layers-on", "nowhere"], 2, "holds no training table"),
        (["--rows", "1"], 2, "--rows: expected at least 2"),
        (["--pooling", "man"], 2, "--pooling: there is no 'man'"),
    ],
)
def test_what_cannot_be_probed_is_one_line(
    place: Place, options: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", str(place.run), *options]) == code
    assert message in capsys.readouterr().err
