"""What is learned from labels that need no people: the example format makes them, or the corruption.

Legend: M targets, H hidden size, C classes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from genus.batch import IGNORE, Batch
from genus.examples import Examples  # noqa: TC001  # a choice is read by its annotation
from genus.model.demand import Demand, linear
from genus.objectives import Head, Objective, Sums

if TYPE_CHECKING:
    import numpy as np

    from genus.examples import Example
    from genus.model import Model, Network, States
    from genus.tokens.vocabulary import Vocabulary


class Labeled(Objective):
    """-Σ log softmax(W h + b)[label], over the targets of the objective's own name."""

    @property
    @abstractmethod
    def classes(self) -> int:
        """How many classes there are."""

    def corrupt(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example as it is: its labels came with it."""
        return example


class FromFormat(Labeled):
    """Labels that an example format of the objective's own makes."""

    examples: Examples

    @property
    def brings(self) -> Examples:
        """The format whose labels these are."""
        return self.examples


class OfSequences(Labeled):
    """Labels of whole sequences: h is the pooled state of the first token."""

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one a sequence."""
        return {self.name: sequences}

    def build(self, model: Model, vocab_size: int) -> Head:
        """Return the head."""
        return SequencesHead(self.name, model, self.classes)

    def demand(self, model: Model, vocab_size: int, length: int) -> Demand:
        """Return the demand of the classes and of the pooler, once a sequence."""
        return (linear(model.width, self.classes) + Demand(flops=model.pool_flops())).on(1 / length)


class OfTokens(Labeled):
    """Labels of tokens: h is the token's state."""

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one a token."""
        return {self.name: tokens}

    def build(self, model: Model, vocab_size: int) -> Head:
        """Return the head."""
        return LabeledHead(self.name, model, self.classes)

    def demand(self, model: Model, vocab_size: int, length: int) -> Demand:
        """Return the demand of the classes, at every token."""
        return linear(model.width, self.classes)


class LabeledHead(Head):
    """A linear map of the states of labeled tokens."""

    def __init__(self, name: str, model: Model, classes: int) -> None:
        super().__init__()
        self.name = name
        self.classes = nn.Linear(model.width, classes)
        model.initialize(self)

    def states(self, network: Network, states_MH: Tensor) -> Tensor:
        """Return what the map is applied to (M, H): the states themselves."""
        return states_MH

    def counts(self, batch: Batch) -> Sums:
        """Return the number of labels."""
        return {self.name: batch.targets[self.name].counted().sum()}

    def forward(self, network: Network, hidden: States, batch: Batch) -> Sums:
        """Return the summed negative log-likelihood in nats under the objective's name, and `.../correct`."""
        targets = batch.targets[self.name]
        logits_MC = self.classes(self.states(network, hidden["tokens"][targets.index]))
        loss = F.cross_entropy(logits_MC.float(), targets.label, ignore_index=IGNORE, reduction="sum")
        return {self.name: loss, f"{self.name}/correct": (logits_MC.detach().argmax(-1) == targets.label).sum()}


class SequencesHead(LabeledHead):
    """A linear map of the pooled states of sequences' first tokens."""

    def states(self, network: Network, states_MH: Tensor) -> Tensor:
        """Return the pooled states (M, H)."""
        return network.pool(states_MH)
