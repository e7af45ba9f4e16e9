"""From hidden states to probabilities of tokens, where nothing stands between the two but the embedding.

Legend: M targets, H hidden size, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.batch import IGNORE
from genus.model.demand import Demand
from genus.part import Part

if TYPE_CHECKING:
    from genus.model import Model


class Output(Part, ABC):
    """A choice of output layer."""

    @abstractmethod
    def build(self, model: Model, vocab_size: int) -> OutputLayer:
        """Return the layer.

        Raises:
            ValueError: the model has not the embedding that the layer shares.
        """

    @abstractmethod
    def demand(self, model: Model, vocab_size: int) -> Demand:
        """Return what it needs, at one target."""


class OutputLayer(nn.Module, ABC):
    """An output layer at work."""

    @abstractmethod
    def forward(self, hidden_MH: Tensor, embedding: nn.Embedding) -> Tensor:
        """Return (M, V) scores, whose softmax is the distribution of the token."""

    @abstractmethod
    def loss(self, hidden_MH: Tensor, embedding: nn.Embedding, label_M: Tensor) -> dict[str, Tensor]:
        """Return `loss`, the summed negative log-likelihood in nats, and, if cheap, `correct`, how many are first."""


class Tied(Output):
    """softmax(h Eᵀ + c), E the token embedding."""

    bias: bool = True
    """Whether there is a c."""

    def build(self, model: Model, vocab_size: int) -> OutputLayer:
        """Return the layer."""
        return TiedLayer(vocab_size if self.bias else None)

    def demand(self, model: Model, vocab_size: int) -> Demand:
        """Return the product with the embedding; of parameters only c is its own."""
        return Demand(self.bias * vocab_size, 2.0 * model.width * vocab_size, model.width + vocab_size)


class TiedLayer(OutputLayer):
    """A tied output layer at work."""

    def __init__(self, vocab_size: int | None) -> None:
        super().__init__()
        self.bias = None if vocab_size is None else nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden_MH: Tensor, embedding: nn.Embedding) -> Tensor:
        """Return logits (M, V)."""
        return F.linear(hidden_MH, embedding.weight, self.bias)

    def loss(self, hidden_MH: Tensor, embedding: nn.Embedding, label_M: Tensor) -> dict[str, Tensor]:
        """Return both."""
        logits_MV = self(hidden_MH, embedding)
        loss = F.cross_entropy(logits_MV.float(), label_M, ignore_index=IGNORE, reduction="sum")
        return {"loss": loss, "correct": (logits_MV.detach().argmax(-1) == label_M).sum()}
