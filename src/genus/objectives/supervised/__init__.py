"""What fine-tuning learns from labels that people gave: a linear map of the network's states, and what it says."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Self

from genus.objectives.linear_head import LinearObjective
from genus.part import Fraction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from genus.model import Model
    from genus.model.pooler import Pooler


class FineTuned(LinearObjective):
    """What is learned from people's labels, by a linear map of states."""

    dropout: Fraction = 0.1
    """On what is mapped, in training (released code, run_classifier.py)."""

    @property
    def rate(self) -> float:
        """That choice."""
        return self.dropout

    def reads(self, model: Model, pooler: Pooler) -> Model:
        """Return the model as this is learned with it: with its own pooler or this one, or without any."""
        return model.pooled(pooler) if self.pooled else model.unpooled()

    def sized(self, outputs: int) -> Self:
        """Return the objective of a head that has been read, which gives that many numbers a target: here itself."""
        return self

    @abstractmethod
    def label_of(self, label: str | None) -> int | float:
        """Return the number that stands for a label, and the one that is ignored for None.

        Raises:
            ValueError: the label is none that this objective knows; it says which there are.
        """

    @abstractmethod
    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the most probable class or the number (M,) for the head's outputs (M, C)."""

    @abstractmethod
    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float, dict[str, float]]:
        """Return the answer in the user's words for one target's outputs (C,), and the probability of each class."""
