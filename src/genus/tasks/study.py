"""A fine-tuning experiment over several seeds: each seed is run once, and the best model of all is saved."""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

import torch

from genus.adapt import of_all, trained
from genus.errors import GenusError, UsageError, say
from genus.evaluate.metrics import LIKELIHOOD
from genus.export.adapted.folder import Base
from genus.export.adapted.folder import save as save_adapter
from genus.export.folder import save
from genus.files import expecting, write_json, write_text
from genus.inference.engine import Inference
from genus.recipe import Budget
from genus.tasks.answer import answers, lines, measure, measure_and_sign, outputs
from genus.tasks.feed import Shuffled
from genus.tasks.report import Metrics, SeedResult
from genus.train.data import TrainStage
from genus.train.loop import train

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.evaluate.metrics import Metric
    from genus.objectives import Head, Learner
    from genus.objectives.supervised import FineTuned
    from genus.recipe import Recipe
    from genus.tasks import Task
    from genus.tasks.answer import Outputs
    from genus.tasks.augment import Augmentation
    from genus.tasks.encode import EncodedTexts
    from genus.tasks.splits import Split
    from genus.tasks.start import Start
    from genus.tasks.teacher import Teacher
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

EVALUATIONS = 20
"""Maximum of evaluations per seed; a short training is evaluated every half epoch."""


