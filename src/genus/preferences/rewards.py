"""Rewards of texts: by a reward model, by a classifier's log-odds of a class, or by a regression."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import GenusError, UsageError, say
from genus.export.weights import fingerprint
from genus.inference.engine import Inference
from genus.tasks.answer import outputs
from genus.tasks.dataset import LabeledRow
from genus.tasks.predict import objective_of
from genus.tasks.remembered import usual_task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from genus.export.folder import LoadedModel


class Reward:
    """A trained model that gives a text a number. It reads text, by its own tokenizer, so that a policy may have any.

    A text is a prompt with a response, as one. Of one that is longer than the model reads, a reward model drops the
    beginning, a classifier or a regression the end; that is said once.
    """

    def __init__(self, folder: Path, model: LoadedModel, label: str | None = None, precision: str = "float32") -> None:
        """Take a fine-tuned model.

        Args:
            folder: where it lies, for messages.
            model: the model.
            label: of a classifier the class that is wanted.
            precision: dtype of the forward pass, as in `Run.precision`.

        Raises:
            UsageError: it gives no number for a text, or has no such class.
        """
        self.folder, self.model, self.label = folder, model, label
        self.engine, self.told = Inference(precision), False
        try:
            self.objective = objective_of(model)
        except GenusError:
            raise UsageError(f"--reward {folder}: was not fine-tuned, so that it has nothing to say of texts; run "
                             "`genus finetune` with --task preference or classification on it") from None  # fmt: skip
        self.task = usual_task(model, self.objective)
        if len(self.task.texts) > 1:
            raise UsageError(
                f"--reward {folder}: was fine-tuned on pairs of texts, and a response is one; take another"
            )
        columns = max(1, len(self.objective.classes))
        self.objective.rewards(np.zeros((1, columns), np.float32), label)  # refuses what gives no number

    @property
    def name(self) -> str:
        """Name of the model's recipe."""
        return self.model.recipe.name

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what rewards depend on."""
        recipe = self.model.recipe
        parts = [recipe.model.hash(), self.objective.hash(), self.model.tokenizer.hash(), self.label]
        parts += [str(recipe.finetuning.max_length), fingerprint(self.model.learner.state_dict())]
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def to(self, device: torch.device) -> Reward:
        """Move the model to a device, and return self."""
        self.model.learner.to(device).requires_grad_(False)
        return self

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the rewards (N,) of texts.

        Raises:
            GenusError: a reward is not a finite number.
        """
        if not texts:
            return np.zeros(0)
        rows = [LabeledRow(number, self.task.of_text(text), None) for number, text in enumerate(texts, 1)]
        length = self.model.recipe.finetuning.max_length
        encoded = self.task.encode(self.model.tokenizer, rows, self.objective, length)
        if len(encoded.cut) and not self.told:
            self.told = True
            say(f"--reward {self.folder}: {'; '.join(encoded.warnings)}")
        found = outputs(self.model.learner, self.model.recipe.model, encoded, self.engine)
        rewards = self.objective.rewards(found.values, self.label)
        if not np.isfinite(rewards).all():
            worst = int(np.flatnonzero(~np.isfinite(rewards))[0])
            raise GenusError(f"--reward {self.folder}: gives {rewards[worst]} for {texts[worst]!r:.80}, which is no "
                             "finite number; fine-tune it anew with a lower rate")  # fmt: skip
        return rewards
