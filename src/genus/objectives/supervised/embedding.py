"""Sentence embedding: one vector per text, from pooled hidden states, learned by comparing the vectors of texts.

Legend: M rows of a table, K texts of a row, E size of a vector.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.errors import UsageError
from genus.model.activation import Activation, Tanh
from genus.model.cost import ComponentCost, linear_cost
from genus.objectives.joint import JointHead
from genus.objectives.pooling import Mean, Pooling
from genus.objectives.similarity import EmbeddedRows, SimilarityLoss
from genus.objectives.similarity.info_nce import InfoNCE
from genus.objectives.supervised import FineTuned
from genus.part import Count, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from genus.batch import Batch, Targets
    from genus.examples import Example
    from genus.model import Model, Network, States
    from genus.model.cost import ExampleLengths
    from genus.model.pooler import Pooler
    from genus.objectives import Objective, Sums
    from genus.tokens.vocabulary import Vocabulary


class Prompt(Part):
    """What stands before texts of one kind, by its name in sentence-transformers, such as `query`."""

    name: str
    text: str


class Projection(Part):
    """Dense layer f(W v + b) on a pooled vector, sentence-transformers' `2_Dense`."""

    size: Count
    activation: Activation | None = Tanh()
    bias: bool = True

    def build(self, width: int) -> nn.Sequential:
        """Return the module, from (..., width) to (..., size)."""
        layers: list[nn.Module] = [nn.Linear(width, self.size, bias=self.bias)]
        return nn.Sequential(*layers, *([] if self.activation is None else [self.activation.build()]))


class SentenceEmbedder(FineTuned):
    """Sentence embedding: v = n(f(pooling(h_1 ... h_n))), with f a dense layer, if any, and n(v) = v / |v|, if chosen.

    What is None goes on as the model that it starts from has it; else vectors are means and not normalized.

    Source: Reimers and Gurevych 2019 (arXiv:1908.10084), section 3.
    """

    pooled: ClassVar[bool] = True
    embeds: ClassVar[bool] = True
    keeps_head: ClassVar[bool] = True
    of_one_sequence: ClassVar[bool] = True

    pooling: Pooling | None = None
    normalize: bool | None = None
    projection: Projection | None = None
    loss: SimilarityLoss = InfoNCE()
    prompts: tuple[Prompt, ...] | None = None
    default_prompt: str | None = None
    """Name of the prompt before texts of which nothing else is said."""

    def __post_init__(self) -> None:
        """Check the prompts.

        Raises:
            ValueError: the default is none of them.
        """
        if self.default_prompt not in (None, *self.named_prompts):
            raise ValueError(f"default_prompt: there is no prompt {self.default_prompt!r}")

    @property
    def named_prompts(self) -> dict[str, str]:
        """The prompts by name."""
        return {prompt.name: prompt.text for prompt in self.prompts or ()}

    def reads(self, model: Model, pooler: Pooler | None) -> Model:
        """Return the model as it is: a pooler that it has is not read, and stays for classes that have one."""
        return model

    def continued(self, objectives: Sequence[Objective], model: Model) -> Self:
        """Return the objective with what is left open as the model had it that it starts from.

        Raises:
            UsageError: the model reads a source.
        """
        if extra := model.streams - {"tokens"}:
            raise UsageError(f"task: this model reads a {min(extra)}; take an encoder, or a decoder, for embeddings")
        before = next((one for one in objectives if isinstance(one, SentenceEmbedder)), SentenceEmbedder())
        prompts = (self.prompts, self.default_prompt)
        if self.prompts is None:
            prompts = (before.prompts, before.default_prompt)
        return replace(
            self,
            pooling=self.pooling or before.pooling or Mean(),
            normalize=bool(before.normalize if self.normalize is None else self.normalize),
            projection=self.projection or before.projection,
            prompts=prompts[0],
            default_prompt=prompts[1],
        )

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example unchanged: the data set provides its targets."""
        return example

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one target per sequence."""
        return {self.target: sequences}

    def build(self, model: Model, vocab_size: int) -> EmbeddingHead:
        """Build the head, which has the parameters of the dense layer, or none."""
        return EmbeddingHead(self, model)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of the dense layer per sequence, if there is one."""
        if self.projection is None:
            return ComponentCost()
        layer = linear_cost(model.width, self.projection.size, self.projection.bias)
        return layer.scaled(1 / lengths["tokens"])

    def label_of(self, label: str | None) -> int | float:
        """Return the score of a pair; NaN for None."""
        if label is None:
            return math.nan
        try:
            number = float(label)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"score {label!r:.40} is not a finite number")
        return number

    def can_be(self, label: str) -> bool:
        """Return whether a label may be a score; a column of nothing but -1 is none."""
        return False

    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the vectors."""
        return outputs

    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float | list[str], dict[str, float]]:
        """Return the cosine of a row's first two texts, given it and those of the anchor with negatives."""
        return float(outputs[0]), {}


class EmbeddingHead(JointHead):
    """The pooling, the dense layer and the normalization of an embedder; its loss is of all rows of an update."""

    per = "sequence"
    compares = "vectors"

    def __init__(self, choice: SentenceEmbedder, model: Model) -> None:
        super().__init__()
        self.choice, self.target, (self.loss,) = choice, choice.target, choice.losses
        self.pooling = choice.pooling or Mean()
        self.projection = nn.Sequential() if choice.projection is None else choice.projection.build(model.width)
        model.initialize(self)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of rows."""
        return {self.loss: batch.targets[self.target].count()}

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return the vectors (M, E) of sequences under the name `vectors`, (M, K, E) where a target has several.

        They are zero where a row has fewer. They are computed at least in float32.
        """
        index, packed = batch.targets[self.target].index, batch.tokens
        states_TH = states["tokens"]
        states_TH = states_TH.to(torch.promote_types(states_TH.dtype, torch.float32))
        with torch.autocast(states_TH.device.type, enabled=False):
            entry_N = packed.sequence[index.clamp(min=0).flatten()].long().clamp(min=0)
            vectors_NE = self.projection(self.pooling(states_TH, packed, entry_N))
            vectors_NE = F.normalize(vectors_NE, dim=-1) if self.choice.normalize else vectors_NE
        return {"vectors": vectors_NE.view(*index.shape, -1).masked_fill((index < 0)[..., None], 0.0)}

    def joint_loss(self, compared: Sequence[Tensor], targets: Sequence[Targets]) -> Tensor:
        """Return the loss of all rows, times their number."""
        index = torch.cat([one.index for one in targets])
        rows = EmbeddedRows(torch.cat([*compared]), index >= 0, torch.cat([one.label for one in targets]))
        with torch.autocast(index.device.type, enabled=False):
            return self.choice.loss(rows) * len(index)
