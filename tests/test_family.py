"""What one process of the family's study does, the rows of its tables, and results that serve again."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from genus import catalog
from genus.evaluate.tags import EntityF1
from genus.jobs import Job
from genus.tasks.tagging import Tagging

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture(scope="module")
def scripts() -> dict[str, ModuleType]:
    """The scripts as modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
        return {name: importlib.import_module(f"family_{name}") for name in ("data", "runs")}


def test_scores_follow_from_the_rows(scripts: dict[str, ModuleType]) -> None:
    """F1 of names is the ratio of sums over sentences, accuracy the share of right answers."""
    tags = [["B-PER", "I-PER", "O"], ["O", "B-LOC", "O"], ["B-ORG", "O", "B-PER"]]
    said = [["B-PER", "I-PER", "O"], ["O", "O", "B-LOC"], ["B-ORG", "O", "B-LOC"]]
    table = [{"label": true, "predicted": found} for true, found in zip(tags, said, strict=True)]
    told = scripts["runs"].answers({"0": table}, [])
    above, below = ([int(digit) for digit in told[side]["0"]] for side in ("above", "below"))
    truth, found = (np.array([*side], dtype=object) for side in (tags, said))
    assert sum(above) / sum(below) == pytest.approx(EntityF1()(truth, found)) == pytest.approx(0.5)
    assert "answers" not in told
    told = scripts["runs"].answers(
        {"0": [{"label": "a", "predicted": "a"}, {"label": "a", "predicted": "b"}]}, ["a", "b"]
    )
    assert (told["above"], told["below"], told["answers"]) == ({"0": "10"}, {"0": "11"}, {"0": "01"})


def test_rows_with_labels_that_no_training_row_has_are_left_out(scripts: dict[str, ModuleType]) -> None:
    lines = [
        json.dumps({"tokens": ["a", "b"], "ner_tags": tags})
        for tags in (["O", "B-PER"], ["O", "O"], ["B-LOC", "O"], ["B-PER", "O"])
    ]
    assert scripts["data"].answerable(lines[1:], lines[:1], Tagging()) == [lines[1], lines[3]]


def test_a_result_serves_as_long_as_its_recipe_says_the_same() -> None:
    """A recipe that was written before a choice existed is one with the choice's default."""
    row = catalog.load("bert/tiny")
    job = Job("bert", dict, Path("result.json"), {"recipe": row.written(), "seeds": (0, 1)}, 1.0)
    older = row.written()
    del older["finetuning"]["keep"], older["finetuning"]["reinitialize"]
    assert job.fits({"choices": {"recipe": older, "seeds": [0, 1]}})
    assert not job.fits({"choices": {"recipe": older, "seeds": [0]}})
    for other in (row.override("finetuning.keep", "last"), row.override("model.layers", 1)):
        assert not job.fits({"choices": {"recipe": other.written(), "seeds": [0, 1]}})
    assert not job.fits({"choices": {"recipe": older | {"gone": 1}, "seeds": [0, 1]}})
