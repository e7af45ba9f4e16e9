"""The command `generate`: texts on standard output, one line for what cannot be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from generate.writers import TEXTS
from genus.cli import main
from genus.cli.folders import read_model
from genus.cli.options import generating_run
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from written import write_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokens, positions = ByteBPE(vocab_size=300, special_tokens=GPT2), "model.embedding.position.length=128"
    return write_model(tmp_path_factory.mktemp("model"), "gpt2/tiny", tokens, TEXTS, positions)


def test_one_prompt_grows_after_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(folder), "the cat", "--max-tokens", "6"]) == 0
    assert capsys.readouterr().out.startswith("the cat")


@pytest.mark.parametrize(("asked", "expected"), [([], "float32"), (["precision=bfloat16"], "bfloat16")])
def test_texts_are_in_float32_on_a_cpu_unless_asked_otherwise(asked: list[str], expected: str) -> None:
    assert generating_run(["device=cpu", *asked]).precision == expected


def test_prompts_of_a_file_as_json(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "on"}\n\n{"prompt": "the"}\n', encoding="utf-8")
    given = ["generate", str(folder), "--prompts", str(file), "--samples", "2", "--temperature", "1", "--json"]
    assert main([*given, "--answer", " cat", "--answer", " dog"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["prompt"] for one in found] == ["on", "the"]
    for one in found:
        assert len(one["texts"]) == 2
        for text in one["texts"]:
            assert text["text"] in {" cat", " dog"}
            assert text["reason"] == "answer"
            assert len(text["ids"]) == len(text["log_probabilities"])
            assert max(text["log_probabilities"]) < 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "no prompt is given"),
        (["a", "--stop", ""], 2, "stop: an empty string"),
        (["a", "--top-p", "0.9"], 2, "--top-p: is for sampling; add --temperature 1"),
        (["a", "--beams", "2", "--temperature", "1"], 2, "--temperature: is for sampling, and --beams searches"),
        (["a", "--beams", "2", "--early-stopping", "soon"], 2, "expected no, yes or never, got 'soon'"),
        (["a", "--temperature", "-1"], 2, "temperature"),
        (["the cat sat on the mat and the dog ran to the door . " * 20], 2, "and the model 128 positions"),
        (["a", "--seed", "-1"], 2, "seed: expected at least 0"),
        (["a", "--samples", "3"], 2, "greedy decoding finds one text, got 3"),
        (["a", "--temperature", "1", "--min-p", "2"], 2, "min_p"),
        (["--prompts", "nowhere.txt"], 1, "nowhere.txt: cannot be read: No such file"),
    ],
)
def test_what_cannot_be_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, message: str
) -> None:
    assert main(["generate", str(folder), *options]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert message in told.err
    assert len(told.err.splitlines()) == 1


def test_what_is_cut_of_prompts_is_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which prompts lose how many tokens, and nothing where none does."""
    long = "the cat sat on the mat and the dog ran to the door . " * 20
    file = tmp_path / "prompts.txt"
    file.write_text(f"the\n{long}\non\n{long}\n", encoding="utf-8")
    given = ["generate", str(folder), "--prompts", str(file), "--max-tokens", "4"]
    assert main(given) == 2
    assert "genus: error: prompt 2 of 4 has " in capsys.readouterr().err
    assert main([*given, "--cut-prompt"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    dropped = len(read_model(folder).tokenizer.encode([long], specials=False)[0]) - (128 - 4)
    cut = f"the first {dropped:,} tokens of prompt 2, {dropped:,} tokens of prompt 4 are dropped (--cut-prompt)"
    assert line == f"longer than the model's positions: {cut}"
    file.write_text("the\non\n", encoding="utf-8")
    assert main([*given, "--cut-prompt"]) == 0
    assert capsys.readouterr().err == ""


def test_a_lone_surrogate_in_a_prompt_is_replaced(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "the \\ud800 cat"}\n')
    assert main(["generate", str(folder), "--prompts", str(file), "--max-tokens", "2", "--json"]) == 0
    assert "the \ufffd cat" in capsys.readouterr().out


def test_a_damaged_file_of_prompts_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "on"}\n{"text": "the"}\n', encoding="utf-8")
    assert main(["generate", str(folder), "--prompts", str(file)]) == 1
    assert f"{file}, line 2: expected an object" in capsys.readouterr().err
