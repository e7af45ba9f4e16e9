"""Decoders on the command line: coded text, completions of a table, choices; and what cannot be used is one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from small_run import WORDS, document, write

from genus.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    Captured = pytest.CaptureFixture[str]

SMALL = [
    "--set", "tokens.vocab_size=200", "--set", "tokens.min_frequency=1", "--set", "model.layers=1",
    "--set", "model.hidden=32", "--set", "model.attention.heads=2", "--set", "model.feedforward.size=64",
    "--set", "stages=[{max_length=32, batch=8, micro_batch=8}]", "--set", "budget.amount=4",
    "--run", "device=cpu", "--run", "workers=0", "--run", "held_out=0.1", "--run", "tracker=none",
]  # fmt: skip
QUICK = ["--seeds", "1", "--run", "device=cpu", "--set", "finetuning.epochs=1", "--set", "finetuning.max_length=32"]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a decoder on the words of two places, each of which is a code."""
    folder = tmp_path_factory.mktemp("decoder")
    rows = [
        {"text": " ".join((words * 3)[start : start + 9]) + " .", "place": place}
        for place, words in WORDS.items()
        for start in range(10)
        for _ in range(4)
    ]
    text = write(folder / "text.jsonl", rows)
    arguments = ["pretrain", "ctrl/tiny", str(text), "--out", str(folder / "run"), "--codes", "place"]
    assert main([*arguments, *SMALL]) == 0
    return folder


def test_the_run_names_its_codes(decoder: Path, capsys: Captured) -> None:
    recipe = document(capsys, "show", decoder / "run")
    assert sorted(json.loads((decoder / "run" / "model" / "recipe.json").read_text())["examples"]["codes"]) == [
        "kitchen",
        "sea",
    ]
    assert recipe
    found = document(capsys, "evaluate", decoder / "run", decoder / "text.jsonl", "--codes", "place")
    assert found["causal_lm/bits_per_byte"] > 0
    assert main(["evaluate", str(decoder / "run"), str(decoder / "text.jsonl")]) == 1
    assert "needs control codes, and the text has none: name their field with --codes" in capsys.readouterr().err


def test_a_prompt_without_a_code_is_noticed(decoder: Path, capsys: Captured) -> None:
    generate = ["generate", str(decoder / "run"), "--max-tokens", "2"]
    assert main([*generate, "sea the"]) == 0
    assert "code" not in capsys.readouterr().err
    assert main([*generate, "seaside the"]) == 0
    assert "the prompt 'seaside the' begins with no control code" in capsys.readouterr().err
    assert main([*generate, "forest the"]) == 0
    said = capsys.readouterr().err
    assert "the prompt 'forest the' begins with no control code of training (" in said
    assert "'sea'" in said


def test_completions_are_learned_and_measured(decoder: Path, tmp_path: Path, capsys: Captured) -> None:
    rows = [
        {"ask": " ".join(words[start : start + 3]), "tell": " ".join(words[start + 3 : start + 6])}
        for words in WORDS.values()
        for start in range(5)
    ] * 4
    table = write(tmp_path / "train.jsonl", rows)
    columns = ["--task", "completion", "--text", "ask", "--label", "tell"]
    report = document(capsys, "finetune", decoder / "run", table, "--out", tmp_path / "out", *columns, *QUICK)
    assert report["summary"]["validation"].keys() == {"token_loss", "perplexity", "bits_per_byte", "token_accuracy"}
    found = document(capsys, "evaluate", tmp_path / "out" / "model", table, *columns)
    before = document(capsys, "evaluate", decoder / "run", table, *columns)
    assert found["token_loss"] < before["token_loss"]
    assert main(["finetune", str(decoder / "run"), str(table), "--out", str(tmp_path / "no"), *columns,
                 "--metric", "accuracy"]) == 2  # fmt: skip
    assert "metrics: accuracy judges classes, not texts; those that fit: bits_per_byte" in capsys.readouterr().err


def test_choices_are_learned_and_measured(decoder: Path, tmp_path: Path, capsys: Captured) -> None:
    rows = [
        {"q": " ".join(words[:3]), "one": words[start], "two": other[start], "right": "one"}
        for words, other in (list(WORDS.values()), list(WORDS.values())[::-1])
        for start in range(10)
    ]
    table = write(tmp_path / "train.jsonl", rows)
    columns = ["--task", "choice", "--text", "q", "--choices", "one", "--choices", "two", "--label", "right"]
    added = ["--set", "finetuning.task_tokens=TaskTokens", "--set", "finetuning.language_model=0.5"]
    report = document(capsys, "finetune", decoder / "run", table, "--out", tmp_path / "out", *columns, *QUICK, *added)
    assert report["settings"]["task_tokens"]["extract"] == "_classify_"
    answers = tmp_path / "answers.jsonl"
    found = document(capsys, "evaluate", tmp_path / "out" / "model", table, *columns, "--answers", answers)
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert found["accuracy"] == sum(line["predicted"] == "0" for line in lines) / len(rows)


def test_what_a_task_does_not_have_is_refused_in_one_line(decoder: Path, tmp_path: Path, capsys: Captured) -> None:
    table = write(tmp_path / "train.jsonl", [{"text": "a", "label": "b"}, {"text": "b", "label": "a"}])
    call = ["finetune", str(decoder / "run"), str(table), "--out", str(tmp_path / "out")]
    for options, says in ((["--choices", "text"], "choices"), (["--symmetric"], "symmetric: pairs are read in both")):
        assert main([*call, *options]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert says in line
