"""The masked language model (Devlin et al. 2018, section 3.1, task 1).

Legend: M targets, H hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from genus.examples import Example
from genus.model.activation import Activation, Gelu
from genus.model.heads import TokenHead, token_head_demand
from genus.model.norm import LayerNorm, Norm
from genus.objectives import Head, Objective, Sums
from genus.objectives.masking import Masking, TokenMasking

if TYPE_CHECKING:
    import numpy as np

    from genus.batch import Batch
    from genus.model import Model, Network, States
    from genus.model.demand import Demand
    from genus.tokens.vocabulary import Vocabulary


class MaskedTokens(Objective):
    """-Σ log p(original token | corrupted sequence) over the chosen tokens."""

    over_tokens: ClassVar[bool] = True
    causal: ClassVar[bool | None] = False
    gives: ClassVar[frozenset[str]] = frozenset({"masked"})
    needs_tokens: ClassVar[frozenset[str]] = frozenset({"mask"})

    masking: Masking = TokenMasking()

    @property
    def in_words(self) -> str:
        """How much is masked, and what is masked together."""
        return f"{super().in_words} ({self.masking.rate:.0%}, {self.masking.in_words})"

    @property
    def counts_tokens(self) -> bool:
        """Whether its masking does."""
        return self.masking.counts_tokens

    def corrupt(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Replace the chosen tokens and put what they were into the target `masked`."""
        sequence = example.tokens
        chosen, ids = self.masking.corrupt(sequence, vocabulary, rng)
        streams = example.streams | {"tokens": replace(sequence, ids=ids)}
        return Example(streams, example.targets | {"masked": (chosen, sequence.ids[chosen])})

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return rate x tokens and one more a sequence, since each rounds its own share and has at least one."""
        return {"masked": min(tokens, math.ceil(self.masking.rate * tokens) + sequences)}


class Masked(MaskedTokens):
    """The masked language model whose output layer is the embedding, with a map and a norm before it."""

    activation: Activation = Gelu()
    norm: Norm = LayerNorm()

    def build(self, model: Model, vocab_size: int) -> Head:
        """Return the head."""
        return MaskedHead(self, model, vocab_size)

    def demand(self, model: Model, vocab_size: int, length: int) -> Demand:
        """Return the demand of the token head, on the chosen tokens only."""
        return token_head_demand(model.width, model.embedding_width, vocab_size, self.norm).on(self.masking.rate)


class MaskedHead(Head):
    """The masked language model at work: it computes logits at the targets only."""

    def __init__(self, choice: Masked, model: Model, vocab_size: int) -> None:
        super().__init__()
        self.tokens = TokenHead(model.width, model.embedding_width, vocab_size, choice.activation, choice.norm)
        model.initialize(self)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of masked tokens."""
        return {"masked": batch.targets["masked"].counted().sum()}

    def forward(self, network: Network, hidden: States, batch: Batch) -> Sums:
        """Return `masked`, the summed negative log-likelihood in nats, and `masked/correct`, how many are right."""
        targets = batch.targets["masked"]
        embedding = network.token_embedding.weight
        loss, correct = self.tokens.loss(hidden["tokens"][targets.index], embedding, targets.label)
        return {"masked": loss, "masked/correct": correct}
