"""Ten losses of a small run of the whole way from text to updates, for the first row of every member.

They change whenever anything on that way does: read why before writing them anew with `GOLDEN=write`.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from genus import catalog, pipeline
from genus.export.hf import save
from genus.objectives.taught import Taught
from genus.tokens.tokenizer import Tokenizer
from genus.train.run import Run
from small import documents, shrunk

if TYPE_CHECKING:
    from genus.recipe import Recipe

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
WRITE = os.environ.get("GOLDEN") == "write"
TOLERANCE = 1e-3
"""Relative: float32 sums in another order (threads, processors) differ by 1e-7, which ten updates of Adam magnify."""
STEPS = 10
RUN = Run(
    device="cpu", precision="float32", workers=0, held_out=0.05, log_every=1, evaluate_every=STEPS, tracker="none"
)


FIRST = {member: next(iter(rows)) for member, rows in catalog.members().items()}


def words(recipe: Recipe) -> Path:
    """Return the tokenizer that is kept for tokens of these choices: one trained anew may have other ids."""
    for folder in sorted((GOLDEN / "words").iterdir()):
        kept = Tokenizer.load(folder).tokens
        if replace(kept, vocab_size=recipe.tokens.vocab_size) == recipe.tokens:
            return folder
    assert WRITE, f"no tokenizer is kept for {recipe.tokens}; write it with GOLDEN=write"
    kind = type(recipe.tokens).__name__
    number = len(list((GOLDEN / "words").glob(f"{kind}*")))
    folder = GOLDEN / "words" / (f"{kind}-{number + 1}" if number else kind)
    recipe.tokens.train(documents()).save(folder)
    return folder


def teacher(recipe: Recipe, tokenizer: Path, folder: Path) -> Path | None:
    """Return a fresh BERT with that tokenizer, for a recipe that learns from a teacher."""
    if not any(isinstance(objective, Taught) for objective in recipe.objectives):
        return None
    torch.manual_seed(1)
    read = Tokenizer.load(tokenizer)
    save(folder, *pipeline.fresh(shrunk(catalog.load("bert")), read), read)
    return folder


@pytest.mark.parametrize("member", FIRST)
def test_losses_of_a_small_run(member: str, corpus: Path, tmp_path: Path) -> None:
    recipe = shrunk(catalog.load(FIRST[member])).override("budget.amount", float(STEPS))
    tokenizer = words(recipe)
    taught = teacher(recipe, tokenizer, tmp_path / "teacher")
    pipeline.pretrain(recipe, [corpus], tmp_path / "run", RUN, words=tokenizer, teacher=taught)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    found = {"loss": [row["loss"] for row in rows if "loss" in row], "held out": rows[-1]["held_out/loss"]}
    path = GOLDEN / "losses" / f"{member}.json"
    if WRITE:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    golden = json.loads(path.read_text(encoding="utf-8"))
    assert len(found["loss"]) == STEPS
    assert found["loss"] == pytest.approx(golden["loss"], rel=TOLERANCE)
    assert found["held out"] == pytest.approx(golden["held out"], rel=TOLERANCE)


def test_no_golden_is_left_over() -> None:
    assert {path.stem for path in (GOLDEN / "losses").glob("*.json")} == set(FIRST)
