"""What one process does for `attack.py`: a pretraining, a fine-tuning, or an attack."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from genus import pipeline
from genus.attack.models import Models
from genus.attack.outcomes import Report
from genus.attack.table import AttackedTable
from genus.attack.target import Target
from genus.attack.transfer import Transfer
from genus.cli.attack_page import page, written
from genus.cli.output import Counter
from genus.errors import GenusError
from genus.export.folder import load
from genus.files import write_json, write_text
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files, read
from genus.tasks.finetune import finetune
from genus.tasks.predict import objective_of
from genus.tasks.start import Start
from genus.train.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from genus.attack import Attack
    from genus.recipe import FineTuning, Recipe
    from genus.tasks.augment import Augmentation

MASKED, CAUSAL = "bert", "gpt2"
"""Members of the masked and of the causal row."""
SHOWN = 3
"""Changed texts of each attack that stand in the results."""


@dataclass(frozen=True)
class Pretraining:
    """One pretraining."""

    recipe: Recipe
    text: Path
    folder: Path
    words: Path | None
    """A tokenizer; None: one is trained."""

    def __call__(self) -> dict[str, Any]:
        """Return what was reached, from wherever the folder stands."""
        run = Run(device="cpu", workers=0, checkpoint_every=500, keep=1, evaluate_every=500, evaluate_batches=40,
                  tracker="none")  # fmt: skip
        found = pipeline.pretrain(self.recipe, [self.text], self.folder, run, words=self.words, resume=True)
        if found.stopped:
            raise GenusError("stopped; the same command goes on")
        return {"pretraining": asdict(found.progress)}


@dataclass(frozen=True)
class Tuning:
    """One fine-tuning, of which the best weights in validation count."""

    model: Path
    tables: Path
    folder: Path
    settings: FineTuning
    augmentation: Augmentation | None

    def __call__(self) -> dict[str, Any]:
        """Return the metrics in test."""
        shutil.rmtree(self.folder, ignore_errors=True)
        begun, source = time.perf_counter(), load(self.model)
        report = finetune(
            Start(replace(source.recipe, finetuning=self.settings), source.tokenizer, source.learner, self.model),
            Classification(), Files.find(self.tables), self.folder, seeds=(0,),
            run=Run(device="cpu", workers=0, tracker="none"), augmentation=self.augmentation,
        )  # fmt: skip
        return {"metrics": report.trials[0].metrics, "seconds": time.perf_counter() - begun}


@dataclass(frozen=True)
class Attacking:
    """One attack on one classifier."""

    attack: Attack
    target: str
    other: str | None
    """The classifier that it is transferred to; None: to none."""
    out: Path
    rows: int
    samples: int

    def __call__(self) -> dict[str, Any]:
        """Return the report, with a few of the changed texts."""
        folder = self.out / "attacks" / f"{self.target}, {type(self.attack).__name__}"
        masked, causal = (load(self.out / name / "model") for name in ("masked", "causal"))
        table = self.out / "tables" / "test.jsonl"
        rows = read(table, Classification())
        target = self._target(self.target)
        models = Models.of(target, [row.texts[0] for row in rows], encoder=masked, fluency=causal, masked=masked)
        moved = None if self.other is None else Transfer(self._target(self.other), self.samples)
        attacked = AttackedTable(models, self.attack, rows, table, moved)
        found = attacked.outcomes(folder, self.rows, Counter("attacking", ""))
        others = {"encoder": "masked", "fluency": "causal", "masked": "masked"}
        report = Report(
            model=self.target, table="AG News, test", attack=self.attack.written(), models=others, notes=[],
            outcomes=found, classes=target.classes, transfer=self.other,
        )  # fmt: skip
        told = report.to_json()
        write_json(folder / "attack.json", told)
        write_text(folder / "attack.html", page(report))
        write_text(folder / "attack.md", written(report))
        shown = [asdict(one) for one in report.fooled[:SHOWN]]
        return told | {"outcomes": shown, "right": sum(one.right for one in found)}

    def _target(self, name: str) -> Target:
        model = load(self.out / name / "model")
        return Target.of(model, Classification().resolved_for(objective_of(model)), name)
