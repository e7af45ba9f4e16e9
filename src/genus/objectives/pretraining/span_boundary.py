"""The span-boundary objective (Joshi et al. 2019, SpanBERT, section 3.2).

Legend: T tokens, M targets, H hidden size, P size of a position vector, E embedding size, V vocabulary.
"""

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
"""Share of the tokens that costs are told for: what is masked is another objective's choice."""


class SpanBoundary(LanguageModel):
    """-Σ log p(x_i | x_(s-1), x_(e+1), p_(i-s+1)) over the masked tokens x_s ... x_e of every span.

        h = [x_(s-1); x_(e+1); p_(i-s+1)],  h' = norm(f(W₁ h + b₁)),  y = norm(f(W₂ h' + b₂)),  p = softmax(E y + c)

    with x the hidden states just outside the span and E the token embedding; the second map and E are the output layer.
    It learns from the tokens that the masked language model before it has hidden, whatever its masking: a span is a run
    of them. What has no token on one side within its sequence, and what lies deeper in its span than there are
    positions, is left out, as in released code.
    """

    positions: Count = 15
    """Tokens of a span that are predicted, the first ones."""
    width: Count = 200
    """P."""
    inner: Transform = Transform()
    """Of the boundaries and the position, to H numbers."""
    output: Output = LMHead(transform=Transform())

    @property
    def target(self) -> str:
        """The tokens that the masked language model has hidden."""
        return MASKED

    @property
    def requires(self) -> frozenset[str]:
        """The same."""
        return frozenset({self.target})

    @property
    def token_losses(self) -> frozenset[str]:
        """None: the tokens are those of the masked language model, told of there."""
        return frozenset()

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example as it is: the masked language model has hidden the spans."""
        return example

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return none: the masked language model's serve."""
        return {}

    def build(self, model: Model, vocab_size: int) -> Head:
        """Return the head."""
        return SpanBoundaryHead(self, model, vocab_size)

    def cost(self, model: Model, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the demand of both layers and the output, on the tokens that are taken to be masked."""
        inner = self.inner.demand(2 * model.width + self.width, model.width)
        return (inner + self.output.cost(model, vocab_size)).scaled(SHARE) + ComponentCost(self.positions * self.width)


class Boundaries(nn.Module):
    """What is known of a masked token from outside its span: h' (M, H)."""

    def __init__(self, choice: SpanBoundary, hidden: int) -> None:
        super().__init__()
        self.positions = nn.Embedding(choice.positions, choice.width)
        self.transform = choice.inner.build(2 * hidden + choice.width, hidden)

    def forward(self, left_MH: Tensor, right_MH: Tensor, depth_M: Tensor) -> Tensor:
        """Return h' of the states beside spans and the places within them."""
        return self.transform(torch.cat([left_MH, right_MH, self.positions(depth_M)], -1))  # type: ignore[no-any-return]


class SpanBoundaryHead(LanguageModelHead):
    """The span-boundary objective's head."""

    def __init__(self, choice: SpanBoundary, model: Model, vocab_size: int) -> None:
        super().__init__(choice, model, vocab_size, Boundaries(choice, model.width))
        self.depth = choice.positions

    def counts(self, batch: Batch) -> Sums:
        """Return the number of tokens that are predicted from boundaries."""
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
        """Return h' (M, H), and the targets that can be predicted from boundaries."""
        left_M, right_M, depth_M, targets = self.predicted(batch)
        states_TH = states["tokens"]
        assert self.before is not None
        return self.before(states_TH[left_M], states_TH[right_M], depth_M), targets

    def predicted(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Targets]:
        """Return what `places` does, with the labels in targets that count nothing where there is none."""
        targets = batch.targets[self.target]
        left_M, right_M, depth_M, label_M = self.places(batch.tokens, targets)
        weight = None if targets.weight is None else targets.weight * (label_M != IGNORE)
        return left_M, right_M, depth_M, replace(targets, label=label_M, weight=weight)

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
        out = outside | hidden_T[left_M] | hidden_T[right_M] | (depth_M >= self.depth)
        return left_M, right_M, depth_M.clamp(0, self.depth - 1), targets.label.masked_fill(out, IGNORE)
