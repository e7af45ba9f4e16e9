"""From text to an exported classifier, by every member's smallest row: pretrain, stop, resume, fine-tune, export."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from test_losses import teacher

from genus import catalog, pipeline
from genus.cost import cost
from genus.export.folder import load, save
from genus.export.verify import verify
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files
from genus.tasks.finetune import finetune
from genus.tasks.start import Start
from genus.text import Corpus
from genus.train.run import Run
from small import fields, shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from _pytest.mark.structures import ParameterSet

STEPS, ROWS = 4.0, 32
RUN = Run(device="cpu", precision="float32", workers=0, held_out=0.05, log_every=1, checkpoint_every=2, tracker="none")


def smallest(member: str) -> str:
    """Return the row of a member with the fewest parameters."""
    rows = [name for name in catalog.names() if name.split("/")[0] == member]
    return min(rows, key=lambda name: cost(catalog.load(name)).parameters)


def each() -> list[ParameterSet]:
    """Return every member; all but the first with each kind of model and of tokens are slow."""
    seen: set[tuple[str, str]] = set()
    found = []
    for member in catalog.members():
        if catalog.load(member).model.pixels("tokens") is not None:
            continue  # it reads no texts
        recipe = catalog.load(member)
        kinds = type(recipe.model).__name__, type(recipe.tokens).__name__
        found.append(pytest.param(member, marks=[pytest.mark.slow] if kinds in seen else []))
        seen.add(kinds)
    return found


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def tables(folder: Path) -> Files:
    """Write a task of two labels, and return its files."""
    folder.mkdir()
    for split, first in (("train", 0), ("validation", ROWS)):
        rows = [{"text": f"the old river carries {n} stones", "label": str(n % 2)} for n in range(first, first + ROWS)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Files.find(folder)


@pytest.mark.parametrize("member", each())
def test_the_whole_way(member: str, corpus: Path, tmp_path: Path) -> None:
    recipe = shrunk(catalog.load(smallest(member))).override("budget.amount", STEPS)
    words = tmp_path / "words"
    recipe.tokens.train(Corpus([corpus])).save(words)
    given = {"words": words, "teacher": teacher(recipe, words, tmp_path / "teacher"), "fields": fields(recipe)}
    pipeline.pretrain(recipe, [corpus], tmp_path / "run", RUN, **given)
    found = losses(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-4")
    pipeline.pretrain(recipe, [corpus], tmp_path / "run", RUN, resume=True, **given)
    assert losses(tmp_path / "run") == found
    assert len(found) == STEPS

    model = load(tmp_path / "run" / "model")
    assert verify(tmp_path / "run" / "model", model.learner)
    settings = replace(model.recipe.finetuning, epochs=1, batch=16)
    start = Start(model.recipe, model.tokenizer, model.learner)
    finetune(
        start, Classification(), tables(tmp_path / "task"), tmp_path / "tuned", settings=settings, seeds=(0,), run=RUN
    )
    tuned = load(tmp_path / "tuned" / "model")
    save(tmp_path / "exported", tuned.recipe, tuned.learner, tuned.tokenizer)
    assert "sequence_classification" in verify(tmp_path / "exported", tuned.learner)
