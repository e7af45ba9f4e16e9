"""What fine-tuning learns from labels that people gave: a linear map of the network's states, and what it says.

Legend: M targets, H hidden size, C classes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from genus.batch import IGNORE, Batch
from genus.objectives import Head, Objective, Sums
from genus.part import Fraction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Example
    from genus.model import Model, Network, States
    from genus.model.heads import Pooler
    from genus.tokens.vocabulary import Vocabulary

SHOWN = 20
"""Labels that an error names at most."""


class FineTuned(Objective):
    """What is learned from people's labels, by a linear map of states."""

    dropout: Fraction = 0.1
    """On what is mapped, in training (released code, run_classifier.py)."""

    def corrupt(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example as it is: its labels came with it."""
        return example

    def build(self, model: Model, vocab_size: int) -> Head:
        """Return the head."""
        return self.head(model)

    @property
    @abstractmethod
    def outputs(self) -> int:
        """How many numbers the head gives a target."""

    @abstractmethod
    def reads(self, model: Model, pooler: Pooler) -> Model:
        """Return the model as this is learned with it; one that needs a pooler, and has none, gets this one."""

    @abstractmethod
    def head(self, model: Model) -> FineTunedHead:
        """Return the head over the model's states."""

    @abstractmethod
    def target(self, label: str | None) -> int | float:
        """Return the number that stands for a label, and the one that is ignored for None.

        Raises:
            ValueError: the label is none that this objective knows; it says which there are.
        """

    @abstractmethod
    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the most probable class or the number (M,) for the head's outputs (M, C)."""

    @abstractmethod
    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float, dict[str, float]]:
        """Return the answer in the user's words for one target's outputs (C,), and the probability of each class."""


class OfClasses(FineTuned):
    """-Σ log softmax(W d(h) + b)[label], with d dropout."""

    labels: tuple[str, ...]
    """The classes' names, in the order of their numbers."""

    @property
    def outputs(self) -> int:
        """One a class."""
        return len(self.labels)

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


class FineTunedHead(Head):
    """A linear map of the states of labeled tokens."""

    def __init__(self, choice: FineTuned, model: Model, width: int) -> None:
        super().__init__()
        self.name = choice.name
        self.dropout = nn.Dropout(choice.dropout)
        self.classes = nn.Linear(width, choice.outputs)
        model.initialize(self)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of labels."""
        return {self.name: batch.targets[self.name].counted().sum()}

    def states(self, network: Network, states_MH: Tensor) -> Tensor:
        """Return what the map is applied to (M, H): the states themselves."""
        return states_MH

    def outputs(self, network: Network, hidden: States, batch: Batch) -> Tensor:
        """Return the raw outputs (M, C), or (M, 1) for a number, at every target, labeled or not."""
        states_MH = self.states(network, hidden["tokens"][batch.targets[self.name].index])
        return self.classes(self.dropout(states_MH))  # type: ignore[no-any-return]


class ClassesHead(FineTunedHead):
    """Classes at work."""

    def forward(self, network: Network, hidden: States, batch: Batch) -> Sums:
        """Return the summed negative log-likelihood in nats under the objective's name, and `.../correct`."""
        logits_MC, label = self.outputs(network, hidden, batch).float(), batch.targets[self.name].label
        loss = F.cross_entropy(logits_MC, label, ignore_index=IGNORE, reduction="sum")
        return {self.name: loss, f"{self.name}/correct": (logits_MC.detach().argmax(-1) == label).sum()}
