"""Multi-head softmax attention (Vaswani et al. 2017, section 3.2).

Legend: T tokens, H hidden size, A heads, D = H / A.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from genus.model.attend import View, attend, compute_dtype, view
from genus.model.attention import Attention, AttentionLayer
from genus.model.demand import Demand, linear
from genus.model.visibility import Full, Visibility
from genus.part import Count, Fraction

if TYPE_CHECKING:
    from genus.batch import Packed


class Softmax(Attention):
    """concat_a softmax(q_a k_aᵀ / sqrt(D)) v_a, projected; queries, keys and values are maps of the same states."""

    heads: Count
    bias: bool = True
    dropout: Fraction = 0.1
    """On the attention probabilities, in training."""
    visibility: Visibility = Full()

    @property
    def in_words(self) -> str:
        """Its heads, and who sees whom."""
        return ", ".join(part for part in ("softmax", f"{self.heads} heads", self.visibility.in_words) if part)

    def check(self, hidden: int) -> None:
        """Refuse heads that do not divide the hidden size."""
        if self.heads < 1 or hidden % self.heads:
            raise ValueError(f"{self.heads} attention heads do not divide a hidden size of {hidden}")

    def build(self, hidden: int) -> AttentionLayer:
        """Return the layer."""
        return SoftmaxLayer(self, hidden)

    def demand(self, hidden: int, length: int) -> Demand:
        """Return the projections, and two products of each token with all that it sees (all of them are counted)."""
        products = Demand(flops=4.0 * length * hidden, kept=3 * hidden)
        return linear(hidden, 3 * hidden, self.bias) + products + linear(hidden, hidden, self.bias)


class SoftmaxLayer(AttentionLayer):
    """The module of multi-head attention."""

    def __init__(self, choice: Softmax, hidden: int) -> None:
        super().__init__()
        self.choice, self.head_size = choice, hidden // choice.heads
        self.query = nn.Linear(hidden, hidden, bias=choice.bias)
        self.key = nn.Linear(hidden, hidden, bias=choice.bias)
        self.value = nn.Linear(hidden, hidden, bias=choice.bias)
        self.out = nn.Linear(hidden, hidden, bias=choice.bias)

    def prepare(self, packed: Packed) -> View:
        """Return the view that all layers share."""
        dropout = self.choice.dropout if self.training else 0.0
        return view(packed, self.choice.visibility, compute_dtype(next(self.parameters())), dropout)

    def forward(self, x: Tensor, shared: View) -> Tensor:
        """Return (T, H)."""
        q_TAD, k_TAD, v_TAD = (self.by_head(project(x)) for project in (self.query, self.key, self.value))
        out_TAD = attend(q_TAD, k_TAD, v_TAD, shared)
        return self.out(out_TAD.flatten(1))  # type: ignore[no-any-return]
