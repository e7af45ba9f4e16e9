"""The span-boundary objective (Joshi et al. 2019, SpanBERT, section 3.2).

Legend: T tokens, M targets, H hidden size, P size of a position vector, E embedding size, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from genus.batch import IGNORE, Batch, Packed
from genus.model.activation import Activation, Gelu
from genus.model.demand import Demand, linear
from genus.model.heads import TokenHead, token_head_demand
from genus.model.norm import LayerNorm, Norm
from genus.objectives import Head, Objective, Sums
from genus.part import Count

if TYPE_CHECKING:
    import numpy as np

    from genus.batch import Targets
    from genus.examples import Example
    from genus.model import Model, Network, States
    from genus.tokens.vocabulary import Vocabulary


MASKED = 0.15
"""Share of the tokens that costs are told for: what is masked is another objective's choice."""


class SpanBoundary(Objective):
    """-Σ log p(x_i | x_(s-1), x_(e+1), p_(i-s+1)) over the masked tokens x_s ... x_e of every span.

        h = [x_(s-1); x_(e+1); p_(i-s+1)],  h' = norm(f(W₁ h + b₁)),  y = norm(f(W₂ h' + b₂)),  p = softmax(E y + c)

    with x the hidden states just outside the span and E the token embedding. It learns from the tokens that the masked
    language model before it has hidden, whatever its masking: a span is a run of them. What has no token on one side
    within its sequence, and what lies deeper in its span than there are positions, is left out, as in released code.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"masked"})

    positions: Count = 15
    """Tokens of a span that are predicted, the first ones."""
    width: Count = 200
    """P."""
    activation: Activation = Gelu()
    norm: Norm = LayerNorm()

    def corrupt(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example as it is: the masked language model has hidden the spans."""
        return example

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return none: the masked language model's serve."""
        return {}

    def build(self, model: Model, vocab_size: int) -> Head:
        """Return the head."""
        return SpanBoundaryHead(self, model, vocab_size)

    def demand(self, model: Model, vocab_size: int, length: int) -> Demand:
        """Return the demand of both layers and the output, on the tokens that are taken to be masked."""
        inner = linear(2 * model.width + self.width, model.width) + self.norm.demand(model.width)
        output = token_head_demand(model.width, model.embedding_width, vocab_size, self.norm)
        return (inner + output).on(MASKED) + Demand(self.positions * self.width)


class SpanBoundaryHead(Head):
    """The span-boundary objective at work."""

    def __init__(self, choice: SpanBoundary, model: Model, vocab_size: int) -> None:
        super().__init__()
        self.positions = nn.Embedding(choice.positions, choice.width)
        self.dense = nn.Linear(2 * model.width + choice.width, model.width)
        self.activation = choice.activation.build()
        self.norm = choice.norm.build(model.width)
        self.output = TokenHead(model.width, model.embedding_width, vocab_size, choice.activation, choice.norm)
        model.initialize(self)

    def counts(self, batch: Batch) -> Sums:
        """Return the number of tokens that are predicted from boundaries."""
        label_M = self.places(batch.tokens, batch.targets["masked"])[-1]
        return {"span_boundary": (label_M != IGNORE).sum()}

    def forward(self, network: Network, hidden: States, batch: Batch) -> Sums:
        """Return `span_boundary`, the summed negative log-likelihood in nats, and `span_boundary/correct`."""
        left_M, right_M, depth_M, label_M = self.places(batch.tokens, batch.targets["masked"])
        states_TH = hidden["tokens"]
        joined = torch.cat([states_TH[left_M], states_TH[right_M], self.positions(depth_M)], -1)
        inner_MH = self.norm(self.activation(self.dense(joined)))
        loss, correct = self.output.loss(inner_MH, network.token_embedding.weight, label_M)
        return {"span_boundary": loss, "span_boundary/correct": correct}

    def places(self, tokens: Packed, targets: Targets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return, a target (M,): the tokens left and right of its span, its place in the span from 0, and its label."""
        place_T = torch.arange(len(tokens.ids), device=tokens.ids.device)
        hidden_T = torch.zeros_like(place_T).index_add(0, targets.index, targets.counted().long()) > 0
        left_T = torch.where(hidden_T, -1, place_T).cummax(0).values
        right_T = torch.where(hidden_T, len(place_T), place_T).flip(0).cummin(0).values.flip(0)
        left_M, right_M = left_T[targets.index].clamp(min=0), right_T[targets.index].clamp(max=len(place_T) - 1)
        depth_M = targets.index - left_M - 1
        # Positions count up within a sequence, and only there: over its ends they do not differ as places do.
        start_T = place_T - tokens.positions
        outside = (start_T[left_M] != start_T[targets.index]) | (start_T[right_M] != start_T[targets.index])
        out = outside | hidden_T[left_M] | hidden_T[right_M] | (depth_M >= len(self.positions.weight))
        return left_M, right_M, depth_M.clamp(0, len(self.positions.weight) - 1), targets.label.masked_fill(out, IGNORE)
