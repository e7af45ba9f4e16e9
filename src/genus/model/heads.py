"""Heads: from hidden states to sequence vectors, classes or tokens.

Legend: M targets, N sequences, H hidden size, E embedding size, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.model.activation import Activation, Tanh
from genus.model.demand import Demand, linear
from genus.part import Part

if TYPE_CHECKING:
    from genus.model.norm import Norm


class Pooler(Part):
    """f(W h + b) over the state of the sequence's first token (BERT's released code)."""

    activation: Activation = Tanh()

    def build(self, hidden: int) -> nn.Module:
        """Return the module, from (N, H) to (N, H)."""
        return nn.Sequential(nn.Linear(hidden, hidden), self.activation.build())

    def demand(self, hidden: int) -> Demand:
        """Return a linear map, for one sequence."""
        return linear(hidden, hidden)


def token_head_demand(hidden: int, size: int, vocab_size: int, norm: Norm) -> Demand:
    """Return what a `TokenHead` demands, at one target; its output matrix is the embedding's, not its own."""
    output = Demand(vocab_size, 2.0 * size * vocab_size, size + vocab_size)
    return linear(hidden, size) + Demand(kept=size) + norm.demand(size) + output


class TokenHead(nn.Module):
    """Logits over the vocabulary: norm(f(W h + b)) Eᵀ + c, with E the token embedding (BERT's and RoBERTa's code)."""

    def __init__(self, hidden: int, size: int, vocab_size: int, activation: Activation, norm: Norm) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, size)
        self.activation = activation.build()
        self.norm = norm.build(size)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden_MH: Tensor, embedding_VE: Tensor) -> Tensor:
        """Return logits (M, V) at the states handed in."""
        return F.linear(self.norm(self.activation(self.dense(hidden_MH))), embedding_VE, self.bias)
