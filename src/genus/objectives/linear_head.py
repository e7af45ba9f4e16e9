"""Classification and regression heads: a linear layer on hidden states of tokens or pooled states of sequences."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch
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
    """An objective with a linear head: y = W d(h) + b, with d dropout and h a token's or a pooled hidden state.

    By default the loss is cross-entropy, -Σ log softmax(y)[label].
    """

    pooled: ClassVar[bool]
    """Whether h is the pooled state of a sequence's summary token; otherwise h is the hidden state of each token."""
    answer: ClassVar[str] = "logits"
    """Name of y in the head's outputs."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """V, the number of outputs per target."""

    @property
    def rate(self) -> float:
        """Dropout rate of d."""
        return 0.0

    @property
    def biased(self) -> bool:
        """Whether there is a bias b."""
        return True

    def sums(self, outputs_MV: Tensor, targets: Targets) -> Sums:
        """Return the loss and its metrics, summed over targets, of the head's outputs (M, V) in float32."""
        (loss,) = self.losses
        total, correct = classified(outputs_MV, targets)
        return {loss: total, f"{loss}/correct": correct}

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example unchanged: the example format or data set provides its labels."""
        return example

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one target per sequence if pooled, else one per token."""
        return {self.target: sequences if self.pooled else tokens}

    def build(self, model: Model, vocab_size: int) -> Head:
        """Build the linear head."""
        return LinearHead(self, model)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the linear layer per token, or of the layer and the pooler per sequence if pooled."""
        if not self.pooled:
            return linear_cost(model.width, self.outputs, self.biased)
        layer = linear_cost(model.pooled_width, self.outputs, self.biased)
        return (layer + ComponentCost(flops=model.pool_flops())).scaled(1 / lengths["tokens"])


class LinearHead(Head):
    """Linear layer on the hidden states of tokens, or on the pooled states of sequences."""

    def __init__(self, choice: LinearObjective, model: Model) -> None:
        super().__init__()
        self.choice, self.target, (self.loss,) = choice, choice.target, choice.losses
        self.per = "sequence" if choice.pooled else "token"
        self.dropout = nn.Dropout(choice.rate)
        width = model.pooled_width if choice.pooled else model.width
        self.classes = nn.Linear(width, choice.outputs, bias=choice.biased)
        model.initialize(self)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of labeled targets."""
        return {self.loss: batch.targets[self.target].count()}

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return y (M, V) under the name `choice.answer`.

        Where a target has several summary tokens (M, K), as a pair that is read in both orders, h is the sum of their
        pooled states (Radford et al. 2018, section 3.3, similarity).
        """
        states_MH = self.read(network, states, batch.targets[self.target])
        return {self.choice.answer: self.classes(self.dropout(states_MH if states_MH.dim() == 2 else states_MH.sum(1)))}

    def read(self, network: Network, states: States, targets: Targets) -> Tensor:
        """Return h (M, H), or (M, K, H) where a target has K summary tokens; pooled if the objective is."""
        states_MH = states[targets.stream][targets.index.clamp(min=0)]
        return network.pool(states_MH) if self.choice.pooled else states_MH

    @torch.no_grad()
    def rescale(self, scale: float, shift: float) -> None:
        """Change weights and bias in place, so that every output y becomes scale y + shift; without bias, scale y."""
        for parameter in self.classes.parameters():
            parameter.mul_(scale)
        if self.choice.biased:
            self.classes.bias.add_(shift)

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the loss and its metrics, summed over targets."""
        outputs_MV = self.outputs(network, states, batch)[self.choice.answer]
        return self.choice.sums(outputs_MV.float(), batch.targets[self.target])
