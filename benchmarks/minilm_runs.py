"""What one process does for the studies with MiniLM: one fine-tuning, and what it took."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from genus.export.folder import load
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import FineTuning
from genus.tasks.dataset import Files
from genus.tasks.finetune import finetune
from genus.tasks.start import Start
from genus.train.provenance import surroundings
from genus.train.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from genus.adapt import Adaptation
    from genus.tasks import Task
    from genus.tasks.augment import Augmentation

Precision = Literal["auto", "float32", "bfloat16"]


def on_cpu(precision: Precision) -> Run:
    """Return how all run."""
    return Run(device="cpu", precision=precision, workers=0, tracker="none")


def settings(
    lr: float, epochs: float, batch: int = 32, max_length: int = 128, eps: float = 1e-8,
    adaptation: Adaptation | None = None,
) -> FineTuning:  # fmt: skip
    """Return settings of which the last weights count, so that nothing is chosen by the rows that are measured.

    AdamW and its decay are as in transformers' Trainer, with warm-up over a tenth of the updates and linear decay.
    """
    optimizer = AdamW(lr=lr, betas=(0.9, 0.999), eps=eps, weight_decay=0.01, clip_norm=1.0)
    return FineTuning(
        optimizer=optimizer, schedule=Linear(warmup=0.1), epochs=epochs, batch=batch, max_length=max_length,
        adaptation=adaptation, keep="last",
    )  # fmt: skip


@dataclass(frozen=True)
class Learning:
    """One fine-tuning from the weights of a folder."""

    task: Task
    tables: Path
    model: Path
    folder: Path
    seed: int
    settings: FineTuning
    precision: Precision = "auto"
    augmentation: Augmentation | None = None

    def __call__(self) -> dict[str, Any]:
        """Return the metrics on the validation table, those of all evaluations, and what it took.

        `seconds` are those of the updates alone; `whole` has reading, tokenization and evaluation in it too, and is
        told in seconds of the processor as well, which on a busy machine say more. `made` is the rows that the
        augmentation made.
        """
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        begun, used = time.perf_counter(), time.process_time()
        source = load(self.model)
        report = finetune(
            Start(source.recipe, source.tokenizer, source.learner, self.model), self.task, Files.find(self.tables),
            self.folder / "run", settings=self.settings, seeds=(self.seed,), run=on_cpu(self.precision), publish=False,
            augmentation=self.augmentation,
        )  # fmt: skip
        (trial,) = report.trials
        return {
            "metrics": trial.metrics["validation"],
            "history": trial.history,
            "made": 0 if report.augmentation is None else report.augmentation.rows,
            "seconds": trial.seconds,
            "whole": time.perf_counter() - begun,
            "processor": time.process_time() - used,
            "surroundings": surroundings(torch.device("cpu")),
        }
