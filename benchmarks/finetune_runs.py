"""What one process does for `finetune.py`: one fine-tuning by one contender, and its scores."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from genus.batch import IGNORE
from genus.export.folder import load
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.tasks.dataset import Files
from genus.tasks.finetune import finetune
from genus.tasks.predict import score
from genus.tasks.splits import read_splits
from genus.tasks.start import Start
from genus.train.precision import number_format
from genus.train.provenance import surroundings
from genus.train.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives.supervised import FineTuned
    from genus.recipe import FineTuning, Recipe
    from genus.tasks import Task
    from genus.tasks.encode import EncodedTexts
    from genus.tasks.windows import EncodedWindows

Contender = Literal["genus", "trainer", "trainer-best"]
"""This library; Trainer with the same settings as it is; and with bfloat16 and batches of alike length."""
RUN = Run(device="cpu", workers=0, tracker="none")


@dataclass(frozen=True)
class Tuned:
    """Settings that all contenders have."""

    epochs: int
    lr: float
    batch: int = 32
    max_length: int = 128

    def told(self) -> dict[str, Any]:
        """Return them as JSON."""
        return asdict(self)

    def settings(self, row: Recipe) -> FineTuning:
        """Return the settings of our fine-tuning: the last weights, of AdamW as Trainer has it."""
        optimizer = AdamW(lr=self.lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, clip_norm=1.0)
        return replace(
            row.finetuning, optimizer=optimizer, schedule=Linear(warmup=0.1), epochs=self.epochs, batch=self.batch,
            max_length=self.max_length, keep="last",
        )  # fmt: skip


@dataclass(frozen=True)
class Tuning:
    """One fine-tuning."""

    task: Task
    tables: Path
    model: Path
    folder: Path
    contender: Contender
    seed: int
    tuned: Tuned

    def __call__(self) -> dict[str, Any]:
        """Return the metrics on the validation table, and the seconds of the updates."""
        shutil.rmtree(self.folder, ignore_errors=True)
        spent = self._ours() if self.contender == "genus" else self._theirs()
        return spent | {"surroundings": surroundings(torch.device("cpu"))}

    def _ours(self) -> dict[str, Any]:
        source = load(self.model)
        start = Start(source.recipe, source.tokenizer, source.learner)
        report = finetune(
            start, self.task, Files.find(self.tables), self.folder / "run", settings=self.tuned.settings(source.recipe),
            seeds=(self.seed,), run=RUN,
        )  # fmt: skip
        (trial,) = report.trials
        return {"metrics": trial.metrics["validation"], "seconds": trial.seconds}

    def _theirs(self) -> dict[str, Any]:
        import finetune_peer

        source = load(self.model)
        splits = read_splits(Files.find(self.tables), self.task)
        rows = splits["train"].rows
        objective = self.task.objective([label for row in rows for label in row.labels])
        objective = objective.continued(source.recipe.objectives, source.recipe.model)
        task = self.task.resolved_for(objective)
        start = Start(source.recipe, source.tokenizer)
        reader = start.reader(objective, self.tuned.settings(source.recipe))
        encoded = task.encode(reader, rows, objective, self.tuned.max_length)
        began = time.perf_counter()
        half = self.contender == "trainer-best" and number_format("auto", torch.device("cpu")) is torch.bfloat16
        seconds = finetune_peer.train(
            self.model, self.folder / "model", examples(encoded, objective), objective, self.tuned, self.seed,
            half=half, grouped=self.contender == "trainer-best",
        )  # fmt: skip
        trained = load(self.folder / "model")
        recipe = replace(trained.recipe, finetuning=self.tuned.settings(trained.recipe), objectives=(objective,))
        _, metrics = score(replace(trained, recipe=recipe), task, splits["validation"].rows, RUN)
        return {
            "metrics": metrics,
            "seconds": seconds,
            "whole": time.perf_counter() - began,
            "versions": {name: version(name) for name in ("transformers", "accelerate")},
        }


def examples(encoded: EncodedTexts, objective: FineTuned) -> list[dict[str, Any]]:
    """Return the examples of a table as transformers' classes take them, with the same ids and labels."""
    found = []
    spans = hasattr(encoded, "candidates_of")
    for number in range(len(encoded)):
        example = encoded.example(number)
        sequence = example.streams["tokens"]
        one: dict[str, Any] = {"input_ids": sequence.ids.tolist(), "token_type_ids": sequence.segments.tolist()}
        places, labels = example.targets[encoded.target]
        if spans:
            windows = cast("EncodedWindows", encoded)
            if (windows.labels[number] == IGNORE).any():
                continue
            one["start_positions"], one["end_positions"] = windows.candidates_of(number)[
                windows.labels[number]
            ].tolist()
        elif objective.pooled:
            if (label := labels[0].item()) == IGNORE or math.isnan(label):
                continue
            one["labels"] = label
        else:
            tags = torch.full((len(sequence.ids),), IGNORE)
            tags[torch.from_numpy(places)] = torch.from_numpy(labels)
            one["labels"] = tags.tolist()
        found.append(one)
    return found
