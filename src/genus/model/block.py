"""A layer: attention and feed-forward, with their residual connections and norms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from genus.model.norm import NoNorm
from genus.part import Part

if TYPE_CHECKING:
    from genus.model.demand import Demand
    from genus.model.encoder import Encoder
    from genus.model.norm import Norm


class Block(Part, ABC):
    """A choice of how a layer's parts are joined."""

    @abstractmethod
    def build(self, model: Encoder) -> nn.Module:
        """Return one layer: called with (x (T, H), what attention shares), it returns (T, H)."""

    @abstractmethod
    def demand(self, model: Encoder, length: int) -> Demand:
        """Return what one layer needs, for sequences of `length` tokens."""

    def closing(self, model: Encoder) -> Norm:
        """Return the norm after the last layer; none where each layer ends with its own."""
        return NoNorm()

    def residual_scale(self, model: Encoder) -> float:
        """Return the factor on the standard deviation from which maps that end a residual branch start."""
        return 1.0


class PostNorm(Block):
    """x = norm(x + f(x)) after each sub-layer f (Vaswani et al. 2017, section 3.1; BERT)."""

    @property
    def in_words(self) -> str:
        """The usual case."""
        return ""

    def build(self, model: Encoder) -> nn.Module:
        """Return the layer."""
        return PostNormLayer(model)

    def demand(self, model: Encoder, length: int) -> Demand:
        """Return both sub-layers, each with its norm."""
        attention, feedforward = model.attention.demand(model.hidden, length), model.feedforward.demand(model.hidden)
        return attention + feedforward + model.norm.demand(model.hidden).times(2)


class PostNormLayer(nn.Module):
    """A layer with the norm after the residual sum."""

    def __init__(self, model: Encoder) -> None:
        super().__init__()
        self.attention = model.attention.build(model.hidden)
        self.attention_norm = model.norm.build(model.hidden)
        self.feedforward = model.feedforward.build(model.hidden)
        self.feedforward_norm = model.norm.build(model.hidden)
        self.dropout = nn.Dropout(model.dropout)

    def forward(self, x: Tensor, shared: Any) -> Tensor:
        """Return (T, H)."""
        x = self.attention_norm(x + self.dropout(self.attention(x, shared)))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))  # type: ignore[no-any-return]
