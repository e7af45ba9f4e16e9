"""What one process does for `trainer.py`: a pretraining and its measurement, or the fine-tunings of one start."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import torch
from family_plan import SETTINGS as FAMILY
from small_models import measured

from genus import pipeline
from genus.errors import GenusError
from genus.examples.formats.sentences import FullSentences
from genus.export.folder import load
from genus.stages import Stage
from genus.tasks.classification import Classification
from genus.tasks.finetune import finetune
from genus.tasks.start import Start
from genus.tokens.tokenizer import Tokenizer
from genus.train.provenance import surroundings
from genus.train.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe
    from genus.tasks.dataset import Files

Trained = Literal["genus", "defaults", "ours", "nobody"]
"""By whom: by this library; by Trainer with its defaults, or with our settings; by nobody, with random weights."""
LENGTH = 64
"""Of a row in measurement and fine-tuning: all contenders are trained on rows as long or longer."""
NEVER = 1 << 40
"""Steps: what is published and measured is what stands at the end."""
RUN = Run(device="cpu", held_out=0.0, checkpoint_every=NEVER, evaluate_every=NEVER, tracker="none")
TASK = Classification(texts=("text",), label="label")
SETTINGS = replace(FAMILY.finetuning, epochs=4, max_length=LENGTH)
"""Of every contender's fine-tuning, as in the family's table; the pooler is the row's."""
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Pretraining:
    """A pretraining for so many seconds, from the start: the seconds of a run that was stopped are not counted on."""

    recipe: Recipe
    """Its budget is in seconds."""
    trained: Trained
    words: Path
    """Holds the tokenizer in `tokenizer` and the token store in `store`."""
    text: Path
    held_out: Path
    folder: Path

    def __call__(self) -> dict[str, Any]:
        """Return what was reached and what it took."""
        shutil.rmtree(self.folder, ignore_errors=True)
        spent = self._ours() if self.trained == "genus" else self._theirs()
        source = load(self.folder / "model")
        return {
            "recipe": self.recipe.hash(),
            "seed": self.recipe.seed,
            **spent,
            "parameters": sum(weight.numel() for weight in source.learner.parameters()),
            **measured(source, asked(self.recipe), self.held_out, self.words / "held-out", RUN),
            "surroundings": surroundings(torch.device("cpu")),
        }

    def _ours(self) -> dict[str, Any]:
        words = self.words / "tokenizer"
        summary = pipeline.pretrain(self.recipe, [self.words / "store"], self.folder, RUN, words=words)
        if summary.stopped:
            raise GenusError("stopped; the same command begins this pretraining anew")
        progress = summary.progress
        return {"tokens": progress.tokens, "steps": progress.step, "seconds": progress.seconds}

    def _theirs(self) -> dict[str, Any]:
        import trainer_peer

        tuned = self.trained == "ours"
        spent = trainer_peer.train(self.recipe, self.words / "tokenizer", self.text, self.folder, tuned=tuned)
        return spent | {name: version(name) for name in ("transformers", "accelerate")}


@dataclass(frozen=True)
class Tuning:
    """The fine-tunings of one contender."""

    recipe: Recipe
    words: Path
    model: Path | None
    """None: random weights."""
    files: Files
    folder: Path

    def __call__(self) -> dict[str, Any]:
        """Return the test accuracy of each seed, of the weights that were best in validation."""
        start = Start(self.recipe, Tokenizer.load(self.words / "tokenizer"))
        if self.model is not None:
            source = load(self.model)
            start = Start(source.recipe, source.tokenizer, source.learner)
        settings = replace(SETTINGS, pooler=start.recipe.finetuning.pooler)
        report = finetune(start, TASK, self.files, self.folder, settings=settings, seeds=SEEDS, run=RUN)
        return {
            "accuracy": {trial.seed: trial.metrics["test"]["accuracy"] for trial in report.trials},
            "seconds": {trial.seed: trial.seconds for trial in report.trials},
            "rows": {split: data.rows for split, data in report.data.items()},
            "settings": settings.to_json(),
            "surroundings": surroundings(torch.device("cpu")),
        }


def asked(recipe: Recipe) -> Recipe:
    """Return the recipe by which a row is measured: its first objective, on rows of one length for all.

    Masked models read whole sentences; causal ones read the text as they were trained on it.
    """
    stage = Stage(max_length=LENGTH, batch=16, micro_batch=16)
    examples = FullSentences() if "mask" in recipe.objectives[0].needs_tokens else recipe.examples
    return replace(recipe, examples=examples, objectives=recipe.objectives[:1], stages=(stage,))
