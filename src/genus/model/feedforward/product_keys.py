"""Product-key memory: a large table of values, of which each token reads few, found by two small tables of keys.

Here K = keys, the number of sub-keys of each half of a query, and D = key_size / 2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.model.cost import ComponentCost, linear_cost
from genus.model.feedforward import FeedForward
from genus.model.initialization import ResidualBranch
from genus.model.norm import LayerNorm, Norm
from genus.part import Count

if TYPE_CHECKING:
    from genus.model.initialization import Initialization


class ProductKeyMemory(FeedForward):
    """Product-key memory: Σ over heads and over the k best keys of softmax(score) value, among keys² values.

    A head's query is W x + b, both halves of which are normalized. Value i keys + j has the score of the first half
    with sub-key i plus that of the second half with sub-key j; the k best of all are among the k best of each half.

    Source: Lample et al. 2019, section 3. The queries are normalized by layer normalization, as in Narang et al.'s code
    (mesh_tensorflow/transformer/memory_layers.py); batch normalization, as in the paper, would let documents of a batch
    depend on one another.
    """

    keys: Count
    """Sub-keys of each half; there are keys² values."""
    key_size: Count
    """Size of a query, which is even."""
    heads: Count
    chosen: Count
    """k, the number of values that a head reads."""
    norm: Norm = LayerNorm()
    """Normalization of each half of a query."""

    def __post_init__(self) -> None:
        """Check that a query has two halves, and that there are as many keys as are chosen (ValueError)."""
        if self.key_size % 2:
            raise ValueError(f"feedforward.key_size: a query has two halves, and {self.key_size} is odd")
        if self.chosen > self.keys:
            raise ValueError(f"feedforward.chosen: {self.chosen} of {self.keys} keys cannot be chosen")

    @property
    def in_words(self) -> str:
        """The number of values, and how many of them are read."""
        return f"product-key memory of {self.keys**2:,} values ({self.heads} heads read {self.chosen} each)"

    def build(self, hidden: int) -> ResidualBranch:
        """Return the module for hidden states of size H = `hidden`."""
        return ProductKeyLayer(self, hidden)

    def cost(self, hidden: int) -> ComponentCost:
        """Return the cost per token: all values count as parameters, products with all sub-keys as work."""
        wide, norm = self.heads * self.key_size, self.norm.cost(self.key_size // 2)
        scores = ComponentCost(self.keys * wide, 2.0 * self.keys * wide, wide + 2 * self.heads * self.chosen)
        norms = replace(norm, activations=2 * self.heads * norm.activations)
        return linear_cost(hidden, wide) + norms + scores + ComponentCost(self.keys**2 * hidden)


class ProductKeyLayer(ResidualBranch):
    """The module of a product-key memory."""

    def __init__(self, choice: ProductKeyMemory, hidden: int) -> None:
        super().__init__()
        self.choice, self.hidden, half = choice, hidden, choice.key_size // 2
        self.query = nn.Linear(hidden, choice.heads * choice.key_size)
        self.norm = choice.norm.build(half)
        self.keys = nn.Parameter(torch.empty(2 * choice.heads * choice.keys, half))
        self.values = nn.Parameter(torch.empty(choice.keys**2, hidden))

    @property
    def width(self) -> int:
        """H, the size of its output."""
        return self.hidden

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize keys and values as hidden weights."""
        initialization.draw(self.keys, "hidden")
        initialization.draw(self.values, "hidden", self.residual_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Forward pass: return (T, H)."""
        choice, half = self.choice, self.choice.key_size // 2
        halves = self.norm(self.query(x).view(-1, 2 * choice.heads, half))
        keys = self.keys.view(2 * choice.heads, choice.keys, half)
        scores = torch.einsum("tgd,gkd->tgk", halves, keys.to(halves.dtype)).view(-1, choice.heads, 2, choice.keys)
        best, place = scores.topk(choice.chosen, dim=-1)
        pairs = (best[:, :, 0, :, None] + best[:, :, 1, None, :]).flatten(2)
        number = (place[:, :, 0, :, None] * choice.keys + place[:, :, 1, None, :]).flatten(2)
        found, at = pairs.topk(choice.chosen, dim=-1)
        weights = found.softmax(-1, dtype=torch.float32).to(self.values.dtype)
        number = number.gather(2, at).flatten(1)
        return F.embedding_bag(number, self.values, mode="sum", per_sample_weights=weights.flatten(1))
