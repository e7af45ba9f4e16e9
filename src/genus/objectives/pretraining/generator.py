"""ELECTRA's generator: a small masked language model whose samples replace the masks (Clark et al. 2020, section 2)."""

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
"""Subfolder of a model folder that holds the generator."""


class MaskedLMGenerator(Objective):
    """Masked-language-model loss of a generator; later objectives and the model get its samples in place of the masks.

        L = -Σ log p(original token | masked sequence) over the chosen tokens

    The generator shares the model's embeddings. At every chosen position a token is sampled from its softmax; no
    gradient flows through the sampling. A sample that equals the original token counts as not replaced.

    Source: Clark et al. 2020, section 2, and section 3.2 on what is shared; released code, run_pretraining.py.
    """

    needs_tokens: ClassVar[frozenset[str]] = frozenset({"mask"})

    generator: GeneratorConfig = GeneratorConfig()
    masked: MaskedLM = MaskedLM()
    """The generator's objective, with its masking."""

    @property
    def in_words(self) -> str:
        """Description in words: the generator's objective and its architecture."""
        return f"{self.masked.in_words} by {self.generator.in_words}"

    @property
    def target(self) -> str:
        """Name of the generator's targets."""
        return self.masked.target

    @property
    def provides(self) -> frozenset[str]:
        """The generator's targets, and the original of every token."""
        return self.masked.provides | {ORIGINAL}

    @property
    def losses(self) -> tuple[str, ...]:
        """The generator's masked-language-model loss."""
        return self.masked.losses

    @property
    def token_losses(self) -> frozenset[str]:
        """The generator's loss, a negative log-likelihood of tokens."""
        return self.masked.token_losses

    @property
    def counts_tokens(self) -> bool:
        """Whether the generator's masking needs the token counts of the corpus."""
        return self.masked.counts_tokens

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example with the chosen tokens masked, and the original of every token as targets `ORIGINAL`."""
        ids = example.tokens.ids
        masked = self.masked.prepare_example(example, vocabulary, rng)
        return Example(masked.streams, masked.targets | {ORIGINAL: (np.arange(len(ids)), ids)})

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return the generator's number of targets, and one target `ORIGINAL` per token."""
        return self.masked.max_targets(tokens, sequences) | {ORIGINAL: tokens}

    def build(self, model: Model, vocab_size: int) -> Head:
        """Build the generator as a head.

        Raises:
            UsageError: the model's embeddings cannot be shared.
        """
        return MaskedLMGeneratorHead(self, model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the generator at all tokens, and of its output layer at the chosen ones."""
        head = self.masked.cost(self.generator.encoder(model), vocab_size, lengths)
        return self.generator.cost(model, lengths) + head

    def fitted(self, model: Model, companions: Mapping[str, Model]) -> Objective:
        """Return the objective with the generator's architecture among `companions`, if it is there."""
        return replace(self, generator=fitted(companions[FOLDER], model)) if FOLDER in companions else self


class MaskedLMGeneratorHead(Head):
    """The generator's network and its masked-language-model head."""

    def __init__(self, choice: MaskedLMGenerator, model: Model, vocab_size: int) -> None:
        super().__init__()
        self.choice, self.target, (self.loss,) = choice, choice.target, choice.losses
        self.network = choice.generator.build(model)
        self.masked = choice.masked.build(self.network.encoder, vocab_size)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of chosen (masked) tokens."""
        return self.masked.counts(batch)

    def prepare(self, network: Network, batch: Batch) -> tuple[Batch, Sums]:
        """Replace the chosen tokens by the generator's samples; the targets `REPLACED` label every token 0 or 1.

        Returns:
            The batch and the sums `masked_lm`, the generator's summed negative log-likelihood in nats,
            `masked_lm/correct`, how many of its most probable tokens are the original, and `masked_lm/sampled`, how
            many of its samples are.
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
        """Return no outputs: the generator is a separate model (`auxiliary_models`)."""
        return {}

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return no losses: `prepare` computed them before the model's forward pass."""
        return {}

    def _hidden(self, network: Network, batch: Batch) -> Tensor:
        """Return the generator's hidden states (T, H), computed from the model's embeddings."""
        states: Tensor = self.network(cast("TransformerNetwork", network).embed, batch.tokens)
        return states

    def compile_units(self) -> list[torch.nn.Module]:
        """Return the generator's layers, which are equal."""
        return list(self.network.layers.children())

    def auxiliary_models(self, network: Network) -> dict[str, AuxiliaryModel]:
        """Return the generator, with the model's embeddings, by its folder name."""
        whole = self.network.whole(cast("TransformerNetwork", network).embed)
        learner = Learner(whole, {self.choice.masked.name: self.masked})
        return {FOLDER: AuxiliaryModel(self.network.encoder, (self.choice.masked,), learner)}


def put(ids: Tensor, targets: Targets, values_M: Tensor) -> Tensor:
    """Scatter values (M,) into ids (T,) at the real targets; padding targets go to an extra entry that is cut off."""
    cell_M = torch.where(targets.counted(), targets.index, len(ids))
    return torch.cat([ids, ids[:1]]).scatter(0, cell_M, values_M)[:-1]
