"""What one process does for `family.py`: a vocabulary and its token store, or one start and what is measured from it.

A start is a pretraining, or random weights; from it the tasks are fine-tuned, and sentences are told apart as it is.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from genus import pipeline
from genus.cost import cost
from genus.doctor import entropy
from genus.errors import GenusError
from genus.evaluate.likelihood import log_likelihoods
from genus.evaluate.tags import entities, scheme_of
from genus.export.folder import load
from genus.preparation import token_store, tokenizer_for
from genus.run_folder import RunFolder
from genus.study.curves import curve
from genus.tasks.dataset import Files
from genus.tasks.finetune import finetune
from genus.tasks.start import Start
from genus.text import Corpus
from genus.tokens.store import Store
from genus.tokens.tokenizer import Tokenizer
from genus.train.provenance import surroundings
from genus.train.run import Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.recipe import Recipe
    from genus.tasks import Task

CHECKPOINT_EVERY = 1000
"""Steps; what a killed run loses at most."""
EVALUATE_EVERY, EVALUATE_BATCHES = 240, 40
"""Steps between evaluations on held-out text, a quarter of a million tokens in rows of 64 by 16, and their batches."""
LOG_EVERY = 10
"""Steps; it divides `EVALUATE_EVERY`, so that the tokens of an evaluation are known."""
FIRST = ord("0")
"""The character of 0 where the numbers of many rows are written as one text."""


@dataclass(frozen=True)
class Training:
    """One start: a pretraining, or random weights; and what is measured from it."""

    recipe: Recipe
    folder: Path
    words: Path
    """Holds the tokenizer in `tokenizer` and the token store in `store`."""
    tables: Path
    """Holds a folder for each task."""
    tasks: dict[str, Task]
    seeds: tuple[int, ...]
    """Of the fine-tunings."""
    pairs: Path | None
    """Pairs of sentences, the better one first; None: none are told apart."""
    teacher: Path | None
    pretrained: bool
    compiled: bool

    def __call__(self) -> dict[str, Any]:
        """Return what was reached, and what it cost."""
        found = self._pretrain() if self.pretrained else {}
        tokenizer = Tokenizer.load(self.words / "tokenizer")
        start = Start(self.recipe, tokenizer)
        if self.pretrained:
            model = load(self.folder / "model")
            start = Start(model.recipe, model.tokenizer, model.learner)
        return {
            **found,
            "recipe": start.recipe.hash(),
            "cost": asdict(cost(start.recipe)),
            "tasks": {task: self._tune(start, task) for task in self.tasks},
            **(self._told_apart(start) if self.pairs else {}),
            "surroundings": surroundings(torch.device("cpu")),
        }

    def _pretrain(self) -> dict[str, Any]:
        """Pretrain, from wherever the folder stands."""
        run = Run(
            device="cpu",
            compile=self.compiled,
            workers=0,
            checkpoint_every=CHECKPOINT_EVERY,
            keep=1,
            evaluate_every=EVALUATE_EVERY,
            evaluate_batches=EVALUATE_BATCHES,
            log_every=LOG_EVERY,
            tracker="none",
        )
        summary = pipeline.pretrain(
            self.recipe,
            [self.words / "store"],
            self.folder,
            run,
            words=self.words / "tokenizer",
            teacher=self.teacher,
            resume=True,
        )
        if summary.stopped:
            raise GenusError("stopped; the same command goes on")
        losses = sorted(loss for objective in self.recipe.objectives for loss in objective.token_losses)
        return {
            "pretraining": asdict(summary.progress),
            "token_losses": losses,
            "curve": curve(self.folder / "metrics.jsonl", summary.progress.tokens),
            "entropy": entropy(Store.open(self.words / "store")),
        }

    def _tune(self, start: Start, task: str) -> dict[str, Any]:
        """Fine-tune with every seed; return each seed's metrics and rows in test, and the seconds it took.

        Where there is no test table, validation takes its place, by which the best of a run's evaluations was chosen.
        """
        files = Files.find(self.tables / task)
        split = "validation" if files.test is None else "test"
        run = Run(device="cpu", workers=0, tracker="none")
        where = self.folder / task
        report = finetune(
            start, self.tasks[task], files, where, settings=self.recipe.finetuning, seeds=self.seeds, run=run
        )
        trials = {str(trial.seed): trial for trial in report.trials}
        rows = {seed: read(where / f"seed-{seed}" / f"{split}.jsonl") for seed in trials}
        return {
            "metrics": {seed: trial.metrics[split] for seed, trial in trials.items()},
            "seconds": {seed: trial.seconds for seed, trial in trials.items()},
            **answers(rows, report.objective.classes),
        }

    def _told_apart(self, start: Start) -> dict[str, Any]:
        """Return for each pair whether the better sentence is the likelier one, 1 or 0, and the seconds it took."""
        assert self.pairs is not None
        begun, rows = time.monotonic(), read(self.pairs)
        learner = start.learner or pipeline.new_learner(start.recipe, start.tokenizer)[1]
        sides = [[row[side] for row in rows] for side in ("sentence_good", "sentence_bad")]
        good, bad = (log_likelihoods(learner, start.tokenizer, side, start.recipe.model.max_length) for side in sides)
        told = [int(ours.nats > theirs.nats) for ours, theirs in zip(good, bad, strict=True)]
        return {"pairs": written(told), "pairs_seconds": time.monotonic() - begun}


@dataclass(frozen=True)
class Words:
    """A vocabulary trained on the text, and the text in its tokens; shared by all that choose the same tokenization."""

    recipe: Recipe
    text: Path
    sample: Path
    """Of the text, or all of it: what the vocabulary is trained on."""
    folder: Path

    def __call__(self) -> dict[str, Any]:
        """Return how large they are and how long they took."""
        begun = time.monotonic()
        tokenizer = tokenizer_for(self.recipe, Corpus([self.sample]), RunFolder(self.folder))
        trained = time.monotonic()
        store = token_store(Corpus([self.text]), tokenizer, self.folder / "store")
        seconds = {"vocabulary": trained - begun, "store": time.monotonic() - trained}
        return {"pieces": tokenizer.vocabulary.size, "tokens": len(store.ids), "seconds": seconds}


def answers(rows: dict[str, list[dict[str, Any]]], labels: Sequence[str]) -> dict[str, Any]:
    """Return each run's answers in such numbers that a score is Σ above / Σ below over the rows, as texts.

    Accuracy is the share of right answers. F1 of entities is 2 both / (true + found). Of classes the numbers of the
    labels are there too.
    """
    above, below, said = {}, {}, {}
    for run, table in rows.items():
        if isinstance(table[0]["predicted"], list):
            scheme = scheme_of([row["label"] for row in table])
            sides = [[entities(row[side], scheme) for row in table] for side in ("label", "predicted")]
            above[run] = written([2 * len(true & found) for true, found in zip(*sides, strict=True)])
            below[run] = written([len(true) + len(found) for true, found in zip(*sides, strict=True)])
        else:
            above[run] = written([int(row["label"] == row["predicted"]) for row in table])
            below[run] = written([1] * len(table))
            said[run] = written([labels.index(row["predicted"]) for row in table])
    return {"above": above, "below": below, **({"answers": said} if said else {})}


def written(numbers: Sequence[int]) -> str:
    """Return small numbers as a text, a character each: digits, and what comes after 9 in Unicode."""
    return "".join(chr(FIRST + number) for number in numbers)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
