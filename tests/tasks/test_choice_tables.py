"""Tables of questions with choices: how the choices stand there, and how the right one is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from genus.errors import GenusError, UsageError
from genus.tasks.choice import Choice
from genus.tasks.dataset import read

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["a cat", "a dog", "a saw"]
LISTED = Choice()
COLUMNS = Choice(choices=("one", "two", "three"))
BOTH = Choice(texts=("context", "question"))


def table(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("task", "row", "label"),
    [
        (LISTED, {"question": "what?", "choices": TEXTS, "label": 2}, "2"),
        (LISTED, {"question": "what?", "choices": TEXTS, "label": 2.0}, "2"),
        (LISTED, {"question": "what?", "choices": TEXTS, "label": "B"}, "1"),
        (LISTED, {"question": "what?", "choices": TEXTS, "label": "a dog"}, "1"),
        (LISTED, {"question": "what?", "choices": TEXTS}, None),
        (LISTED, {"question": "what?", "choices": {"text": TEXTS, "label": ["1", "2", "3"]}, "label": "2"}, "1"),
        (LISTED, {"question": "what?", "choices": {"text": TEXTS, "label": ["C", "B", "A"]}, "label": "C"}, "0"),
        (COLUMNS, {"question": "what?", "one": "a cat", "two": "a dog", "three": "a saw", "label": "three"}, "2"),
        (COLUMNS, {"question": "what?", "one": "a cat", "two": "a dog", "three": "a saw", "label": 0}, "0"),
    ],
)
def test_choices_and_the_right_one(task: Choice, row: dict[str, Any], label: str | None, tmp_path: Path) -> None:
    (found,) = read(table(tmp_path / "t.jsonl", row), task, labeled=False)
    assert (found.texts, found.label) == (("what?", *TEXTS), label)


def test_a_context_and_a_question_are_one_text(tmp_path: Path) -> None:
    row = {"context": "It barks.", "question": "what?", "choices": TEXTS, "label": 1}
    assert read(table(tmp_path / "t.jsonl", row), BOTH)[0].texts[0] == "It barks. what?"


@pytest.mark.parametrize(
    ("choices", "label", "says"),
    [
        (TEXTS, 3, "'3' is none of the 3 choices, by number from 0, by letter from A, by column or by text"),
        (["1", "2", "3"], 2, "'2' is one choice by number or letter, and another by text"),
        (["a cat"], 0, "holds no list of two choices or more"),
        ("a cat", 0, "holds no list of choices"),
        (None, 0, "holds no list of two choices or more"),
    ],
)
def test_what_is_no_choice_is_refused_with_its_line(choices: object, label: object, says: str, tmp_path: Path) -> None:
    good = {"question": "what?", "choices": TEXTS, "label": 0}
    path = table(tmp_path / "t.jsonl", good, {"question": "what?", "choices": choices, "label": label})
    with pytest.raises(GenusError, match=says) as error:
        read(path, LISTED)
    assert str(error.value).startswith(f"{path}, line 2: ")
    assert "\n" not in str(error.value)


def test_a_missing_column_of_choices_is_named(tmp_path: Path) -> None:
    path = table(tmp_path / "t.jsonl", {"question": "what?", "choice": TEXTS, "label": 0})
    with pytest.raises(GenusError, match=r"there is no column 'choices'\. Did you mean 'choice'"):
        read(path, LISTED)
    with pytest.raises(UsageError, match="choices: expected the column"):
        Choice(choices=())


def test_labels_that_count_from_one_are_pointed_out(tmp_path: Path) -> None:
    rows = [{"question": "what?", "choices": [*TEXTS, "a bird"], "label": 1 + number % 3} for number in range(30)]
    found = read(table(tmp_path / "t.jsonl", *rows), LISTED)
    assert "the first choice is never right in 30 rows; numbers count from 0" in LISTED.remark(found)
    assert not LISTED.remark(found[:5])
