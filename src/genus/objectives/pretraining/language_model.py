"""Language-model objectives, whose loss is the negative log-likelihood of tokens, and their common head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.model.head import Output  # a choice is read by its annotation
from genus.model.head.lm_head import LMHead
from genus.objectives import Head, Objective, Sums

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genus.batch import Batch
    from genus.model import Model, Network, States


class LanguageModel(Objective):
    """A language-model objective: cross-entropy -Σ log p(token) over the targets `target`, with the head `output`."""

    output: Output = LMHead()

    @property
    def token_losses(self) -> frozenset[str]:
        """All losses of the objective."""
        return frozenset(self.losses)

    def check(self, model: Model) -> None:
        """Check that the output layer fits the model, and the model the objective (ValueError)."""
        super().check(model)
        try:
            self.output.check(model.one_way or model)
        except ValueError as error:
            raise ValueError(f"objectives: {error}") from None

    def build(self, model: Model, vocab_size: int) -> Head:
        """Build the output layer as a head."""
        return LanguageModelHead(self, model, vocab_size)


class LanguageModelHead(Head):
    """Language-model head: the output layer over the vocabulary, applied to the hidden states of targets."""

    def __init__(self, choice: LanguageModel, model: Model, vocab_size: int, before: nn.Module | None = None) -> None:
        """Build the output layer; `before` is a module that computes its input states, if any."""
        super().__init__()
        self.target, (self.loss, *_) = choice.target, choice.losses
        self.before = before
        self.lm_head = choice.output.build(model, vocab_size)
        model.initialize(self)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of target tokens."""
        return {self.loss: batch.targets[self.target].count()}

    def predicting(self, states: States, batch: Batch) -> Tensor:
        """Return the hidden states (M, H) at the target positions, from which targets are predicted."""
        targets = batch.targets[self.target]
        return states[targets.stream][targets.index]

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return `logits` (M, V) over the vocabulary."""
        return {"logits": self.lm_head(self.predicting(states, batch))}

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the summed loss in nats, and `.../correct` and others if the output layer computes them."""
        found = self.lm_head.loss(self.predicting(states, batch), batch.targets[self.target])
        return {self.loss: found.pop("loss"), **{f"{self.loss}/{name}": value for name, value in found.items()}}
