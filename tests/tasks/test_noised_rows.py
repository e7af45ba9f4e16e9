"""Noise of tables: which texts it changes, a function of seed and row; what labels stand at is not moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from genus.curate.document import Document
from genus.curate.noised import Noised
from genus.errors import UsageError
from genus.part import slots_of
from genus.tasks import Task
from genus.tasks.classification import Classification
from genus.tasks.dataset import LabeledRow
from genus.tasks.noised import check_noise, noised, with_noise
from genus.tasks.question_answering import QuestionAnswering
from genus.tasks.splits import Split
from genus.tasks.tagging import Tagging
from genus.text.noise.schemes import Drop, RandomCase, Uppercase

ROWS = [LabeledRow(line, (f"the first text of {line}" * 3, f"the other text of {line}" * 3), "a") for line in range(9)]


def test_a_row_has_its_noise_wherever_it_stands() -> None:
    noise = RandomCase(rate=0.5)
    found = noised(ROWS, noise)
    assert found == noised(ROWS, noise)
    assert found[::-1] == noised(ROWS[::-1], noise)
    assert found[4:5] == noised(ROWS[4:5], noise)
    assert [one.label for one in found] == ["a"] * len(ROWS)
    assert found != noised(ROWS, RandomCase(rate=0.5, seed=1))
    one, other = noised([LabeledRow(1, ("same text again", "same text again"), None)], noise)[0].texts
    assert one != other


def test_only_the_splits_that_are_named_have_noise() -> None:
    splits = {name: Split(Path(f"{name}.jsonl"), ROWS) for name in ("train", "validation", "test")}
    found = with_noise(splits, Classification(texts=("a", "b")), {"test": Uppercase()})
    assert found["train"] is splits["train"]
    assert found["test"].rows[0].texts[0] == ROWS[0].texts[0].upper()
    assert (found["test"].data().noise, found["train"].data().noise) == ("uppercase:1:0", None)


def test_labels_that_stand_in_texts_are_not_moved() -> None:
    standing = {name for name, kind in slots_of(Task).items() if kind.labels_stand_in_texts}  # type: ignore[type-abstract]
    assert standing == {"Tagging", "RecurrentTagging", "CharacterSpans", "QuestionAnswering"}
    for task in (Tagging(), QuestionAnswering()):
        check_noise(Uppercase(), task)
        with pytest.raises(UsageError, match="Drop moves characters, at which the labels of"):
            check_noise(Drop(), task)
    check_noise(Drop(), Classification())


def test_a_step_of_a_curation_is_a_function_of_source_and_row() -> None:
    step = Noised(noise=Drop(rate=0.3))
    documents = [Document(f"a text of some words {row}", {"source": "a", "row": row}) for row in range(5)]
    found = [one.text for one in step.outcomes(documents)]
    assert found == [next(iter(step.outcomes([one]))).text for one in documents]
    assert found != [one.text for one in documents]
    elsewhere = next(iter(step.outcomes([Document(documents[0].text, {"source": "b", "row": 0})]))).text
    assert elsewhere != found[0]
    (gone,) = Noised(noise=Drop(rate=1.0)).outcomes(documents[:1])
    assert (gone.text, gone.document and gone.document.rule) == ("", "empty")
