"""What fine-tuning learns about sequences, single or paired: a class, or a number (Devlin et al. 2018, section 4.1).

Legend: M targets, H hidden size, C classes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from genus.model.demand import Demand, linear
from genus.objectives.fine_tuned import ClassesHead, FineTuned, FineTunedHead, OfClasses

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Batch
    from genus.model import Model, Network, States
    from genus.model.heads import Pooler
    from genus.objectives import Sums


class OnSequence(FineTuned):
    """What is learned from the pooled state of a sequence's first token, with one target a sequence."""

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one a sequence."""
        return {self.name: sequences}

    def reads(self, model: Model, pooler: Pooler) -> Model:
        """Return the model with a pooler, its own or this one."""
        return model.pooled(pooler)

    def demand(self, model: Model, vocab_size: int, length: int) -> Demand:
        """Return the demand of the linear map and of the pooler, once a sequence."""
        return (linear(model.pooled_width, self.outputs) + Demand(flops=model.pool_flops())).on(1 / length)


class Classify(OnSequence, OfClasses):
    """-Σ log softmax(W d(pooled) + b)[label], with d dropout."""

    def head(self, model: Model) -> SequenceHead:
        """Return the head."""
        return ClassifyHead(self, model)


class Regress(OnSequence):
    """Σ (w · d(pooled) + b - label)², with d dropout."""

    @property
    def outputs(self) -> int:
        """One number."""
        return 1

    def head(self, model: Model) -> SequenceHead:
        """Return the head."""
        return RegressHead(self, model)

    def target(self, label: str | None) -> int | float:
        """Return the number."""
        try:
            number = math.nan if label is None else float(label)
        except ValueError:
            number = math.inf
        if math.isinf(number) or (label is not None and math.isnan(number)):
            raise ValueError(f"label {label!r} is not a number")
        return number

    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the number."""
        return outputs[:, 0]

    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float, dict[str, float]]:
        """Return the number; there are no classes."""
        return float(outputs[0]), {}


class SequenceHead(FineTunedHead):
    """A linear map of the pooled state of each sequence's first token."""

    def __init__(self, choice: OnSequence, model: Model) -> None:
        super().__init__(choice, model, model.pooled_width)

    def states(self, network: Network, states_MH: Tensor) -> Tensor:
        """Return the pooled states (M, H)."""
        return network.pool(states_MH)


class ClassifyHead(SequenceHead, ClassesHead):
    """Classification at work."""


class RegressHead(SequenceHead):
    """Regression at work."""

    def forward(self, network: Network, hidden: States, batch: Batch) -> Sums:
        """Return `regress`, the summed squared error."""
        targets = batch.targets[self.name]
        error = self.outputs(network, hidden, batch).float()[:, 0] - targets.label
        return {self.name: torch.where(targets.counted(), error, 0.0).square().sum()}
