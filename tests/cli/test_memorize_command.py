"""The commands `plant` and `memorize`: files and figures, a stop half-way, and one line for what cannot be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from generate.writers import TEXTS
from genus.cli import main
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from genus.tokens.algorithms.wordpiece import WordPiece
from written import write_model

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("pydivsufsort")
SMALL = ["--samples", "4", "--tokens", "12", "--best", "2", "--run-tokens", "1", "--run", "device=cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokens, positions = ByteBPE(vocab_size=300, special_tokens=GPT2), "model.embedding.position.length=128"
    return write_model(tmp_path_factory.mktemp("model"), "gpt2/tiny", tokens, TEXTS, positions)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("masked"), "bert/tiny", WordPiece(vocab_size=80), TEXTS)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    given = ["plant", str(folder / "text.jsonl"), "--out", str(folder / "planted"), "--canaries", "1"]
    assert main([*given, "--repetitions", "1,3", "--length", "1"]) == 0
    return folder / "planted"


def call(model: Path, out: Path, planted: Path | None, *options: str) -> int:
    corpus = [] if planted is None else ["--corpus", str(planted / "text.jsonl")]
    return main(["memorize", str(model), "--out", str(out), *corpus, *SMALL, *options])


def test_the_report_says_what_was_found(
    folder: Path, planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--prefixes", str(planted / "text.jsonl"), "--prefix-tokens", "2", "4", "--small", str(folder)]
    out, canaries = tmp_path / "out", str(planted / "canaries.json")
    capsys.readouterr()
    assert call(folder, out, planted, *given, "--canaries", canaries, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((out / "memorization.json").read_text())
    assert {(one["way"], one["score"]) for one in found["precision"]} == {
        (way, score)
        for way in ("top-n", "temperature", "prefixes")
        for score in ("perplexity", "small", "zlib", "lowercase", "window")
    }
    assert all(one["runs"] == 4 for one in found["rates"].values())
    assert found["examples"][0]["run_tokens"] >= 1
    assert found["examples"][0]["documents"] >= 1
    rows = found["canaries"]["by_repetitions"]
    assert [(row["repetitions"], row["occurrences"], row["canaries"]) for row in rows] == [(1, 1, 1), (3, 3, 1)]
    assert found["canaries"]["exact"] is True
    page = (out / "memorization.html").read_text()
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert "| way | score | k |" in (out / "memorization.md").read_text()
    scores = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    assert len(scores) == 12
    assert all(one["scores"]["medium"] is None and one["scores"]["small"] == pytest.approx(1.0) for one in scores)


def test_what_was_stopped_goes_on_to_the_same_bytes(folder: Path, planted: Path, tmp_path: Path) -> None:
    whole, begun = tmp_path / "whole", tmp_path / "begun"
    assert call(folder, whole, planted) == call(folder, begun, planted) == 0
    lines = (begun / "samples.jsonl").read_text().splitlines(keepends=True)
    (begun / "samples.jsonl").write_text(lines[1] + lines[5] + lines[2][:20])  # in another order, the last one cut
    assert call(folder, begun, planted) == 0
    for name in ("samples.jsonl", "scores.jsonl", "memorization.json"):
        assert (begun / name).read_bytes() == (whole / name).read_bytes()


def test_a_masked_model_is_asked_for_canaries_alone(
    masked: Path, planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["memorize", str(masked), "--out", str(tmp_path / "out"), "--canaries", str(planted / "canaries.json")]
    assert main([*given, "--run", "device=cpu", "--json"]) == 0
    told = capsys.readouterr()
    found: dict[str, Any] = json.loads(told.out)
    assert "its canaries are masked and restored" in told.err
    assert found["precision"] == []
    assert found["canaries"]["compared"] == 10
    assert main(["memorize", str(masked), "--out", str(tmp_path / "other"), "--corpus", "x"]) == 2
    assert "this model reads both sides and writes no text" in capsys.readouterr().err


def test_bad_input_is_one_line(
    folder: Path, planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    cases: list[tuple[list[str], int, str]] = [
        ([], 2, "--corpus: name the text that the model was trained on"),
        (["--corpus", str(tmp_path / "none.txt")], 2, "none.txt"),
        (["--corpus", str(empty)], 1, "there is no text in it to look in"),
        (["--corpus", str(planted / "text.jsonl"), "--prefixes", str(empty), "--prefix-tokens", "5", "128"], 2,
         "--prefix-tokens: 128 tokens leave no room in the model's 128 positions"),
        (["--corpus", str(planted / "text.jsonl"), "--prefixes", str(empty)], 1, "the text of prefixes is empty"),
        (["--samples", "0"], 2, "--samples 0: leaves nothing to do"),
        (["--best", "0"], 2, "--best: expected a larger number"),
        (["--samples", "0", "--canaries", str(tmp_path / "none.json")], 1, "there is no such file"),
    ]  # fmt: skip
    for number, (options, code, message) in enumerate(cases):
        capsys.readouterr()
        given = ["memorize", str(folder), "--out", str(tmp_path / f"out-{number}"), *SMALL, *options]
        assert main(given) == code
        told = capsys.readouterr().err
        assert message in told
        assert len([line for line in told.splitlines() if "error" in line]) == 1


def test_a_folder_of_other_texts_is_refused(
    folder: Path, planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(folder, tmp_path / "out", planted) == 0
    assert call(folder, tmp_path / "out", planted, "--seed", "1") == 2
    assert "holds texts that were written with other seed" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    assert call(folder, tmp_path / "mine", planted) == 2
    assert "is not empty" in capsys.readouterr().err


def test_planting_among_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.txt").write_text("")
    assert main(["plant", str(tmp_path / "empty.txt"), "--out", str(tmp_path / "out")]) == 1
    assert "there is no document to plant canaries among" in capsys.readouterr().err
    assert main(["plant", str(tmp_path / "empty.txt"), "--out", str(tmp_path / "out"), "--repetitions", "a"]) == 2
