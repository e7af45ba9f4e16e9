"""A small masked language model whose guesses take the masks' places (Clark et al. 2020, ELECTRA, section 2).

Legend: T tokens, M targets, H hidden size of the generator, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import torch

from genus.batch import IGNORE
from genus.examples import Example
from genus.model.generator import GeneratorConfig, fitted
from genus.objectives import AuxiliaryModel, Head, Learner, Objective, Sums
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.objectives.pretraining.replaced_token_detection import ORIGINAL, REPLACED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from genus.batch import Batch, Targets
    from genus.model import Model, Network, States
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.model.transformer import TransformerNetwork
    from genus.tokens.vocabulary import Vocabulary

FOLDER = "generator"
"""Where in a model's folder the generator lies."""


class MaskedLMGenerator(Objective):
    """-Σ log p(original token | masked sequence) of a generator, over the chosen tokens; what follows sees its samples.

    The generator shares the model's embeddings. In every chosen place a token is drawn from its softmax, through which
    no gradient flows; where the token drawn is the original, nothing was replaced.

    Source: Clark et al. 2020, section 2, and section 3.2 on what is shared; released code, run_pretraining.py.
    """

    needs_tokens: ClassVar[frozenset[str]] = frozenset({"mask"})

    generator: GeneratorConfig = GeneratorConfig()
    masked: MaskedLM = MaskedLM()
    """What the generator learns, and from which masks."""

    @property
    def in_words(self) -> str:
        """By what, and what it learns."""
        return f"{self.masked.in_words} by {self.generator.in_words}"

    @property
    def target(self) -> str:
        """What the generator learns from."""
        return self.masked.target

    @property
    def provides(self) -> frozenset[str]:
        """What was masked, and what every token was."""
        return self.masked.provides | {ORIGINAL}

    @property
    def losses(self) -> tuple[str, ...]:
        """That of the generator."""
        return self.masked.losses

    @property
    def token_losses(self) -> frozenset[str]:
        """That of the generator."""
        return self.masked.token_losses

    @property
    def counts_tokens(self) -> bool:
        """Whether the generator's masking does."""
        return self.masked.counts_tokens

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Mask the chosen tokens, and put what each token was, masked or not, into targets of their own."""
        ids = example.tokens.ids
        masked = self.masked.prepare_example(example, vocabulary, rng)
        return Example(masked.streams, masked.targets | {ORIGINAL: (np.arange(len(ids)), ids)})

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return those of the generator, and one a token."""
        return self.masked.max_targets(tokens, sequences) | {ORIGINAL: tokens}

    def build(self, model: Model, vocab_size: int) -> Head:
        """Return the generator.

        Raises:
            UsageError: the model's embeddings cannot be shared.
        """
        return MaskedLMGeneratorHead(self, model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the demand of the generator at all tokens, and of its token head at the chosen ones."""
        head = self.masked.cost(self.generator.encoder(model), vocab_size, lengths)
        return self.generator.cost(model, lengths) + head

    def fitted(self, model: Model, companions: Mapping[str, Model]) -> Objective:
        """Return the objective with the generator among them."""
        return replace(self, generator=fitted(companions[FOLDER], model)) if FOLDER in companions else self


class MaskedLMGeneratorHead(Head):
    """A generator at work."""

    def __init__(self, choice: MaskedLMGenerator, model: Model, vocab_size: int) -> None:
        super().__init__()
        self.choice, self.target, (self.loss,) = choice, choice.target, choice.losses
        self.network = choice.generator.build(model)
        self.masked = choice.masked.build(self.network.encoder, vocab_size)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of masked tokens."""
        return self.masked.counts(batch)

    def prepare(self, network: Network, batch: Batch) -> tuple[Batch, Sums]:
        """Replace the chosen tokens by samples, and say of every token in the targets `REPLACED` whether it is another.

        Returns:
            The batch, with `masked`, the generator's summed negative log-likelihood in nats, `masked/correct`, how many
            of its best guesses are right, and `masked/sampled`, how many of its samples are.
        """
        tokens, masked, original = batch.tokens, batch.targets[self.target], batch.targets[ORIGINAL]
        hidden_TH = self._hidden(network, batch)
        found = self.masked.lm_head.loss(hidden_TH[masked.index], masked, sample=True)
        sampled_M = found.pop("sampled")
        ids = put(tokens.ids, masked, sampled_M)
        other = torch.where(original.counted(), ids[original.index] != original.label, IGNORE)
        batch = replace(
            batch,
            streams=batch.streams | {"tokens": replace(tokens, ids=ids)},
            targets=batch.targets | {REPLACED: replace(original, label=other)},
        )
        sums = {self.loss: found.pop("loss"), f"{self.loss}/sampled": (sampled_M == masked.label).sum()}
        return batch, sums | {f"{self.loss}/{name}": value for name, value in found.items()}

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return nothing: the generator is a model of its own (`auxiliary_models`)."""
        return {}

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return nothing: all was done before the model ran."""
        return {}

    def _hidden(self, network: Network, batch: Batch) -> Tensor:
        """Return the generator's states (T, H) of tokens that the model's embeddings read."""
        states: Tensor = self.network(cast("TransformerNetwork", network).embed, batch.tokens)
        return states

    def compile_units(self) -> list[torch.nn.Module]:
        """Return the generator's layers, which are alike."""
        return list(self.network.layers.children())

    def auxiliary_models(self, network: Network) -> dict[str, AuxiliaryModel]:
        """Return the generator with the model's embeddings."""
        whole = self.network.whole(cast("TransformerNetwork", network).embed)
        learner = Learner(whole, {self.choice.masked.name: self.masked})
        return {FOLDER: AuxiliaryModel(self.network.encoder, (self.choice.masked,), learner)}


def put(ids: Tensor, targets: Targets, values_M: Tensor) -> Tensor:
    """Return ids (T,) with values at the real targets; rows that only fill up go to a cell that is cut off again."""
    cell_M = torch.where(targets.counted(), targets.index, len(ids))
    return torch.cat([ids, ids[:1]]).scatter(0, cell_M, values_M)[:-1]
