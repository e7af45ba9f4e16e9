"""Multiple choice: one score per choice of a question, and a softmax over the choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np

from genus.batch import IGNORE
from genus.objectives.linear_head import LinearHead
from genus.objectives.supervised import LinearFineTuned

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Batch
    from genus.model import Model, Network, States
    from genus.objectives import Head


class MultipleChoice(LinearFineTuned):
    """Multiple choice: -Σ log softmax_k(w · d(pooled_k) + b)[right choice], with d dropout and a sequence per choice k.

    Source: Radford et al. 2018 (GPT), section 3.3, question answering and commonsense reasoning; for encoders Devlin et
    al. 2018, section 4.4.
    """

    pooled: ClassVar[bool] = True
    of_one_sequence: ClassVar[bool] = False

    @property
    def outputs(self) -> int:
        """One score per sequence."""
        return 1

    def build(self, model: Model, vocab_size: int) -> LinearHead:
        """Build the head, whose linear layer scores a choice."""
        return ChoiceHead(self, model)

    def tempered(self, head: Head, temperature: float) -> Self:
        """Return the objective, with weights and bias that are divided by the temperature."""
        cast("LinearHead", head).rescale(1 / temperature, 0.0)
        return self

    def label_of(self, label: str | None) -> int | float:
        """Return the number of a choice, from 0; `IGNORE` for None."""
        return IGNORE if label is None else int(label)

    def can_be(self, label: str) -> bool:
        """Return whether the label is the number of a choice."""
        return label.isdecimal()

    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the number (M,) of the choice with the largest score."""
        return np.asarray(outputs.argmax(-1))

    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float | list[str], dict[str, float]]:
        """Return the number of the choice with the largest score, and the softmax probability of each choice."""
        raised = np.exp(outputs[np.isfinite(outputs)] - outputs.max())
        chances = (raised / raised.sum()).tolist()
        return str(int(outputs.argmax())), {str(number): chance for number, chance in enumerate(chances)}


class ChoiceHead(LinearHead):
    """Linear layer on the pooled state of each choice."""

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return the scores (M, V) of the choices, -inf where a question has fewer; (M, 1) for single sequences."""
        targets = batch.targets[self.target]
        scores_MV = self.classes(self.dropout(self.read(network, states, targets))).flatten(1)
        index_MV = targets.index.view(scores_MV.shape)
        return {self.choice.answer: scores_MV.masked_fill(index_MV < 0, float("-inf"))}
