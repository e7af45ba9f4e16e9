"""Inference: outputs of heads for works of any number and length, packed into few forward passes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from genus.batch import Batch, Targets
    from genus.examples import Example
    from genus.objectives import Learner


@dataclass(frozen=True, kw_only=True, slots=True)
class Work(ABC):
    """What is asked of a head at once: its outputs for the targets of one sequence, or of several that belong together.

    What else is in a forward pass changes none of them.
    """

    changes_batch: ClassVar[bool] = False
    """Whether `prepared` may return another batch, so that works of other heads cannot share the pass."""

    learner: Learner
    head: str
    """Name of the learner's head."""
    target: str
    """Name of the targets at which the head answers."""
    pad: int
    """The id of padding."""
    lengths: Mapping[str, Sequence[int]]
    """Tokens of each sequence, by stream."""

    @property
    def shortened(self) -> bool:
        """Whether a text of the request lost its end, as it is longer than what the model reads."""
        return False

    @abstractmethod
    def examples(self) -> Sequence[Example]:
        """Return the sequences, with their targets."""

    def prepared(self, batch: Batch) -> Batch:
        """Return the batch that the model gets for works of this head; here as it is."""
        return batch

    def gathered(self, targets: Targets) -> Targets:
        """Return the targets, in the order of the sequences, as the head reads them; here they are as they are."""
        return targets

    def answer(self, outputs: dict[str, Tensor], targets: Targets) -> Any:
        """Return what is kept of the head's outputs (M, ...) at these targets, on the device of the learner."""
        return outputs
