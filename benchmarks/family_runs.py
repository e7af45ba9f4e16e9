"""What one process does for `family.py`: a vocabulary and its token store, or one pretraining and its fine-tunings."""

from __future__ import annotations

import gzip
import json
import lzma
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genus import pipeline
from genus.cost import cost
from genus.errors import GenusError
from genus.examples.keys import PLAN, generator
from genus.export.folder import load
from genus.files import write_text
from genus.objectives.supervised.sequence import SequenceClassification
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import FineTuning
from genus.run_folder import RunFolder
from genus.tasks.dataset import Files
from genus.tasks.finetune import finetune
from genus.tasks.start import Start
from genus.text import Corpus
from genus.tokens.tokenizer import Tokenizer
from genus.train.provenance import surroundings
from genus.train.run import Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.recipe import Recipe
    from genus.tasks import Task

TASKS = ("sst2", "mrpc", "rte")
TUNING = FineTuning(
    optimizer=AdamW(lr=3e-4, eps=1e-6, weight_decay=0.01, clip_norm=1.0),
    schedule=Linear(warmup=0.1),
    epochs=1,
    batch=16,
    max_length=128,
)
"""Of every member alike, and such that fine-tuning can learn from scratch too; the pooler is the member's."""
TUNINGS = 3
"""Fine-tunings of each pretraining, with seeds of their own, so that what seeds do is not alike in all of them."""
NEVER = 1 << 40
"""Steps: what is published and measured is what stands at the end."""
CHECKPOINT_EVERY = 100
"""Steps; what a killed run loses at most."""


@dataclass(frozen=True)
class Training:
    """One pretraining, or none, and its fine-tunings."""

    recipe: Recipe
    folder: Path
    words: Path
    """Holds the tokenizer in `words` and the token store in `store`."""
    tables: Path
    """Holds a folder for each task."""
    tasks: dict[str, Task]
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
        tasks = {task: self._tune(start, task) for task in self.tasks}
        return {
            **found,
            "recipe": start.recipe.hash(),
            "cost": asdict(cost(start.recipe)),
            "tasks": tasks,
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
            evaluate_every=NEVER,
            evaluate_batches=5,
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
        return {"pretraining": asdict(summary.progress)}

    def _tune(self, start: Start, task: str) -> dict[str, Any]:
        """Fine-tune with every seed; return each seed's metrics in validation, and the seconds it took."""
        files = Files.find(self.tables / task)
        settings = self.recipe.finetuning
        run = Run(device="cpu", workers=0, tracker="none")
        where = self.folder / task
        report = finetune(
            start, self.tasks[task], files, where, settings=settings, seeds=tuning_seeds(self.recipe.seed), run=run
        )
        assert isinstance(report.objective, SequenceClassification)
        labels = report.objective.labels
        trials = {str(trial.seed): trial for trial in report.trials}
        return {
            "metrics": {seed: trial.metrics["validation"] for seed, trial in trials.items()},
            "seconds": {seed: trial.seconds for seed, trial in trials.items()},
            "answers": {seed: _answers(where / f"seed-{seed}" / "validation.jsonl", labels) for seed in trials},
        }


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
        tokenizer = pipeline.tokenizer_for(self.recipe, Corpus([self.sample]), RunFolder(self.folder))
        trained = time.monotonic()
        store = pipeline.token_store(Corpus([self.text]), tokenizer, self.folder / "store")
        seconds = {"vocabulary": trained - begun, "store": time.monotonic() - trained}
        return {"pieces": tokenizer.vocabulary.size, "tokens": len(store.ids), "seconds": seconds}


def tuning_seeds(seed: int) -> list[int]:
    """Return the seeds of the fine-tunings of a pretraining of that seed."""
    return list(range(TUNINGS * seed, TUNINGS * (seed + 1)))


def write_corpus(source: Path, path: Path, size: int) -> None:
    """Write the first documents of a corpus, up to that many bytes of it."""
    if path.exists():
        return
    kept, total = [], 0
    with lzma.open(source, "rt", encoding="utf-8") as lines:
        for line in lines:
            if total > size:
                break
            kept.append(line)
            total += len(line.encode())
    write_text(path, "".join(kept))


def write_tables(source: Path, folder: Path, most: int) -> None:
    """Write a task's tables, of its training rows drawn at random that many bytes; a test table stays away.

    Bytes, because a row of one task is six times as long as one of another, and costs as much.
    """
    found = Files.find(source)
    assert found.validation is not None
    for name, path, limit in (("train", found.train, most), ("validation", found.validation, None)):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = list(lines)
        if limit is not None:
            drawn = generator(0, PLAN, 0, 0).permutation(len(rows))
            size = np.cumsum([len(rows[number].encode()) for number in drawn.tolist()])
            rows = [rows[number] for number in np.sort(drawn[size <= limit]).tolist()]
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{name}.jsonl", "".join(rows))


def _answers(path: Path, labels: Sequence[str]) -> str:
    """Return a character an answer: the number of its label, of ten at most."""
    return "".join(str(labels.index(json.loads(line)["predicted"])) for line in path.read_text("utf-8").splitlines())
