"""Sequence classification that learns by another loss than it is published with."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import fields
from typing import TYPE_CHECKING

from genus.objectives.supervised.sequence import SequenceClassification

if TYPE_CHECKING:
    from genus.model import Model
    from genus.objectives import Head
    from genus.objectives.linear_head import LinearHead

PUBLISHED = "sequence_classification"
"""Name of the head."""


class RegularizedClassification(SequenceClassification):
    """Sequence classification by another loss; head and tensors are those of `SequenceClassification`, as is a folder.

    A folder keeps nothing of the loss, so that it is read, measured and exported as that of any classifier.
    """

    @property
    def name(self) -> str:
        """Name of the head: that of sequence classification."""
        return PUBLISHED

    @property
    def exported(self) -> SequenceClassification:
        """The objective without the choices of the loss."""
        return SequenceClassification(**{one.name: getattr(self, one.name) for one in fields(SequenceClassification)})

    def folded(self, head: Head) -> SequenceClassification:
        """Return the objective without the choices of the loss."""
        return self.exported

    @abstractmethod
    def build(self, model: Model, vocab_size: int) -> LinearHead:
        """Build the linear head, which has the loss."""
