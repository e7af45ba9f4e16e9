"""Output layers: from hidden states to logits over the vocabulary, and the cross-entropy loss."""

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
    """The slot of output layers over the vocabulary."""

    def check(self, model: Model) -> None:
        """Check that the layer fits the model's states and embedding.

        Raises:
            ValueError: it does not.
        """

    @property
    def likelihood_alone(self) -> bool:
        """Whether its loss is the negative log-likelihood alone, as where losses compute logits themselves."""
        return True

    @abstractmethod
    def build(self, model: Model, vocab_size: int) -> OutputLayer:
        """Return the module; weights that it shares with the network are set by `OutputLayer.tie`.

        Raises:
            UsageError: the model does not have the embedding that the layer shares.
        """

    @abstractmethod
    def cost(self, model: Model, vocab_size: int) -> ComponentCost:
        """Return the cost per target; parameters tied with the embedding are not counted again."""


class OutputLayer(nn.Module, ABC):
    """The module of an output layer over the vocabulary; it holds all its parameters, tied ones included."""

    by_vocabulary: ClassVar[tuple[str, ...]] = ()
    """Names of its own tensors with one row per token of the vocabulary."""

    def tie(self, embedding: nn.Module) -> None:
        """Tie the layer's weights with those of the token embedding, if the layer has tied weights.

        Raises:
            UsageError: the embedding has no single matrix to tie.
        """
        return

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize its own parameters outside linear layers; there are none by default."""
        return

    @abstractmethod
    def forward(self, hidden_MH: Tensor) -> Tensor:
        """Forward pass: return logits or log-probabilities (M, V)."""

    @abstractmethod
    def loss(self, hidden_MH: Tensor, targets: Targets, *, sample: bool = False) -> dict[str, Tensor]:
        """Return the cross-entropy loss and further outputs, without storing all logits (M, V) at once.

        Args:
            hidden_MH: hidden states of the targets.
            targets: labels, and their weights, if any.
            sample: whether to sample a token from the softmax per target; the samples have no gradient.

        Returns:
            `loss`, the summed negative log-likelihood in nats, with what is added to it; `nll`, the same without that,
            if anything is, such as label smoothing; `z_loss`, if that is added; `correct`, the number of labels with
            the highest logit, if it is cheap to compute; `sampled` (M,) if requested.
        """
