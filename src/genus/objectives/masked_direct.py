"""The masked language model with nothing between the states and the output layer.

Legend: M targets, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from genus.model.untied import Untied
from genus.objectives import Head, Sums
from genus.objectives.masked import MaskedHead, MaskedTokens

if TYPE_CHECKING:
    from genus.batch import Batch
    from genus.model import Model, Network, States
    from genus.model.demand import Demand
    from genus.model.output import OutputLayer


class MaskedDirect(MaskedTokens):
    """The masked language model with an output matrix of its own, right over the states (Hugging Face's Reformer)."""

    output: Untied = Untied()

    @property
    def in_words(self) -> str:
        """How much is masked, and what is masked together."""
        return f"masked ({self.masking.rate:.0%}, {self.masking.in_words})"

    @property
    def name(self) -> str:
        """What it learns is what `Masked` learns."""
        return "masked"

    def build(self, model: Model, vocab_size: int) -> Head:
        """Return the head."""
        return MaskedDirectHead(self, model, vocab_size)

    def demand(self, model: Model, vocab_size: int, length: int) -> Demand:
        """Return the demand of the output layer, on the chosen tokens only."""
        return self.output.demand(model, vocab_size).on(self.masking.rate)


class MaskedDirectHead(MaskedHead):
    """The masked language model at work, with the output layer alone."""

    def __init__(self, choice: MaskedDirect, model: Model, vocab_size: int) -> None:
        Head.__init__(self)
        self.tokens = choice.output.build(model, vocab_size)  # type: ignore[assignment]  # it answers as one does
        model.initialize(self)

    def forward(self, network: Network, hidden: States, batch: Batch) -> Sums:
        """Return `masked`, the summed negative log-likelihood in nats, and `masked/correct`, how many are right."""
        targets = batch.targets["masked"]
        output = cast("OutputLayer", self.tokens)
        found = output.loss(hidden["tokens"][targets.index], network.token_embedding, targets.label)
        return {"masked": found["loss"], "masked/correct": found["correct"]}
