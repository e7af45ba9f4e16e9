"""Supervised fine-tuning objectives: a linear head over hidden states, and the decoding of its outputs."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from genus.objectives.linear_head import LinearHead, LinearObjective
from genus.part import Fraction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from genus.model import Model
    from genus.model.pooler import Pooler


class FineTuned(LinearObjective):
    """A supervised fine-tuning objective: a linear head that learns from annotated labels."""

    of_words: ClassVar[bool] = False
    """Whether a text is given as its words, which are tokenized one by one."""

    dropout: Fraction = 0.1
    """Dropout rate of the head's input (released code, run_classifier.py)."""
    texts: Literal[1, 2] | None = None
    """Number of texts of an example in training: 2 for pairs; None if it is unknown."""

    @property
    def rate(self) -> float:
        """The dropout rate of the head's input."""
        return self.dropout

    def reads(self, model: Model, pooler: Pooler) -> Model:
        """Return the model with its own pooler, or else this one, if the objective is pooled; otherwise without one."""
        return model.pooled(pooler) if self.pooled else model.unpooled()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; empty if its labels are numbers."""
        return ()

    def folded(self, head: LinearHead) -> Self:
        """Return the objective for the head as it is published, changed in place to answer in the user's units."""
        return self

    def sized(self, outputs: int) -> Self:
        """Return the objective for a loaded head with that many outputs per target; by default itself."""
        return self

    @abstractmethod
    def label_of(self, label: str | None) -> int | float:
        """Return the target value of a label; None gives the value that the loss ignores.

        Raises:
            ValueError: the label is unknown; the message names the known ones.
        """

    @abstractmethod
    def can_be(self, label: str) -> bool:
        """Return whether a label may be one of those learned, rather than a sign for no label."""

    def truth(self, targets: NDArray[Any]) -> NDArray[Any]:
        """Return target values (M,) as `decide` returns predictions."""
        return targets

    @abstractmethod
    def decide(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the predictions (M,), class indices or regression values, of the head's outputs (M, C)."""

    @abstractmethod
    def explain(self, outputs: NDArray[np.float32]) -> tuple[str | float, dict[str, float]]:
        """Return one target's predicted label or value and the class probabilities by label, of its outputs (C,)."""
