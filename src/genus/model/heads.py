"""Heads: from hidden states to sequence vectors, classes or tokens.

Legend: M targets, N sequences, H hidden size, E embedding size, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.batch import IGNORE
from genus.model.activation import Activation, Tanh
from genus.model.demand import Demand, linear
from genus.part import Part

if TYPE_CHECKING:
    from genus.model.norm import Norm


class Pooler(Part):
    """f(W h + b) over the state of the sequence's first token (BERT's released code)."""

    activation: Activation = Tanh()

    def build(self, hidden: int) -> nn.Module:
        """Return the module, from (N, H) to (N, width)."""
        return nn.Sequential(nn.Linear(hidden, self.width(hidden)), self.activation.build())

    def width(self, hidden: int) -> int:
        """Return how wide what it gives is, for states of `hidden` numbers."""
        return hidden

    def demand(self, hidden: int) -> Demand:
        """Return a linear map, for one sequence."""
        return linear(hidden, self.width(hidden))


def token_head_demand(hidden: int, size: int, vocab_size: int, norm: Norm) -> Demand:
    """Return what a `TokenHead` demands, at one target; its output matrix is the embedding's, not its own."""
    output = Demand(vocab_size, 2.0 * size * vocab_size, size + vocab_size)
    return linear(hidden, size) + Demand(kept=size) + norm.demand(size) + output


VOCABULARY_MULTIPLE = 64
"""Matrix products on GPUs are fastest where sizes are multiples of this."""


def extra_tokens(hidden: Tensor, vocab_size: int) -> int:
    """Return how many tokens fill a vocabulary up to a size that the device's kernels like."""
    return -vocab_size % VOCABULARY_MULTIPLE if hidden.is_cuda else 0


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
        return F.linear(self.states(hidden_MH), embedding_VE, self.bias)

    def states(self, hidden_MH: Tensor) -> Tensor:
        """Return what the output matrix is applied to (M, E)."""
        return self.norm(self.activation(self.dense(hidden_MH)))  # type: ignore[no-any-return]

    def loss(self, hidden_MH: Tensor, embedding_VE: Tensor, label_M: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summed negative log-likelihood in nats of the labels, and how many have the highest logit."""
        return likelihood(self.filled(hidden_MH, embedding_VE), label_M)

    def filled(self, hidden_MH: Tensor, embedding_VE: Tensor) -> Tensor:
        """Return logits (M, V); where the device likes it, the vocabulary is filled up with tokens of logit -inf."""
        embedding, bias = embedding_VE, cast("Tensor", self.bias)
        if extra := extra_tokens(hidden_MH, len(embedding)):
            embedding, bias = F.pad(embedding, (0, 0, 0, extra)), F.pad(bias, (0, extra), value=-torch.inf)
        return F.linear(self.states(hidden_MH), embedding, bias)


def likelihood(logits_MV: Tensor, label_M: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed negative log-likelihood in nats of the labels, and how many of them have the highest logit."""
    loss = F.cross_entropy(logits_MV.float(), label_M, ignore_index=IGNORE, reduction="sum")
    return loss, (logits_MV.detach().argmax(-1) == label_M).sum()


class BinaryHead(nn.Module):
    """One logit a state: w · f(W h + b) + c (Clark et al. 2020, released code, _get_discriminator_output)."""

    def __init__(self, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.activation = activation.build()
        self.out = nn.Linear(hidden, 1)

    def forward(self, hidden_MH: Tensor) -> Tensor:
        """Return logits (M,)."""
        return self.out(self.activation(self.dense(hidden_MH)))[:, 0]  # type: ignore[no-any-return]


def binary_head_demand(hidden: int) -> Demand:
    """Return what a `BinaryHead` demands, at one state."""
    return linear(hidden, hidden) + Demand(kept=hidden) + linear(hidden, 1)
