"""Objectives by a linear map of states: classes or numbers, of tokens or of whole sequences.

Legend: M targets, H hidden size, C outputs per target.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from genus.model.cost import ComponentCost, linear_cost
from genus.model.head.chunked_loss import classified
from genus.objectives import Head, Objective, Sums

if TYPE_CHECKING:
    import numpy as np

    from genus.batch import Batch, Targets
    from genus.examples import Example
    from genus.model import Model, Network, States
    from genus.model.cost import ExampleLengths
    from genus.tokens.vocabulary import Vocabulary


class LinearObjective(Objective):
    """What is learned by y = W d(h) + b, with h the state of a token or the pooled state of a sequence, d dropout.

    By default the loss is -Σ log softmax(y)[label].
    """

    pooled: ClassVar[bool]
    """Whether h is the pooled state of a sequence's summary token, else each token's own state."""
    answer: ClassVar[str] = "logits"
    """The name of y among the head's outputs."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """C."""

    @property
    def rate(self) -> float:
        """The rate of dropout."""
        return 0.0

    def sums(self, outputs_MC: Tensor, targets: Targets) -> Sums:
        """Return the loss, summed over targets, and the sums that come with it, for the head's outputs in float32."""
        (loss,) = self.losses
        total, correct = classified(outputs_MC, targets)
        return {loss: total, f"{loss}/correct": correct}

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example as it is: its labels came with it."""
        return example

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one a sequence or one a token."""
        return {self.target: sequences if self.pooled else tokens}

    def build(self, model: Model, vocab_size: int) -> LinearHead:
        """Return the head."""
        return LinearHead(self, model)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the demand of the map: at every token, or with the pooler once a sequence."""
        if not self.pooled:
            return linear_cost(model.width, self.outputs)
        return (linear_cost(model.pooled_width, self.outputs) + ComponentCost(flops=model.pool_flops())).scaled(
            1 / lengths["tokens"]
        )


class LinearHead(Head):
    """A linear map of the states of tokens, or of the pooled states of sequences."""

    def __init__(self, choice: LinearObjective, model: Model) -> None:
        super().__init__()
        self.choice, self.target, (self.loss,) = choice, choice.target, choice.losses
        self.per = "sequence" if choice.pooled else "token"
        self.dropout = nn.Dropout(choice.rate)
        self.classes = nn.Linear(model.pooled_width if choice.pooled else model.width, choice.outputs)
        model.initialize(self)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of labels."""
        return {self.loss: batch.targets[self.target].count()}

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return y (M, C), under the objective's name for it."""
        targets = batch.targets[self.target]
        states_MH = states[targets.stream][targets.index]
        states_MH = network.pool(states_MH) if self.choice.pooled else states_MH
        return {self.choice.answer: self.classes(self.dropout(states_MH))}

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the sums of the objective."""
        outputs_MC = self.outputs(network, states, batch)[self.choice.answer]
        return self.choice.sums(outputs_MC.float(), batch.targets[self.target])
