"""Bidirectional language model of two one-way models: the next token, and the one before (Peters et al. 2018, ELMo)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from genus.examples import Example
from genus.objectives import Head, Sums
from genus.objectives.pretraining.language_model import LanguageModel

if TYPE_CHECKING:
    from torch import Tensor

    from genus.batch import Batch
    from genus.model import Model, Network, States
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.objectives import Prediction
    from genus.tokens.vocabulary import Vocabulary


class BidirectionalLM(LanguageModel):
    """Bidirectional language model: -½ Σ log p(x_t | x_1 ... x_{t-1}) - ½ Σ log p(x_t | x_{t+1} ... x_n).

    It needs a model of two directions, whose states lie side by side: the first half predicts the next token, the
    second half the one before, both by one output layer. Each loss is a mean over its own targets.

    Source: Peters et al. 2018; released code, bilm/training.py, _build_loss.
    """

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of the losses of the next token, and of the one before."""
        return (self.name, f"{self.name}_backward")

    def weights(self) -> dict[str, float]:
        """Return one half for each direction."""
        return dict.fromkeys(self.losses, 0.5)

    def check(self, model: Model) -> None:
        """Check that the model has two directions (ValueError)."""
        if model.one_way is None:
            raise ValueError("objectives: BidirectionalLM predicts tokens from both ends, each by states that have not "
                             "seen them; take a model of two directions, such as that of elmo")  # fmt: skip
        super().check(model)

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with the next token, and the one before, as targets of each token."""
        tokens, (ahead, back) = example.tokens, self.losses
        following = tokens.ids[1:] if tokens.following is None else np.append(tokens.ids[1:], tokens.following)
        targets = {
            ahead: (np.arange(len(following)), following),
            back: (np.arange(1, len(tokens.ids)), tokens.ids[:-1]),
        }
        return Example(example.streams, example.targets | targets)

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one target per token and direction."""
        return dict.fromkeys(self.losses, tokens)

    def build(self, model: Model, vocab_size: int) -> Head:
        """Build the output layer as a head."""
        return BidirectionalLMHead(self, model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the output layer at every token, for both directions."""
        once = self.output.cost(model.one_way or model, vocab_size)
        return once + replace(once, parameters=0)


class BidirectionalLMHead(Head):
    """Head of a bidirectional language model: one output layer for the states of both directions."""

    predicts: Prediction | None = None

    def __init__(self, choice: BidirectionalLM, model: Model, vocab_size: int) -> None:
        super().__init__()
        self.target, self.names = choice.target, choice.losses
        self.lm_head = choice.output.build(model.one_way or model, vocab_size)
        model.initialize(self)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of target tokens of each direction."""
        return {name: batch.targets[name].count() for name in self.names}

    def predicting(self, number: int, states: States, batch: Batch) -> Tensor:
        """Return the hidden states (M, P) of a direction at its targets."""
        targets = batch.targets[self.names[number]]
        return states[targets.stream].chunk(2, -1)[number][targets.index]

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return `logits` (M, V) of the next token."""
        return {"logits": self.lm_head(self.predicting(0, states, batch))}

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the summed negative log-likelihood of each direction in nats, and further sums of the output layer."""
        sums: Sums = {}
        for number, name in enumerate(self.names):
            found = self.lm_head.loss(self.predicting(number, states, batch), batch.targets[name])
            sums |= {name: found.pop("loss"), **{f"{name}/{key}": value for key, value in found.items()}}
        return sums
