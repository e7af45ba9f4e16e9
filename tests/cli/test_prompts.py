"""`evaluate --prompts`, `evaluate --task wikitext` and `attribute`: standard output, files, errors of one line."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from generate.writers import TEXTS
from genus.cli import main
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from written import write_model

if TYPE_CHECKING:
    from pathlib import Path

    Captured = pytest.CaptureFixture[str]

TASK = """
kind = "MultipleChoice"
name = "pets"
version = 3
description = "which pet"
data = "test.jsonl"
examples = "train.jsonl"
prompt = "{question}"
choices = ["cat", "dog"]
answer = "{pet}"
metrics = ["acc", "acc_token"]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a task and its tables."""
    where, tokens = tmp_path_factory.mktemp("prompts"), ByteBPE(vocab_size=300, special_tokens=GPT2)
    write_model(where / "model", "gpt2/tiny", tokens, TEXTS, "model.embedding.position.length=128")
    for name, number in (("train", 6), ("test", 9)):
        rows = [{"question": f"{name} {one}: who sat?", "pet": "cat" if one % 3 else "dog"} for one in range(number)]
        (where / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (where / "pets.toml").write_text(TASK)
    return where


def test_a_task_of_ones_own(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, answers = place / "out" / "results.json", place / "out" / "answers.jsonl"
    given = ["evaluate", str(place / "model"), str(place), "--prompts", "pets", "--tasks", str(place)]
    asked = [*given, "--shots", "2", "--seed", "5", "--results", str(results), "--answers", str(answers)]
    assert main(asked) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "pets version 3, 9 rows, 2 shots, log-likelihood"
    assert [line.split()[0] for line in printed[1:]] == ["metric", "acc", "acc_token"]
    told = json.loads(results.read_text())
    assert (told["task"], told["version"], told["shots"], told["seed"], told["rows"]) == ("pets", 3, 2, 5, 9)
    assert len(told["task_hash"]) == len(told["recipe_hash"]) == 16
    assert told["definition"]["examples"] == "train.jsonl"
    accuracy = told["metrics"]["acc"]
    assert accuracy["low"] <= accuracy["mean"] <= accuracy["high"]
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [line["line"] for line in lines] == list(range(1, 10))
    for line in lines:
        assert line["prompt"].count("train ") == 2
        assert [one["text"] for one in line["choices"]] == ["cat", "dog"]
    right = sum(line["predicted"]["acc"] == line["answer"] for line in lines)
    assert accuracy["mean"] == pytest.approx(right / 9)
    assert main([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == told


def test_fewer_rows_are_asked_the_same(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for more in ([], ["--limit", "4"]):
        answers = place / "out" / "same.jsonl"
        given = ["evaluate", str(place / "model"), str(place / "test.jsonl"), "--prompts", str(place / "pets.toml")]
        assert main([*given, "--shots", "3", "--answers", str(answers), *more]) == 0
        found.append([json.loads(line)["prompt"] for line in answers.read_text().splitlines()])
    capsys.readouterr()
    assert found[1] == found[0][:4]
    assert all("train" not in prompt and prompt.count("test") == 4 for prompt in found[0])  # the tested rows give them


def test_several_tables_are_told_apart(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = [str(place / f"{name}.jsonl") for name in ("test", "train")]
    assert main(["evaluate", str(place / "model"), *tables, "--prompts", str(place / "pets.toml")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[-3:]] == ["file", "test.jsonl", "train.jsonl"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--prompts", "pest"], 2, "--prompts: there is no task 'pest'. Did you mean 'pets'"),
        (["--prompts", "nowhere.toml"], 2, "nowhere.toml: cannot be read: No such file"),
        (["--prompts", "pets", "--shots", "7"], 2, "--shots 7: there are 6 examples; ask for 0 to 6"),
        (["--prompts", "pets", "--shots", "1", "--examples", "no.jsonl"], 1, "no.jsonl: there is no such file"),
        (["--prompts", "pets", "--examples", "no.jsonl"], 2, "--examples: are for worked examples; say how many"),
        (["--prompts", "pets", "--limit", "0"], 2, "--limit: expected at least 1"),
        (["--prompts", "pets", "--seed", "-1"], 2, "--seed: expected at least 0"),
        (["--prompts", "pets", "--label", "pet"], 2, "--label: is for evaluation without --prompts"),
        (["--prompts", "arc_easy"], 2, "no table here is named 'easy_validation.jsonl'"),
        (["--prompts", "pets", "--answers", "{place}/test.jsonl"], 2, "test.jsonl would replace"),
        (["--prompts", "pets", "--answers", "new.jsonl", "--results", "new.jsonl"], 2, "would replace --answers"),
        (["--prompts", "pets", "--results", "{place}"], 2, "is a folder; name a file"),
        (["--task", "humaneval"], 2, "programs are `genus evaluate-code`"),
        (["--shots", "2"], 2, "--shots: is for a task that is asked in words; name it with --prompts"),
    ],
)
def test_what_cannot_be_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, message: str
) -> None:
    more = ["--tasks", str(place)] if "--prompts" in options else []
    data = place / "test.jsonl" if "--answers" in options else place
    asked = [option.format(place=place) for option in options]
    assert main(["evaluate", str(place / "model"), str(data), *more, *asked]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert message in told.err
    assert len(told.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("{question}", "{qestion}"),
            "test.jsonl, line 1: template '{qestion}': there is no column 'qestion'. Did you",
        ),
        (('"{pet}"', '"{animal}"'), "line 1: template '{animal}': there is no column 'animal'"),
        (("version = 3", 'version = 3\ninstruction = "A {pet}."'), "instruction: stands before all rows and has no"),
        (('"dog"', '""'), "test.jsonl, line 1: choice 2 of 2 is empty"),
        (('"dog"', '"bird"'), "test.jsonl, line 1: column '{pet}': 'dog' is none of the 2 choices"),
        (('"{question}"', '"{question"'), "a lone '{'; name a column as {column}, or double it"),
        (('"acc",', '"accuracy",'), "metrics.0: expected one of 'acc', 'acc_norm'"),
        (('"MultipleChoice"', '"MultipelChoice"'), "there is no PromptedTask 'MultipelChoice'. Did you mean"),
        (("version = 3", ""), "MultipleChoice needs the choice 'version'"),
    ],
)
def test_a_task_file_that_cannot_be_used_is_one_line(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], message: str
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(TASK.replace(*change))
    assert main(["evaluate", str(place / "model"), str(place), "--prompts", str(file)]) in (1, 2)
    told = capsys.readouterr()
    assert message in told.err
    assert (told.out, len(told.err.splitlines())) == ("", 1)


@pytest.mark.parametrize("value", ["null", "NaN"])
def test_a_question_without_a_value_is_one_line(place: Path, tmp_path: Path, capsys: Captured, value: str) -> None:
    table = tmp_path / "odd.jsonl"
    table.write_text(f'{{"question": "who?", "pet": "cat"}}\n{{"question": {value}, "pet": "cat"}}\n')
    given = ["evaluate", str(place / "model"), str(table), "--prompts", "pets", "--tasks", str(place)]
    assert main(given) == 1
    assert "odd.jsonl, line 2: template '{question}': column 'question' has no value" in capsys.readouterr().err


def test_a_long_prompt_is_refused_or_cut_and_counted(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "long.jsonl"
    rows = [{"question": "who sat? " * number, "pet": "cat"} for number in (1, 100)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["evaluate", str(place / "model"), str(table), "--prompts", str(place / "pets.toml")]
    assert main(given) == 2
    assert "long.jsonl, line 2 has" in capsys.readouterr().err
    assert main([*given, "--cut-prompts"]) == 0
    assert "1 of 2 prompts are longer than the model's positions" in capsys.readouterr().err


def test_perplexity_per_word(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "wiki.test.tokens"
    file.write_text(" \n = The cat = \n \n The cat sat on the mat , and the dog ran . \n" * 9)
    given = ["evaluate", str(place / "model"), str(file), "--task", "wikitext"]
    assert main([*given, "--stride", "16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["window"], found["stride"], found["words"]) == (128, 16, len(file.read_text().strip().split(" ")) - 1)
    per_word = math.log(found["word_perplexity"]) * found["words"]
    assert per_word == pytest.approx(math.log(found["subword_perplexity"]) * found["subwords"])
    assert main(given) == 0
    assert capsys.readouterr().out.split()[1] == "word_perplexity"


def test_codes_are_told_by_their_probability(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["attribute", str(place / "model"), "the cat sat"]
    for codes in (["--code", ""], ["--code", "Books", "--code", "Books"]):
        assert main([*given, *codes]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("genus: error: --code: expected each code once and none empty, got ")
    assert main([*given, "--code", "the", "--code", "dog", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["code"] for one in found} == {"the", "dog"}
    assert sum(one["probability"] for one in found) == pytest.approx(1)
    assert main(given) == 1
    assert "was trained without control codes, as far as it tells; name some with --code" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["nowhere.tokens", "--task", "wikitext"], 1, "nowhere.tokens: cannot be read: No such file"),
        (["train.jsonl", "--task", "wikitext", "--stride", "999"], 2, "stride: expected 1 to 128"),
        (["train.jsonl", "test.jsonl", "--task", "wikitext"], 2, "--task wikitext: expected one file"),
        (["train.jsonl", "--stride", "3"], 2, "--stride: is for --task wikitext"),
    ],
)
def test_no_perplexity_per_word_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, message: str
) -> None:
    named = [str(place / one) if one.endswith("l") else one for one in options]
    assert main(["evaluate", str(place / "model"), *named]) == code
    told = capsys.readouterr()
    assert message in told.err
    assert (told.out, len(told.err.splitlines())) == ("", 1)
