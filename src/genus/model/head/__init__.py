"""Output layers: from hidden states to logits over the vocabulary, and to their loss.

Legend: M targets, H hidden size, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from genus.part import Part

if TYPE_CHECKING:
    from genus.batch import Targets
    from genus.model import Model
    from genus.model.cost import ComponentCost
    from genus.model.initialization import Initialization


class Output(Part, ABC):
    """A choice of output layer over the vocabulary."""

    @abstractmethod
    def build(self, model: Model, vocab_size: int) -> OutputLayer:
        """Return the module; what it shares with the network it is given by `OutputLayer.tie`.

        Raises:
            UsageError: the model has not the embedding that the layer shares.
        """

    @abstractmethod
    def cost(self, model: Model, vocab_size: int) -> ComponentCost:
        """Return parameters, FLOPs and memory per target; a matrix shared with the embedding is not counted again."""


class OutputLayer(nn.Module, ABC):
    """An output layer over the vocabulary; it owns every tensor it multiplies with, shared ones included."""

    by_vocabulary: ClassVar[tuple[str, ...]] = ()
    """Names of its own tensors that have a row for every token of the vocabulary."""

    def tie(self, embedding: nn.Module) -> None:
        """Share the parameters of the token embedding, where the layer's matrix is the embedding's.

        Raises:
            UsageError: the embedding has no single matrix to share.
        """
        return

    def init_weights(self, initialization: Initialization) -> None:
        """Draw the parameters of its own that are no linear map's; none by default."""
        return

    @abstractmethod
    def forward(self, hidden_MH: Tensor) -> Tensor:
        """Return logits or log-probabilities (M, V)."""

    @abstractmethod
    def loss(self, hidden_MH: Tensor, targets: Targets, *, sample: bool = False) -> dict[str, Tensor]:
        """Return the loss and what comes with it, without all logits (M, V) at once.

        Args:
            hidden_MH: the states of the targets.
            targets: labels, and weights where targets have any.
            sample: whether to draw a token for each target from the softmax; no gradient flows through the draw.

        Returns:
            `loss`, the summed negative log-likelihood in nats; `correct`, how many labels have the highest logit, if it
            is cheap to know; `sampled` (M,) where asked for.
        """