@dataclass(frozen=True)
class Experiment:
    """Fine-tuning runs of one task with different seeds, one after the other, and what they share."""

    start: Start
    task: Task
    recipe: Recipe
    """The recipe of fine-tuning, with the settings; its first objective is the task's."""
    tokenizer: Tokenizer
    splits: dict[str, Split]
    folder: Path
    run: Run
    accumulate: int
    publish: bool = True
    """Whether the best seed's model is written."""
    augmentation: Augmentation | None = None
    """What made the training rows, or the objective, what they are."""
    teacher: Teacher | None = None

    @property
    def objective(self) -> FineTuned:
        """The task's objective."""
        return cast("FineTuned", self.recipe.objectives[0])

    @property
    def rows(self) -> int:
        """The number of training rows."""
        return len(self.splits["train"].rows)

    @cached_property
    def encoded(self) -> dict[str, EncodedTexts]:
        """The tokenized splits, by name.

        Raises:
            GenusError: no training example has a token.
        """
        length, splits = self.recipe.finetuning.max_length, self.splits.items()
        found = {name: split.encode(self.task, self.tokenizer, self.objective, length) for name, split in splits}
        for name, encoded in found.items():
            if warnings := encoded.warnings:
                say(f"{name}: {'; '.join(warnings)}")
        if found["train"].is_empty:
            raise GenusError(f"{self.splits['train'].path}: {found['train'].nothing_left}")
        return found

    @cached_property
    def taught(self) -> NDArray[np.float32] | None:
        """The teacher's outputs for the targets of training; None without a teacher."""
        if self.teacher is None:
            return None
        rows = self.splits["train"].rows
        return self.teacher.answers(self.task, self.objective, rows, self.encoded["train"], self.run)

    def trials(self, seeds: Sequence[int]) -> list[SeedResult]:
        """Run the seeds that have no result in the folder; return the results of all seeds there, sorted by seed."""
        done = self._finished()
        for seed in seeds:
            if seed not in done:
                done[seed] = self._try(seed, list(done.values()))
        return [done[seed] for seed in sorted(done)]

    def _try(self, seed: int, others: list[SeedResult]) -> SeedResult:
        """Fine-tune with one seed; write its predictions, its model if it is the best so far, and last its result."""
        main = self.task.metrics[0]
        learner, best = self.start.build(self.recipe, seed), self._checkpoint(main)
        if self.teacher is not None:
            self.teacher.begin(learner)
        if not others and (line := of_all(learner)):
            say(line)
        seconds = self._train(learner, best, seed)
        if best.history[0][main.name] is None:
            say(f"seed {seed}: {main.name} is undefined for the labels of the validation rows, and cannot choose: the "
                "last weights are kept; take other rows, or another --metric")  # fmt: skip
        learner.load_state_dict(best.weights, strict=False)
        objective, metrics, defined = self._answer(learner, self.folder / f"seed-{seed}")
        told = objective.tuned_thresholds, objective.told_over
        trial = SeedResult(seed, metrics, best.history, seconds, defined, *told)
        if self.publish and all((trial.rank(main), -seed) > (other.rank(main), -other.seed) for other in others):
            published = objective.folded(cast("Head", learner.heads[objective.name]))
            recipe = replace(self.recipe, seed=seed, objectives=(published,))
            for other in learner.heads.keys() - {self.objective.name}:
                del learner.heads[other]
            self._save(recipe, learner, self._notes(trial))
        found = asdict(trial)
        write_json(self._result(seed), {"choices": self.fingerprint, "trial": found, "sha256": _digest(found)})
        return trial

    def _save(self, recipe: Recipe, learner: Learner, notes: str) -> None:
        """Save the model, or where few parameters were trained, these alone."""
        folder, generation, task = self.folder / "model", self.task.generation, self.task.written()
        if recipe.finetuning.adaptation is None:
            save(folder, recipe, learner, self.tokenizer, notes, generation=generation, task=task)
        else:
            base = Base(self.start.path, self.start.fingerprint())
            save_adapter(folder, recipe, learner, base, notes, generation=generation, task=task)

    def _checkpoint(self, main: Metric) -> BestCheckpoint:
        """Return what evaluates a learner and keeps its weights, as the settings say."""
        settings = self.recipe.finetuning
        return BestCheckpoint(self._validate, main, last=settings.keep == "last", patience=settings.patience)

    def _train(self, learner: Learner, best: BestCheckpoint, seed: int) -> float:
        """Train the learner and return the training time in seconds."""
        settings, data, beside = self.recipe.finetuning, self.encoded["train"], self.recipe.objectives[1:]
        size = max(1, min(settings.batch, len(data)) // self.accumulate)  # few examples: no update exceeds an epoch
        updates = len(data) / (size * self.accumulate)
        every = max(1, round(max(updates / 2, updates * settings.epochs / EVALUATIONS)))
        summary = train(
            learner,
            [TrainStage(Shuffled(data, size, seed, beside, self.taught, self.run.compile), self.accumulate)],
            settings.optimizer,
            settings.schedule,
            Budget(amount=settings.epochs, unit="epochs"),
            replace(self.run, evaluate_every=every),
            None,
            seed=seed,
            title=f"fine-tuning, seed {seed}",
            evaluate=best,
            enough=best.enough,
        )
        if summary.stopped:
            raise GenusError(f"stopped at seed {seed}; the same command goes on, and keeps the seeds that are finished")
        return summary.progress.seconds

    def _notes(self, trial: SeedResult) -> str:
        """Return the model card's sentences on the fine-tuning."""
        measured = trial.metrics["validation"].items()
        found = ", ".join(
            f"{name} {'undefined' if value is None else format(value, '.4f')}" for name, value in measured
        )
        defined = "".join(f" {name}: `{one}`." for name, one in trial.signatures.items())
        over = f"; {trial.told_over}" if trial.told_over else ""
        purpose = f"{self.task.purpose}{self._taught_by}"
        return f"Fine-tuned to {purpose}, seed {trial.seed}. In validation: {found}{over}.{defined}"

    @property
    def _taught_by(self) -> str:
        """The teacher's part in a sentence; empty without one."""
        if self.teacher is None:
            return ""
        return f", also from the answers of `{self.teacher.model.recipe.name}` (`{self.teacher.fingerprint[:16]}`)"

    def _answer(self, learner: Learner, folder: Path) -> tuple[FineTuned, dict[str, Metrics], dict[str, str]]:
        """Write the predictions on every split but `train`.

        Returns:
            The objective with decisions tuned in validation; metrics of splits with labels; signatures by metric.
        """
        found = {name: self._outputs(learner, name) for name in self.splits if name != "train"}
        objective = self.task.tuned(self.objective, self.encoded["validation"], found["validation"])
        metrics: dict[str, Metrics] = {}
        defined: dict[str, dict[str, str]] = {}
        for name, made in found.items():
            rows, encoded = self.splits[name].rows, self.encoded[name]
            write_text(folder / f"{name}.jsonl", lines(rows, answers(objective, encoded, made)))
            if any(row.label is not None for row in rows):
                metrics[name], defined[name] = measure_and_sign(self.task.metrics, objective, encoded, made)
        return objective, metrics, _by_metric(defined)

    def _validate(self, learner: Learner) -> Metrics:
        """Return the metrics in validation: where the first is one of likelihood, no text is written for others."""
        chosen, encoded = self.task.chosen_by, self.encoded["validation"]
        found = self._outputs(learner, "validation", texts=any(metric.judges != LIKELIHOOD for metric in chosen))
        return measure(chosen, self.task.tuned(self.objective, encoded, found), encoded, found)

    def _outputs(self, learner: Learner, split: str, *, texts: bool = True) -> Outputs:
        """Return the outputs for a split, computed uncompiled: its batches have a shape each."""
        with torch.compiler.set_stance("force_eager") if self.run.compile else nullcontext():
            return outputs(learner, self.recipe.model, self.encoded[split], Inference(self.run.precision), texts=texts)

    def _result(self, seed: int) -> Path:
        return self.folder / f"seed-{seed}" / "result.json"

    def _finished(self) -> dict[int, SeedResult]:
        """Return the results in the folder, by seed.

        Raises:
            GenusError: a result is damaged.
            UsageError: a result comes from other choices, rows or weights.
        """
        found = {}
        seeds = [path for path in self.folder.iterdir() if path.name.startswith("seed-")]
        for path in (seed / "result.json" for seed in sorted(seeds)):
            if not path.exists():  # a seed that was stopped; one that may not be read is an error
                continue
            with expecting(path, f"remove {path.parent}, and its seed is trained again"):
                result = json.loads(path.read_text(encoding="utf-8"))
                if result["choices"] != self.fingerprint:
                    raise UsageError(
                        f"{self.folder}: holds results of other choices or data; name another or remove it"
                    )
                if result.get("sha256") not in (None, _digest(result["trial"])):  # None: of an older version
                    raise ValueError("its numbers are not as they were written")
                trial = SeedResult(**result["trial"])
                trial.rank(self.task.metrics[0])
                found[trial.seed] = trial
        return found

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that a result depends on, except the seed."""
        rows = {name: split.content for name, split in self.splits.items()}
        parts = [replace(self.recipe, seed=0).to_json(), self.task.to_json()]
        choices = [*parts, self.accumulate, self.start.fingerprint(), rows]
        choices += [] if self.augmentation is None else [self.augmentation.to_json()]
        return _digest(choices)


def _by_metric(defined: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return the signatures by metric, given those of each split; where splits differ, each with its split."""
    found = {}
    for name in dict.fromkeys(name for several in defined.values() for name in several):
        told = {split: several.get(name, "") for split, several in defined.items()}
        alike = len({*told.values()}) == 1
        found[name] = told.popitem()[1] if alike else "; ".join(f"{split}: {one}" for split, one in told.items() if one)
    return found


def _digest(value: object) -> str:
    """Return the SHA-256 of a value's JSON, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


class BestCheckpoint:
    """The best checkpoint: evaluates a learner and keeps a copy of the trained weights with the best main metric.

    Of equal ones it keeps the later, which have learned more; where the metric is undefined, so the last.
    """

    def __init__(
        self,
        measure: Callable[[Learner], Metrics],
        main: Metric,
        *,
        last: bool = False,
        patience: int | None = None,
    ) -> None:
        """Begin without an evaluation.

        Args:
            measure: evaluates a learner.
            main: the metric by which weights are compared.
            last: whether the weights of every evaluation are kept, however good.
            patience: number of evaluations in a row without a better one that are enough; None: none are.
        """
        self.measure, self.main, self.best = measure, main, -math.inf
        self.last, self.patience, self.waited = last, patience, 0
        self.history: list[Metrics] = []
        self.weights: dict[str, Tensor] = {}

    def __call__(self, learner: Learner) -> dict[str, float]:
        """Evaluate the learner, copy its weights to the CPU if they are the best so far; return the defined metrics."""
        found = self.measure(learner)
        value = found[self.main.name]
        rank = self.main.rank(value)
        self.waited = 0 if value is None or rank > self.best else self.waited + 1
        if self.last or value is None or rank >= self.best:
            self.best = max(self.best, rank)
            self.weights = {name: tensor.detach().cpu().clone() for name, tensor in trained(learner).items()}
        self.history.append(found)
        return {name: value for name, value in found.items() if value is not None}

    def enough(self) -> bool:
        """Return whether as many evaluations in a row as the patience were no better than those before."""
        return self.patience is not None and self.waited >= self.patience
