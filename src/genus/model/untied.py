"""An output layer with a matrix of its own.

Legend: M targets, H hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.batch import IGNORE
from genus.model.demand import Demand
from genus.model.output import Output, OutputLayer

if TYPE_CHECKING:
    from genus.model import Model


class Untied(Output):
    """softmax(W h + c): for states that are wider than the embedding.

    c is what a model that was read came with, and 0 otherwise: it does not learn.
    """

    def build(self, model: Model, vocab_size: int) -> OutputLayer:
        """Return the layer."""
        return UntiedLayer(model.width, vocab_size)

    def demand(self, model: Model, vocab_size: int) -> Demand:
        """Return a linear map to the vocabulary."""
        weights = model.width * vocab_size
        return Demand(weights, 2.0 * weights, model.width + vocab_size)


class UntiedLayer(OutputLayer):
    """A matrix of a row a token, at work."""

    bias: Tensor

    def __init__(self, hidden: int, vocab_size: int) -> None:
        super().__init__()
        self.decoder = nn.Linear(hidden, vocab_size, bias=False)
        self.register_buffer("bias", torch.zeros(vocab_size))

    def forward(self, hidden_MH: Tensor, embedding: nn.Embedding) -> Tensor:
        """Return logits (M, V)."""
        return F.linear(hidden_MH, self.decoder.weight, self.bias)

    def loss(self, hidden_MH: Tensor, embedding: nn.Embedding, label_M: Tensor) -> dict[str, Tensor]:
        """Return both."""
        logits_MV = self(hidden_MH, embedding)
        loss = F.cross_entropy(logits_MV.float(), label_M, ignore_index=IGNORE, reduction="sum")
        return {"loss": loss, "correct": (logits_MV.detach().argmax(-1) == label_M).sum()}
