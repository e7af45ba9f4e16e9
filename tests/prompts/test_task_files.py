"""Task files: found by name in the package and in a folder, and those of the page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from genus.errors import UsageError
from genus.prompts import PromptedTask
from genus.prompts.catalog import load, names
from genus.prompts.evaluation import evaluate_prompts

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel

PAGE = Path(__file__).parents[2] / "docs" / "prompts.md"


@pytest.mark.parametrize("name", names())
def test_the_packages_own_are_read_and_written(name: str) -> None:
    task = load(name)
    assert task.name == name
    assert task.source
    assert PromptedTask.from_json(json.loads(json.dumps(task.written()))) == task
    assert f"`{name}`" in PAGE.read_text(encoding="utf-8")


def test_the_tasks_of_the_page(decoder: LoadedModel, tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        name = re.search(r'^name = "(\w+)"', block, re.MULTILINE)
        assert name is not None
        (tmp_path / f"{name[1]}.toml").write_text(block, encoding="utf-8")
    assert {*names(tmp_path)} == {*names(), "pets", "sums"}
    (tmp_path / "test.jsonl").write_text('{"text": "It barks.", "pet": "dog"}\n{"text": "It purrs.", "pet": "A"}\n')
    report = evaluate_prompts(decoder, load("pets", tmp_path), [tmp_path], shots=0)
    assert report.asked[0].prompt == "Which pet is it?\n\nSentence: It barks.\nPet:"
    assert [one.told["answer"] for one in report.answered] == [1, 0]
    assert load("sums", tmp_path).to_json()["stop"] == ["\nQ:"]


def test_a_folders_own_come_first(tmp_path: Path) -> None:
    table = {**load("blimp").written(), "version": 9}
    (tmp_path / "blimp.json").write_text(json.dumps(table))
    assert load("blimp", tmp_path).version == 9
    assert load("blimp").version == 1
    (tmp_path / "blimp.toml").write_text("")
    with pytest.raises(UsageError, match=r"blimp.json and blimp.toml have the same name"):
        names(tmp_path)
    with pytest.raises(UsageError, match="there is no such folder of tasks"):
        names(tmp_path / "none")


def test_a_name_that_is_none_has_its_neighbors_named() -> None:
    with pytest.raises(UsageError, match=r"there is no task 'arc_esay'\. Did you mean 'arc_easy'"):
        load("arc_esay")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", r"mine.json: cannot be read as JSON"),
        ("[]", r"mine.json: expected a table of PromptedTask"),
        ("{}", r"mine.json: name the kind of PromptedTask"),
        ('{"kind": "Completion", "nme": 1}', r"mine.json: Completion has no choice 'nme'. Did you mean 'name'"),
    ],
)
def test_a_file_that_is_no_task(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        load(tmp_path / "mine.json")
