"""What one job of a comparison does: a tokenizer with its token store, or a row with one seed and its measurements."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from genus import pipeline
from genus.doctor import entropy
from genus.errors import GenusError
from genus.export.folder import load
from genus.files import read_json, write_json
from genus.jobs import Stopped
from genus.preparation import token_store, tokenizer_for
from genus.run_folder import RunFolder
from genus.study.curves import curve
from genus.study.measurements import Measurement, Score, Subject
from genus.text import Corpus
from genus.tokens.store import Store
from genus.tokens.tokenizer import Tokenizer
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from pathlib import Path

    from genus.part import Json
    from genus.recipe import Recipe
    from genus.train.run import Run

EVALUATIONS = 20
"""Evaluations on held-out text in the course of a run, about: points of its curve."""
FEWEST_BATCHES = 4
"""Held-out batches of an evaluation, at least."""


@dataclass(frozen=True)
class TokensJob:
    """A tokenizer, trained on the text unless it is given, and the text in its tokens: for all rows that choose so."""

    recipe: Recipe
    text: Path
    folder: Path
    """Gets `tokenizer` and `store`."""
    given: Path | None = None

    def __call__(self) -> dict[str, Any]:
        """Make what is not there, and return how large it is."""
        begun = time.monotonic()
        tokenizer = tokenizer_for(self.recipe, Corpus([self.text]), RunFolder(self.folder), self.given)
        store = token_store(Corpus([self.text]), tokenizer, self.folder / "store")
        found = {"pieces": tokenizer.vocabulary.size, "tokens": store.tokens, "tokenizer": tokenizer.hash()}
        return {**found, "seconds": time.monotonic() - begun}


@dataclass(frozen=True)
class RowJob:
    """A row with one seed: pretraining, or random weights, and what is measured; each result is a file, written whole.

    A result file carries the choices that it was made with, and serves as long as these are the same.
    """

    recipe: Recipe
    seed: int
    folder: Path
    tokens: Path
    """As `TokensJob.folder`."""
    held_out: Path
    measurements: tuple[Measurement, ...]
    run: Run
    choices: Json
    """What the training depends on."""
    contents: dict[str, Json]
    """What the files of each measurement hold, by its name."""
    pretrained: bool = True
    teacher: Path | None = None

    def __call__(self) -> dict[str, Any]:
        """Return what was reached, and what it cost."""
        training = self._kept("training", self.choices, self._train if self.pretrained else dict)
        scores = {}
        for one in self.measurements:
            choices = {**self.choices, "measurement": one.written(), "contents": self.contents[one.name]}
            scores[one.name] = self._kept(slug(one.name), choices, lambda one=one: self._measure(one))
        return {"training": training, "scores": scores, "surroundings": surroundings(torch.device("cpu"))}

    def _kept(self, name: str, choices: Json, made: Any) -> dict[str, Any]:
        """Return a result without its choices: that of the file, if it fits, else one that is made and written."""
        path, told = self.folder / f"{name}.json", json.loads(json.dumps(choices))
        if path.exists():
            try:
                found = read_json(path)
            except GenusError:
                found = {}
            if found.pop("choices", None) == told:
                return found
        result: dict[str, Any] = made()
        write_json(path, {"choices": told, **result})
        return result

    def _train(self) -> dict[str, Any]:
        """Pretrain, from wherever the folder stands; what was begun with other choices is removed."""
        folder, told = self.folder / "run", json.loads(json.dumps(self.choices))
        begun = self.folder / "begun.json"
        if folder.exists() and (not begun.exists() or read_json(begun) != told):
            shutil.rmtree(folder)
        write_json(begun, told)
        summary = pipeline.pretrain(
            self.recipe, [self.tokens / "store"], folder, self.run,
            words=self.tokens / "tokenizer", teacher=self.teacher, resume=True,
        )  # fmt: skip
        if summary.stopped:
            raise Stopped("stopped; the same command goes on")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        losses = sorted(loss for objective in self.recipe.objectives for loss in objective.token_losses)
        reached = asdict(summary.progress)
        return {
            "progress": {name: reached[name] for name in ("step", "tokens", "flops", "seconds", "epochs")},
            "token_losses": losses,
            "curve": curve(folder / "metrics.jsonl", summary.progress.tokens),
            "entropy": entropy(Store.open(self.tokens / "store")),
        }

    def _measure(self, one: Measurement) -> dict[str, Any]:
        """Measure, in a folder of its own."""
        folder = self.folder / slug(one.name)
        shutil.rmtree(folder, ignore_errors=True)
        begun = time.monotonic()
        score: Score = one.measure(self._subject(folder))
        if score.value is not None and not math.isfinite(score.value):
            score = replace(score, value=None, detail={"why": "is no finite number"})
        return {**asdict(score), "seconds": time.monotonic() - begun}

    def _subject(self, folder: Path) -> Subject:
        """Return what is measured."""
        recipe, tokenizer, learner = self._trained
        return Subject(recipe, tokenizer, learner, self.seed, self.held_out, folder, self.run)

    @cached_property
    def _trained(self) -> tuple[Recipe, Tokenizer, Any]:
        """Recipe, tokenizer and pretrained weights, read once."""
        if not self.pretrained:
            tokenizer = Tokenizer.load(self.tokens / "tokenizer")
            return self.recipe.with_tokens(tokenizer.tokens), tokenizer, None
        model = load(self.folder / "run" / "model")
        return model.recipe, model.tokenizer, model.learner


def slug(name: str) -> str:
    """Return a name as that of a file."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-")


def every(steps: float) -> tuple[int, int]:
    """Return the steps between two evaluations and between two rows of metrics of a run of so many steps.

    The second divides the first, so that the tokens of an evaluation are known.
    """
    evaluations = max(1, int(steps / EVALUATIONS))
    return (evaluations, 1) if evaluations < 10 else (evaluations // 10 * 10, evaluations // 10)
