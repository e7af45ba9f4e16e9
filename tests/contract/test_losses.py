"""Ten steps of the whole way from text to updates, for every member: their losses, and resuming.

A member's first row makes them, and each further one that is made of other kinds of parts than those before it.

The losses change whenever anything on that way does: read why before writing them anew with `GOLDEN=write`.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from genus import catalog, pipeline
from genus.export.folder import save
from genus.objectives.pretraining.distillation import Distillation
from genus.tokens.tokenizer import Tokenizer
from genus.train.run import Run
from kinds import of_each_kind
from small import codebook, documents, fields, losses, rows, shrunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.recipe import Recipe

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
WRITE = os.environ.get("GOLDEN") == "write"
TOLERANCE = 1e-3
"""Relative: float32 sums in another order (threads, processors) differ by 1e-7, which ten updates of Adam magnify."""
STEPS, STOP = 10, 5
TIMED = {"seconds", "tokens_per_second", "utilization"}
RUN = Run(
    device="cpu",
    precision="float32",
    workers=0,
    held_out=0.05,
    log_every=1,
    evaluate_every=STEPS,
    checkpoint_every=STOP,
    tracker="none",
)


def words(recipe: Recipe) -> Path:
    """Return the tokenizer that is kept for tokens of these choices: one trained anew may have other ids."""
    for folder in sorted((GOLDEN / "words").iterdir()):
        kept = Tokenizer.load(folder).tokens
        if type(kept) is type(recipe.tokens) and replace(kept, vocab_size=recipe.tokens.vocab_size) == recipe.tokens:
            return folder
    assert WRITE, f"no tokenizer is kept for {recipe.tokens}; write it with GOLDEN=write"
    kind = type(recipe.tokens).__name__
    number = len(list((GOLDEN / "words").glob(f"{kind}*")))
    folder = GOLDEN / "words" / (f"{kind}-{number + 1}" if number else kind)
    recipe.tokens.train(documents()).save(folder)
    return folder


def teacher(recipe: Recipe, tokenizer: Path, folder: Path) -> Path | None:
    """Return a fresh BERT with that tokenizer for a recipe that learns from a teacher, a discrete VAE for codes."""
    if recipe.examples.reads_codes:
        return codebook(folder)
    if not any(isinstance(objective, Distillation) for objective in recipe.objectives):
        return None
    read = Tokenizer.load(tokenizer)
    save(folder, *pipeline.new_learner(replace(shrunk(catalog.load("bert")), seed=1), read), read)
    return folder


RUNS = of_each_kind()


@dataclass(frozen=True)
class Finished:
    """A run of ten steps that has ended, and what it was given."""

    name: str
    folder: Path
    again: Callable[[], object]
    """Goes on with it from its last checkpoint."""


@pytest.fixture(scope="module", params=RUNS)
def finished(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run, which the tests of one process share."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    recipe = shrunk(catalog.load(RUNS[name])).override("budget.amount", float(STEPS))
    tokenizer = words(recipe)
    given = {"words": tokenizer, "teacher": teacher(recipe, tokenizer, folder / "teacher"), "fields": fields(recipe)}
    run = partial(pipeline.pretrain, recipe, [corpus], folder / "run", RUN, **given)
    run()
    return Finished(name, folder / "run", partial(run, resume=True))


def test_losses_of_a_small_run(finished: Finished) -> None:
    recorded = rows(finished.folder)
    found = {"loss": losses(finished.folder), "held out": recorded[-1]["held_out/loss"]}
    path = GOLDEN / "losses" / f"{finished.name}.json"
    if WRITE:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    golden = json.loads(path.read_text(encoding="utf-8"))
    assert len(found["loss"]) == STEPS
    assert found["loss"] == pytest.approx(golden["loss"], rel=TOLERANCE)
    assert found["held out"] == pytest.approx(golden["held out"], rel=TOLERANCE)


def test_stopped_after_half_of_its_steps_it_goes_on_bit_for_bit(finished: Finished) -> None:
    """In losses, weights and the optimizer's state; the first steps, told by the time each took, are not made anew."""
    whole, metrics = written(finished.folder), rows(finished.folder)
    shutil.rmtree(finished.folder / "checkpoints" / f"checkpoint-{STEPS}")
    finished.again()
    resumed = rows(finished.folder)
    assert resumed[:STOP] == metrics[:STOP]
    assert [untimed(row) for row in resumed] == [untimed(row) for row in metrics]
    assert written(finished.folder) == whole


def written(folder: Path) -> dict[str, bytes]:
    """Return all tensors that a run has written, of its model and of its checkpoints."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


def untimed(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in TIMED}


def test_no_golden_is_left_over() -> None:
    assert {path.stem for path in (GOLDEN / "losses").glob("*.json")} == set(RUNS)
