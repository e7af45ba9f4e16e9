"""What one process does for `finetune.py`: one fine-tuning by one contender, and its scores."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from minilm_runs import Learning, on_cpu, settings

from genus.batch import IGNORE
from genus.export.folder import load
from genus.tasks.dataset import Files
from genus.tasks.predict import score
from genus.tasks.splits import read_splits
from genus.tasks.start import Start
from genus.train.precision import number_format
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from pathlib import Path

    from minilm_runs import Precision

    from genus.objectives.supervised import FineTuned
    from genus.recipe import FineTuning
    from genus.tasks import Task
    from genus.tasks.encode import EncodedTexts
    from genus.tasks.windows import EncodedWindows

Contender = Literal["genus", "trainer", "trainer-best"]
"""This library; Trainer with the same settings as it is; and with bfloat16 and batches of alike length."""


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

    @property
    def settings(self) -> FineTuning:
        """The settings of our fine-tuning."""
        return settings(self.lr, self.epochs, self.batch, self.max_length)


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
    precision: Precision = "auto"

    def __call__(self) -> dict[str, Any]:
        """Return the metrics on the validation table, and the seconds of the updates."""
        if self.contender == "genus":
            return Learning(
                self.task, self.tables, self.model, self.folder, self.seed, self.tuned.settings, self.precision
            )()
        shutil.rmtree(self.folder / "model", ignore_errors=True)
        return self._theirs() | {"surroundings": surroundings(torch.device("cpu"))}

    def _theirs(self) -> dict[str, Any]:
        import finetune_peer

        began, used = time.perf_counter(), time.process_time()
        source = load(self.model)
        splits = read_splits(Files.find(self.tables), self.task)
        rows = splits["train"].rows
        objective = self.task.objective([label for row in rows for label in row.labels])
        objective = objective.continued(source.recipe.objectives, source.recipe.model)
        task = self.task.resolved_for(objective)
        start = Start(source.recipe, source.tokenizer)
        reader = start.reader(objective, self.tuned.settings)
        encoded = task.encode(reader, rows, objective, self.tuned.max_length)
        half = self.contender == "trainer-best" and number_format(self.precision, torch.device("cpu")) is torch.bfloat16
        seconds = finetune_peer.train(
            self.model, self.folder / "model", examples(encoded, objective), objective, self.tuned, self.seed,
            half=half, grouped=self.contender == "trainer-best",
        )  # fmt: skip
        trained = load(self.folder / "model")
        recipe = replace(trained.recipe, finetuning=self.tuned.settings, objectives=(objective,))
        _, metrics = score(replace(trained, recipe=recipe), task, splits["validation"].rows, on_cpu(self.precision))
        return {
            "metrics": metrics,
            "seconds": seconds,
            "whole": time.perf_counter() - began,
            "processor": time.process_time() - used,
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
