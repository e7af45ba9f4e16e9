"""A small masked language model whose guesses take the masks' places (Clark et al. 2020, ELECTRA, section 2).

Legend: T tokens, M targets, H hidden size of the generator, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import torch

from genus.batch import IGNORE, Targets
from genus.examples import Example
from genus.model.generator import Generator, fitted
from genus.model.heads import likelihood, token_head_demand
from genus.objectives import Companion, Head, Learner, Objective, Sums
from genus.objectives.masked import Masked, MaskedHead

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from genus.batch import Batch
    from genus.model import Model, Network, States
    from genus.model.demand import Demand
    from genus.model.encoder import EncoderNetwork
    from genus.tokens.vocabulary import Vocabulary

FOLDER = "generator"
"""Where in a model's folder the generator lies."""


class Generated(Objective):
    """-Σ log p(original token | masked sequence) of a generator, over the chosen tokens; what follows sees its samples.

    The generator shares the model's embeddings. In every chosen place a token is drawn from its softmax, through which
    no gradient flows; where the token drawn is the original, nothing was replaced.

    Source: Clark et al. 2020, section 2, and section 3.2 on what is shared; released code, run_pretraining.py.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"masked", "original"})
    needs_tokens: ClassVar[frozenset[str]] = frozenset({"mask"})

    generator: Generator = Generator()
    masked: Masked = Masked()
    """What the generator learns, and from which masks."""

    @property
    def in_words(self) -> str:
        """By what, and what it learns."""
        return f"{self.masked.in_words} by {self.generator.in_words}"

    @property
    def token_losses(self) -> frozenset[str]:
        """That of the generator."""
        return frozenset({"masked"})

    @property
    def counts_tokens(self) -> bool:
        """Whether the generator's masking does."""
        return self.masked.counts_tokens

    def corrupt(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Mask the chosen tokens, and put what each token was, masked or not, into the target `original`."""
        ids = example.tokens.ids
        masked = self.masked.corrupt(example, vocabulary, rng)
        return Example(masked.streams, masked.targets | {"original": (np.arange(len(ids)), ids)})

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return those of the generator, and one a token."""
        return self.masked.max_targets(tokens, sequences) | {"original": tokens}

    def build(self, model: Model, vocab_size: int) -> Head:
        """Return the generator.

        Raises:
            UsageError: the model's embeddings cannot be shared.
        """
        return GeneratedHead(self, model, vocab_size)

    def demand(self, model: Model, vocab_size: int, length: int) -> Demand:
        """Return the demand of the generator at all tokens, and of its token head at the chosen ones."""
        width, size = self.generator.encoder(model).width, model.embedding_width
        head = token_head_demand(width, size, vocab_size, self.masked.norm).on(self.masked.masking.rate)
        return self.generator.demand(model, length) + head

    def fitted(self, model: Model, companions: Mapping[str, Model]) -> Objective:
        """Return the objective with the generator among them."""
        return replace(self, generator=fitted(companions[FOLDER], model)) if FOLDER in companions else self


class GeneratedHead(Head):
    """A generator at work."""

    def __init__(self, choice: Generated, model: Model, vocab_size: int) -> None:
        super().__init__()
        self.choice = choice
        self.network = choice.generator.build(model)
        self.masked = cast("MaskedHead", choice.masked.build(self.network.encoder, vocab_size))

    def counts(self, batch: Batch) -> Sums:
        """Return the number of masked tokens."""
        return self.masked.counts(batch)

    def prepare(self, network: Network, batch: Batch) -> tuple[Batch, Sums]:
        """Replace the chosen tokens by samples, and say of every token in the target `replaced` whether it is another.

        Returns:
            The batch, with `masked`, the generator's summed negative log-likelihood in nats, `masked/correct`, how many
            of its best guesses are right, and `masked/sampled`, how many of its samples are.
        """
        tokens, masked, original = batch.tokens, batch.targets["masked"], batch.targets["original"]
        hidden_TH = self.network(cast("EncoderNetwork", network).embed, tokens)
        logits_MV = self.masked.tokens.filled(hidden_TH[masked.index], network.token_embedding.weight)
        loss, correct = likelihood(logits_MV, masked.label)
        sampled_M = sample(logits_MV)
        ids = put(tokens.ids, masked, sampled_M)
        other = torch.where(original.counted(), ids[original.index] != original.label, IGNORE)
        batch = replace(
            batch,
            streams=batch.streams | {"tokens": replace(tokens, ids=ids)},
            targets=batch.targets | {"replaced": Targets(original.index, other)},
        )
        sums = {"masked": loss, "masked/correct": correct, "masked/sampled": (sampled_M == masked.label).sum()}
        return batch, sums

    def forward(self, network: Network, hidden: States, batch: Batch) -> Sums:
        """Return nothing: all was done before the model ran."""
        return {}

    def regions(self) -> list[torch.nn.Module]:
        """Return the generator's layers, which are alike."""
        return list(self.network.layers.children())

    def companions(self, network: Network) -> dict[str, Companion]:
        """Return the generator with the model's embeddings."""
        whole = self.network.whole(cast("EncoderNetwork", network).embed)
        learner = Learner(whole, {self.choice.masked.name: self.masked})
        return {FOLDER: Companion(self.network.encoder, (self.choice.masked,), learner)}


@torch.no_grad()
def sample(logits_MV: Tensor) -> Tensor:
    """Return (M,) tokens drawn from softmax(logits): the largest of logits + Gumbel noise (Gumbel 1954)."""
    logits = logits_MV.float()
    return (logits + gumbel(logits)).argmax(-1)


def gumbel(like: Tensor) -> Tensor:
    """Return -log(-log(u)) with u uniform, for each number: -log(e) with e exponential."""
    return -torch.empty_like(like).exponential_().log()


def put(ids: Tensor, targets: Targets, values_M: Tensor) -> Tensor:
    """Return ids (T,) with values at the real targets; rows that only fill up go to a cell that is cut off again."""
    cell_M = torch.where(targets.counted(), targets.index, len(ids))
    return torch.cat([ids, ids[:1]]).scatter(0, cell_M, values_M)[:-1]
