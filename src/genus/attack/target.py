"""The classifier that is attacked: its answers to texts, which are tokenized anew whenever it is asked.

Legend: N texts or pairs, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import UsageError
from genus.inference.engine import Inference
from genus.tasks.answer import outputs
from genus.tasks.dataset import LabeledRow
from genus.tasks.predict import check_texts, objective_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from genus.export.folder import LoadedModel
    from genus.objectives.supervised import FineTuned
    from genus.tasks import Task
    from genus.tasks.encode import EncodedTexts


@dataclass(frozen=True)
class Target:
    """A sequence classifier, asked about texts."""

    model: LoadedModel
    task: Task
    objective: FineTuned
    precision: str = "float32"
    """Dtype of the forward passes by which it answers; gradients are in float32."""

    @classmethod
    def of(cls, model: LoadedModel, task: Task, name: str, precision: str = "float32") -> Target:
        """Return the classifier of a model folder.

        Args:
            model: the folder.
            task: its task.
            name: of the folder, in errors.
            precision: see `precision`.

        Raises:
            GenusError: the model was not fine-tuned.
            UsageError: it was fine-tuned for something else than to tell one class of a text or a pair.
        """
        objective = task.chosen(objective_of(model, task))
        if not (objective.pooled and objective.classes) or objective.multi_label:
            kind = type(objective).__name__
            raise UsageError(f"{name}: was fine-tuned for {kind}; attacks are on classifiers of texts or pairs, as of "
                             "`genus finetune --task classification`")  # fmt: skip
        return cls(model, task, objective, precision)

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels."""
        return self.objective.classes

    def check_texts(self, rows: Sequence[LabeledRow]) -> None:
        """Refuse single texts for a classifier of pairs, and pairs for one of single texts.

        Raises:
            UsageError: they are such.
        """
        check_texts(self.objective, rows)

    def encoded(self, texts: Sequence[tuple[str, ...]]) -> EncodedTexts:
        """Return texts or pairs in tokens, cut to what the model reads, without labels."""
        rows = [LabeledRow(number, each, None) for number, each in enumerate(texts, 1)]
        return self.task.encode(self.model.tokenizer, rows, self.objective, self.model.recipe.finetuning.max_length)

    def logits(self, texts: Sequence[tuple[str, ...]]) -> NDArray[np.float32]:
        """Return the logits (N, C) for texts or pairs, tokenized from their characters."""
        if not texts:
            return np.zeros((0, len(self.classes)), np.float32)
        engine = Inference(self.precision)
        return outputs(self.model.learner, self.model.recipe.model, self.encoded(texts), engine).values

    def told(self, texts: Sequence[tuple[str, ...]]) -> NDArray[np.int64]:
        """Return the index (N,) of the class that is told of each text or pair."""
        told: NDArray[np.int64] = self.logits(texts).argmax(-1)
        return told
