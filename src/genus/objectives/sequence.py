"""What fine-tuning learns about sequences, single or paired: a class, or a number (Devlin et al. 2018, section 4.1).

Legend: M targets, H hidden size, C classes.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.batch import IGNORE, Batch
from genus.model.demand import Demand, linear
from genus.objectives import Head, Objective, Sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Example
    from genus.model import Model, Network
    from genus.tokens.vocabulary import Vocabulary

SHOWN = 20
"""Labels that an error names at most."""


class OnSequence(Objective):
    """What is learned from the pooled state of a sequence's first token, with one target a sequence."""

    dropout: float = 0.1
    """On the pooled vector, in training (released code, run_classifier.py)."""

    def corrupt(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example as it is: its label came with it."""
        return example

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one a sequence."""
        return {self.name: sequences}

    def build(self, model: Model, vocab_size: int) -> Head:
        """Return the head."""
        return self.head(model)

    def demand(self, model: Model, vocab_size: int, length: int) -> Demand:
        """Return the demand of the linear map and of the pooler, once a sequence."""
        return (linear(model.pooled_width, self.outputs) + Demand(flops=model.pool_flops())).on(1 / length)

    @property
    @abstractmethod
    def outputs(self) -> int:
        """How many numbers the head gives a sequence."""

    @abstractmethod
    def head(self, model: Model) -> SequenceHead:
        """Return the head over the model's pooled vectors."""

    @abstractmethod
    def target(self, label: str | None) -> int | float:
        """Return the number that stands for a label, and the one that is ignored for None.

        Raises:
            ValueError: the label is none that this objective knows; it says which there are.
        """

    @abstractmethod
    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the most probable class or the number (N,) for the head's outputs (N, C)."""

    @abstractmethod
    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float, dict[str, float]]:
        """Return the answer in the user's words for one sequence's outputs (C,), and the probability of each class."""


class Classify(OnSequence):
    """-Σ log softmax(W d(pooled) + b)[label], with d dropout."""

    labels: tuple[str, ...]
    """The classes' names, in the order of their numbers."""

    @property
    def outputs(self) -> int:
        """One a class."""
        return len(self.labels)

    def head(self, model: Model) -> SequenceHead:
        """Return the head."""
        return ClassifyHead(self, model)

    def target(self, label: str | None) -> int | float:
        """Return the class's number."""
        if label is None:
            return IGNORE
        if label not in self.labels:
            known = ", ".join(self.labels[:SHOWN]) + (", ..." if len(self.labels) > SHOWN else "")
            raise ValueError(f"label {label!r} does not occur in training, which has {known}")
        return self.labels.index(label)

    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the most probable class."""
        return np.asarray(outputs.argmax(-1))

    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float, dict[str, float]]:
        """Return the most probable label, and the probability of each."""
        raised = np.exp(outputs - outputs.max())
        chances = (raised / raised.sum()).tolist()
        return self.labels[int(outputs.argmax())], dict(zip(self.labels, chances, strict=True))


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


class SequenceHead(Head):
    """A linear map of the pooled state of each sequence's first token."""

    def __init__(self, choice: OnSequence, model: Model) -> None:
        super().__init__()
        self.name = choice.name
        self.dropout = nn.Dropout(choice.dropout)
        self.classes = nn.Linear(model.pooled_width, choice.outputs)
        model.initialize(self)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of labeled sequences."""
        return {self.name: batch.targets[self.name].counted().sum()}

    def outputs(self, network: Network, hidden: dict[str, Tensor], batch: Batch) -> Tensor:
        """Return the raw outputs (M, C), or (M, 1) for a number, at every target, labeled or not."""
        first_MH = hidden["tokens"][batch.targets[self.name].index]
        return self.classes(self.dropout(network.pool(first_MH)))  # type: ignore[no-any-return]


class ClassifyHead(SequenceHead):
    """Classification at work."""

    def forward(self, network: Network, hidden: dict[str, Tensor], batch: Batch) -> Sums:
        """Return `classify`, the summed negative log-likelihood in nats, and `classify/correct`."""
        logits_MC, label = self.outputs(network, hidden, batch).float(), batch.targets[self.name].label
        loss = F.cross_entropy(logits_MC, label, ignore_index=IGNORE, reduction="sum")
        return {self.name: loss, f"{self.name}/correct": (logits_MC.detach().argmax(-1) == label).sum()}


class RegressHead(SequenceHead):
    """Regression at work."""

    def forward(self, network: Network, hidden: dict[str, Tensor], batch: Batch) -> Sums:
        """Return `regress`, the summed squared error."""
        targets = batch.targets[self.name]
        error = self.outputs(network, hidden, batch).float()[:, 0] - targets.label
        return {self.name: torch.where(targets.counted(), error, 0.0).square().sum()}
