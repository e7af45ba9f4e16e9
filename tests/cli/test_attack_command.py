"""`genus attack`: what it writes, that it goes on, and what it refuses in one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from small_run import document, texts, write
from test_analyze import Page

from genus.cli import main

if TYPE_CHECKING:
    from small_run import Place

    Captured = pytest.CaptureFixture[str]

CPU = ["--run", "device=cpu"]
FEW = ["--attack-set", "iterations=3", "--attack-set", "batch=2", "--attack-set", "samples=12"]
DECODER = [
    "--set", "model.layers=1", "--set", "model.hidden=32", "--set", "model.attention.heads=2",
    "--set", "stages=[{max_length=32, batch=8, micro_batch=8}]", "--set", "budget.amount=4",
    "--run", "device=cpu", "--run", "workers=0", "--run", "held_out=0.1", "--run", "tracker=none",
]  # fmt: skip
"""What makes a small decoder in a second."""
ODD = "<script>window.hacked = 1</script> & \"quotes\" 'here'"


def run_command(*arguments: object) -> None:
    assert main([*map(str, arguments)]) == 0


@pytest.fixture(scope="module")
def tuned(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("attacked") / "tuned"
    arguments = ["finetune", str(place.run), str(place.folder / "task"), "--out", str(out), "--seeds", "1", *CPU]
    assert main(arguments) == 0
    return out


@pytest.fixture(scope="module")
def causal(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder of the classifier's vocabulary, as the error message says how to train one."""
    out = tmp_path_factory.mktemp("causal") / "run"
    words = ["--tokenizer", str(place.run / "model")]
    run_command("pretrain", "gpt2/tiny", place.folder / "text.jsonl", "--out", out, *words, *DECODER)
    return out


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]] = [{"text": text[:60], "label": label} for text, label in texts(6, 7)]
    return write(tmp_path / "odd.jsonl", [*rows, {"text": ODD, "label": "sea"}, {"text": "", "label": "sea"}])


def test_what_it_writes(capsys: Captured, tuned: Path, causal: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["attack", tuned, table, "--out", out, "--fluency", causal, "--transfer", tuned,
                 "--transfer-samples", "20", *FEW, *CPU]  # fmt: skip
    found = document(capsys, *arguments)
    assert json.loads((out / "attack.json").read_text(encoding="utf-8")) == found
    names = {path.name for path in out.iterdir()} - {".lock"}
    assert names == {"attack.json", "attack.md", "attack.html", "choices.json", "outcomes.jsonl"}
    assert found["rows"] == 8
    assert {"accuracy before", "accuracy after", "accuracy of the other before"} <= found["accuracies"].keys()
    assert sum(one["rows"] for one in found["classes"]) == 8
    measured = document(capsys, "evaluate", tuned, table, "--answers", tmp_path / "answers", *CPU)
    assert found["accuracies"]["accuracy before"]["mean"] == pytest.approx(measured["accuracy"])
    page = (out / "attack.html").read_text(encoding="utf-8")
    seen = Page(page)
    assert not seen.seen & {"script", "link", "img", "iframe", "object", "embed", "form"}
    assert "url(" not in page
    text = (out / "attack.md").read_text(encoding="utf-8")
    assert "<script" not in text
    assert f"{found['accuracies']['accuracy after']['mean']:.4f}" in text
    again = document(capsys, *arguments)
    assert again["outcomes"] == found["outcomes"], "nothing is done again: seconds are the same too"


def test_substitution(capsys: Captured, place: Place, tuned: Path, table: Path, tmp_path: Path) -> None:
    found = document(
        capsys, "attack", tuned, table, "--out", tmp_path / "out", "--attack", "substitution", "--masked", place.run,
        "--encoder", place.run, "--limit", "4", "--attack-set", "queries=30", *CPU,
    )  # fmt: skip
    assert found["rows"] == 4
    assert found["attack"]["kind"] == "Substitution"
    assert all(one["queries"] <= 30 for one in found["outcomes"])


def refused(capsys: Captured, *arguments: object) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["attack", *map(str, arguments), *FEW, *CPU])
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("genus: error: ")
    return code, lines[-1]


def test_bad_input_is_told_in_one_line(
    capsys: Captured, place: Place, tuned: Path, table: Path, tmp_path: Path
) -> None:
    out = ["--out", tmp_path / "out"]
    code, line = refused(capsys, place.run, table, *out)
    assert (code, "was not fine-tuned; run `genus finetune` first" in line) == (1, True)
    bare = write(tmp_path / "bare.jsonl", [{"text": "a wave"}])
    code, line = refused(capsys, tuned, bare, *out)
    assert (code, "there is no column 'label'" in line) == (1, True)
    without = write(tmp_path / "without.jsonl", [{"text": "a wave", "label": None}])
    code, line = refused(capsys, tuned, without, *out)
    assert (code, "no row has a label" in line) == (2, True)
    unknown = write(tmp_path / "unknown.jsonl", [{"text": "a wave", "label": "garden"}])
    code, line = refused(capsys, tuned, unknown, *out)
    assert (code, "label 'garden' does not occur in training" in line) == (1, True)
    empty = write(tmp_path / "empty.jsonl", [{"text": "", "label": "sea"}])
    code, line = refused(capsys, tuned, empty, *out)
    assert (code, "there is nothing to change" in line) == (2, True)
    code, line = refused(capsys, tuned, table, *out, "--attack", "gdba")
    assert (code, "Did you mean 'gbda'?" in line) == (2, True)
    code, line = refused(capsys, tuned, table, *out, "--limit", "0")
    assert (code, "--limit" in line) == (2, True)
    code, line = refused(capsys, tuned, table, *out, "--fluency", place.run)
    assert (code, "does not predict the next token" in line) == (2, True)
    pair = [*out, "--text", "text", "--text", "label"]
    code, line = refused(capsys, tuned, table, *pair)
    assert (code, "fine-tuned on single texts, and is asked about pairs" in line) == (2, True)


def test_a_decoder_of_another_vocabulary(
    capsys: Captured, place: Place, tuned: Path, table: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    run_command(
        "pretrain", "gpt2/tiny", place.folder / "text.jsonl", "--out", other, "--set", "tokens.vocab_size=320", *DECODER
    )
    code, line = refused(capsys, tuned, table, "--out", tmp_path / "out", "--fluency", other)
    assert code == 2
    assert "genus pretrain gpt2/mini TEXT --tokenizer MODEL --out FOLDER" in line


def test_long_texts_are_cut_and_it_is_said(capsys: Captured, tuned: Path, tmp_path: Path) -> None:
    long = write(tmp_path / "long.jsonl", [{"text": "wave " * 400, "label": "sea"}])
    found = document(capsys, "attack", tuned, long, "--out", tmp_path / "out", *FEW, *CPU)
    assert any("longer than finetuning.max_length" in note for note in found["notes"])
    assert found["outcomes"][0]["changed"].endswith("wave " * 200)
