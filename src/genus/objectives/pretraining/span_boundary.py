"""The span-boundary objective (Joshi et al. 2019, SpanBERT, section 3.2)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genus.batch import IGNORE, Batch, Packed
from genus.model.cost import ComponentCost
from genus.model.head import Output  # a choice is read by its annotation
from genus.model.head.lm_head import LMHead, Transform
from genus.objectives.pretraining.language_model import LanguageModel, LanguageModelHead
from genus.objectives.pretraining.masked_lm import MASKED
from genus.part import Count

if TYPE_CHECKING:
    import numpy as np

    from genus.batch import Targets
    from genus.examples import Example
    from genus.model import Model, Network, States
    from genus.model.cost import ExampleLengths
    from genus.objectives import Head, Sums
    from genus.tokens.vocabulary import Vocabulary


SHARE = 0.15
"""Masking rate that costs assume; the real rate is the choice of another objective."""


class SpanBoundary(LanguageModel):
    """Span-boundary objective: -Σ log p(x_i | x_(s-1), x_(e+1), p_(i-s+1)) over the masked tokens x_s ... x_e of spans.

        h = [x_(s-1); x_(e+1); p_(i-s+1)],  h' = norm(f(W₁ h + b₁)),  y = norm(f(W₂ h' + b₂)),  p = softmax(E y + c)

    with x the hidden states just outside the span, p position embeddings and E the token embedding; the output layer
    consists of the second layer and E. Targets are the tokens masked by an earlier masked language model, with any
    masking: a span is a run of masked tokens. As in the released code, a target is left out if its span has no token on
    one side within the sequence, or if its position in the span exceeds `positions`.
    """

    positions: Count = 15
    """Number of position embeddings: the first tokens of a span that are predicted."""
    width: Count = 200
    """The size of a position embedding."""
    inner: Transform = Transform()
    """The first layer: from both boundary states and the position embedding, 2 H + `width`, to dimension H."""
    output: Output = LMHead(transform=Transform())

    @property
    def target(self) -> str:
        """Name of the masked language model's targets."""
        return MASKED

    @property
    def requires(self) -> frozenset[str]:
        """The targets of an earlier masked language model."""
        return frozenset({self.target})

    @property
    def token_losses(self) -> frozenset[str]:
        """None: perplexity of the same tokens is reported for the masked language model."""
        return frozenset()

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example unchanged: the masked language model masks the spans."""
        return example

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return none: the targets are those of the masked language model."""
        return {}

    def build(self, model: Model, vocab_size: int) -> Head:
        """Build the head with its position embeddings."""
        return SpanBoundaryHead(self, model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost of both layers and the output, at a share `SHARE` of the tokens."""
        inner = self.inner.cost(2 * model.width + self.width, model.width)
        return (inner + self.output.cost(model, vocab_size)).scaled(SHARE) + ComponentCost(self.positions * self.width)


class Boundaries(nn.Module):
    """Span-boundary representation h' (M, H) of masked tokens, from outside their span."""

    def __init__(self, choice: SpanBoundary, hidden: int) -> None:
        super().__init__()
        self.positions = nn.Embedding(choice.positions, choice.width)
        self.transform = choice.inner.build(2 * hidden + choice.width, hidden)

    def forward(self, left_MH: Tensor, right_MH: Tensor, depth_M: Tensor) -> Tensor:
        """Return h' (M, H) of the boundary states (M, H) and the positions (M,) within spans, from 0."""
        return self.transform(torch.cat([left_MH, right_MH, self.positions(depth_M)], -1))  # type: ignore[no-any-return]


class SpanBoundaryHead(LanguageModelHead):
    """Head of the span-boundary objective: boundary representation and output layer."""

    def __init__(self, choice: SpanBoundary, model: Model, vocab_size: int) -> None:
        super().__init__(choice, model, vocab_size, Boundaries(choice, model.width))
        self.depth = choice.positions

    def counts(self, batch: Batch) -> Sums:
        """Return the number of tokens that are predicted from span boundaries."""
        return {self.loss: self.predicted(batch)[-1].count()}

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return `logits` (M, V) at the masked tokens."""
        return {"logits": self.lm_head(self.joined(states, batch)[0])}

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the summed negative log-likelihood in nats, and `.../correct`."""
        inner_MH, targets = self.joined(states, batch)
        found = self.lm_head.loss(inner_MH, targets)
        return {self.loss: found.pop("loss"), **{f"{self.loss}/{name}": value for name, value in found.items()}}

    def joined(self, states: States, batch: Batch) -> tuple[Tensor, Targets]:
        """Return h' (M, H), and the targets with those ignored that cannot be predicted from boundaries."""
        left_M, right_M, depth_M, targets = self.predicted(batch)
        states_TH = states["tokens"]
        assert self.before is not None
        return self.before(states_TH[left_M], states_TH[right_M], depth_M), targets

    def predicted(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Targets]:
        """Return the result of `places`, with the labels as targets; the weight is 0 where a label is `IGNORE`."""
        targets = batch.targets[self.target]
        left_M, right_M, depth_M, label_M = self.places(batch.tokens, targets)
        weight = None if targets.weight is None else targets.weight * (label_M != IGNORE)
        return left_M, right_M, depth_M, replace(targets, label=label_M, weight=weight, original=None)

    def places(self, tokens: Packed, targets: Targets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return per target (M,): indices of the tokens left and right of its span, position in it from 0, label."""
        place_T = torch.arange(len(tokens.ids), device=tokens.ids.device)
        hidden_T = torch.zeros_like(place_T).index_add(0, targets.index, targets.counted().long()) > 0
        left_T = torch.where(hidden_T, -1, place_T).cummax(0).values
        right_T = torch.where(hidden_T, len(place_T), place_T).flip(0).cummin(0).values.flip(0)
        left_M, right_M = left_T[targets.index].clamp(min=0), right_T[targets.index].clamp(max=len(place_T) - 1)
        depth_M = targets.index - left_M - 1
        # Index minus position is constant within a sequence and differs between neighboring sequences.
        start_T = place_T - tokens.positions
        outside = (start_T[left_M] != start_T[targets.index]) | (start_T[right_M] != start_T[targets.index])
        out = outside | hidden_T[left_M] | hidden_T[right_M] | (depth_M >= self.depth)
        return left_M, right_M, depth_M.clamp(0, self.depth - 1), targets.label.masked_fill(out, IGNORE)
