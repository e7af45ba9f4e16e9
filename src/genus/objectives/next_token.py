"""The language model proper: each token from those before it (Dai et al. 2019, section 3).

Legend: L sequence length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.examples import Example
from genus.model.output import Output, Tied
from genus.objectives import Head, Objective, Sums

if TYPE_CHECKING:
    from genus.batch import Batch
    from genus.model import Model, Network, States
    from genus.model.demand import Demand
    from genus.tokens.vocabulary import Vocabulary


class NextToken(Objective):
    """-Σ log p(x_t | x_1 ... x_{t-1}); for models in which a token sees none after it.

    The last token of a sequence has a target too where the format knows what follows it in the text.
    """

    over_tokens: ClassVar[bool] = True
    causal: ClassVar[bool | None] = True

    output: Output = Tied()

    def corrupt(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with what follows each token as the target `next_token`."""
        tokens = example.tokens
        following = tokens.ids[1:] if tokens.following is None else np.append(tokens.ids[1:], tokens.following)
        return Example(example.streams, example.targets | {"next_token": (np.arange(len(following)), following)})

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one a token."""
        return {"next_token": tokens}

    def build(self, model: Model, vocab_size: int) -> Head:
        """Return the head."""
        return NextTokenHead(self, model, vocab_size)

    def demand(self, model: Model, vocab_size: int, length: int) -> Demand:
        """Return the demand of the output layer at every token."""
        return self.output.demand(model, vocab_size)


class NextTokenHead(Head):
    """The language model at work."""

    def __init__(self, choice: NextToken, model: Model, vocab_size: int) -> None:
        super().__init__()
        self.tokens = choice.output.build(model, vocab_size)
        model.initialize(self)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of tokens to predict."""
        return {"next_token": batch.targets["next_token"].counted().sum()}

    def forward(self, network: Network, hidden: States, batch: Batch) -> Sums:
        """Return `next_token`, the summed negative log-likelihood in nats, and `.../correct` if the output tells it."""
        targets = batch.targets["next_token"]
        found = self.tokens.loss(hidden["tokens"][targets.index], network.token_embedding, targets.label)
        return {"next_token": found.pop("loss"), **{f"next_token/{name}": value for name, value in found.items()}}
