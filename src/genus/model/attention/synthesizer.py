"""Synthesizers: attention whose scores do not come from pairs of tokens (Tay et al. 2020).

The forms are those that Narang et al. compared (mesh_tensorflow/transformer/attention.py, synthetic_attention). In
formulas n is the longest sequence.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.model.attention.scored import ScoredAttention, ScoredAttentionLayer, ScoredPlan
from genus.model.cost import ComponentCost, linear_cost
from genus.part import Count

if TYPE_CHECKING:
    from genus.model.attention import AttentionLayer
    from genus.model.initialization import Initialization


class Synthesizer(ScoredAttention):
    """A synthesizer: scores S, or with dot products S + q kᵀ / sqrt(D), or (1 - alpha) q kᵀ / sqrt(D) + alpha S.

    alpha = sigmoid(a) is one number a layer; a begins as 0 (synthetic_attention: random_plus_alpha).
    """

    length: Count = 512
    """n, the longest sequence in tokens (synthetic_attention: max_length)."""
    mixed: Literal["alone", "plus", "alpha"] = "alone"
    """What becomes of S: the scores alone, plus dot products (paper: mixtures), or the mixture by alpha."""

    @property
    def max_length(self) -> int:
        """N."""
        return self.length

    @property
    def queries(self) -> bool:
        """Whether there is a map of queries."""
        return self.mixed != "alone"

    @property
    def in_words(self) -> str:
        """The kind, what it is mixed with, the number of heads, and the attention mask."""
        kind = super().in_words + {"alone": "", "plus": " plus", "alpha": " plus alpha"}[self.mixed]
        return ", ".join(part for part in (kind, f"{self.heads} heads", self.mask.in_words) if part)

    @abstractmethod
    def synthesized(self, wide: int) -> ComponentCost:
        """Return the cost per token of S for heads of `wide` dimensions together."""

    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return the cost of the projections, of S, and of products with `length` values, and keys if there are any."""
        heads, size = self.head_sizes(hidden)
        wide, dotted = heads * size, self.mixed != "alone"
        maps = 1 + self.queries + dotted
        products = ComponentCost(int(self.mixed == "alpha"), 2.0 * (1 + dotted) * length * wide, maps * wide)
        projections = linear_cost(hidden, maps * wide, self.bias) + linear_cost(wide, hidden, self.bias)
        return projections + products + self.synthesized(wide)


class DenseSynthesizer(Synthesizer):
    """Dense synthesizer: S_a = W ReLU(q_a), of n numbers for the n positions that a key may have (section 3.1).

    q_a are the queries, W is that of all heads of a layer (synthetic_attention: dense_minus, dense_plus).
    """

    @property
    def queries(self) -> bool:
        """True: S is made of them."""
        return True

    def build(self, hidden: int) -> AttentionLayer:
        """Return the module for hidden states of size H = `hidden`."""
        return DenseSynthesizerLayer(self, hidden)

    def synthesized(self, wide: int) -> ComponentCost:
        """Return the cost of W, applied by each head."""
        size = wide // self.heads
        return ComponentCost(self.length * size, 2.0 * self.length * wide, self.length * self.heads)


class RandomSynthesizer(Synthesizer):
    """Random synthesizer: S_a is a learned matrix (n, n), the same for all texts (section 3.2)."""

    def build(self, hidden: int) -> AttentionLayer:
        """Return the module for hidden states of size H = `hidden`."""
        return RandomSynthesizerLayer(self, hidden)

    def synthesized(self, wide: int) -> ComponentCost:
        """Return the parameters of the matrices."""
        return ComponentCost(self.heads * self.length**2)


class FactorizedSynthesizer(Synthesizer):
    """Factorized random synthesizer: S_a = R1 R2ᵀ, of learned matrices (n, rank) of each head (section 3.3)."""

    rank: Count = 16
    """Columns of R1 and R2 (synthetic_attention: factorized_dim)."""

    def build(self, hidden: int) -> AttentionLayer:
        """Return the module for hidden states of size H = `hidden`."""
        return FactorizedSynthesizerLayer(self, hidden)

    def synthesized(self, wide: int) -> ComponentCost:
        """Return the parameters of the matrices; their product, once a batch, is not counted."""
        return ComponentCost(2 * self.heads * self.length * self.rank)


class SynthesizerLayer(ScoredAttentionLayer):
    """The module of a synthesizer."""

    choice: Synthesizer

    def __init__(self, choice: Synthesizer, hidden: int) -> None:
        super().__init__(choice, hidden)
        wide = choice.heads * self.head_size
        if choice.queries:
            self.query = nn.Linear(hidden, wide, bias=choice.bias)
        if choice.mixed != "alone":
            self.key = nn.Linear(hidden, wide, bias=choice.bias)
        self.alpha = nn.Parameter(torch.zeros(1)) if choice.mixed == "alpha" else None

    @abstractmethod
    def synthesized(self, q_RAQD: Tensor | None, plan: ScoredPlan) -> Tensor:
        """Return S for the pairs of a batch, (R, A, Q, K)."""

    def scores(self, x: Tensor, plan: ScoredPlan) -> Tensor:
        """Return the scores (R, A, Q, K)."""
        q_RAQD = self.in_rows(self.query(x), plan) if self.choice.queries else None
        made = self.synthesized(q_RAQD, plan)
        if q_RAQD is None or self.choice.mixed == "alone":
            return made
        dots = q_RAQD @ self.in_rows(self.key(x), plan).transpose(-1, -2) / math.sqrt(self.head_size)
        if self.alpha is None:
            return dots + made
        share = self.alpha.sigmoid()
        return (1 - share) * dots + share * made

    def positions(self, plan: ScoredPlan) -> Tensor:
        """Return positions (R, L) within the sequence; padding has none beyond the last that there is."""
        return plan.side.rows(plan.side.position).clamp(max=self.choice.length - 1)


class DenseSynthesizerLayer(SynthesizerLayer):
    """The module of a dense synthesizer."""

    def __init__(self, choice: DenseSynthesizer, hidden: int) -> None:
        super().__init__(choice, hidden)
        self.synthesis = nn.Linear(self.head_size, choice.length, bias=False)

    def synthesized(self, q_RAQD: Tensor | None, plan: ScoredPlan) -> Tensor:
        """Return W ReLU(q) at the positions of the keys."""
        assert q_RAQD is not None
        by_position = self.synthesis(F.relu(q_RAQD))
        place = self.positions(plan)[:, None, None].expand(*q_RAQD.shape[:3], -1)
        return by_position.gather(-1, place)  # type: ignore[no-any-return]


class RandomSynthesizerLayer(SynthesizerLayer):
    """The module of a random synthesizer."""

    def __init__(self, choice: RandomSynthesizer, hidden: int) -> None:
        super().__init__(choice, hidden)
        self.matrix = nn.Parameter(torch.empty(choice.heads * choice.length, choice.length))

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the output projection, and the matrices as hidden weights."""
        super().init_weights(initialization)
        initialization.draw(self.matrix, "hidden")

    def synthesized(self, q_RAQD: Tensor | None, plan: ScoredPlan) -> Tensor:
        """Return the matrices at the positions of queries and keys."""
        return at_positions(self.matrix.view(self.choice.heads, self.choice.length, -1), self.positions(plan))


class FactorizedSynthesizerLayer(SynthesizerLayer):
    """The module of a factorized random synthesizer."""

    def __init__(self, choice: FactorizedSynthesizer, hidden: int) -> None:
        super().__init__(choice, hidden)
        self.rows = nn.Parameter(torch.empty(choice.heads * choice.length, choice.rank))
        self.columns = nn.Parameter(torch.empty(choice.heads * choice.length, choice.rank))

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the output projection, and the matrices as hidden weights."""
        super().init_weights(initialization)
        initialization.draw(self.rows, "hidden")
        initialization.draw(self.columns, "hidden")

    def synthesized(self, q_RAQD: Tensor | None, plan: ScoredPlan) -> Tensor:
        """Return R1 R2ᵀ at the positions of queries and keys."""
        rows, columns = (part.view(self.choice.heads, self.choice.length, -1) for part in (self.rows, self.columns))
        return at_positions(rows @ columns.transpose(-1, -2), self.positions(plan))


def at_positions(matrix: Tensor, position_RL: Tensor) -> Tensor:
    """Return the numbers (R, A, Q, K) of matrices (A, n, n) at the positions of queries and keys."""
    return matrix[:, position_RL[:, :, None], position_RL[:, None]].transpose(0, 1)
