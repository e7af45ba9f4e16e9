"""Heads with a joint loss, which compares examples with each other and so is of a whole step, not of micro-batches."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from genus.objectives import Head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from genus.batch import Batch, Targets
    from genus.model import Network, States
    from genus.objectives import Learner, Sums


class JointHead(Head):
    """A head whose one loss is of all examples of a step together, whatever its micro-batches are."""

    loss: str
    """Name of the loss."""
    compares: str
    """Name of the one of `outputs` of which the loss is computed."""
    gathers: ClassVar[bool] = False
    """Whether what it compares, and its targets, have the same shape in every micro-batch, so that those of several
    processes can be gathered."""

    @abstractmethod
    def joint_loss(self, compared: Sequence[Tensor], targets: Sequence[Targets]) -> Tensor:
        """Return the loss of a whole step, times the number of its targets, given what each micro-batch has."""

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the loss of the batch as of a whole step.

        Where the gradient of the step's loss with respect to what is compared is given (`Batch.cotangents`), it is the
        product of both, whose gradient with respect to the weights is that of the step's loss.
        """
        compared = self.outputs(network, states, batch)[self.compares]
        if self.loss in batch.cotangents:
            return {self.loss: (compared * batch.cotangents[self.loss]).sum()}
        return {self.loss: self.joint_loss([compared], [batch.targets[self.target]])}


def joint_heads(learner: Learner) -> dict[str, JointHead]:
    """Return the heads with a joint loss, by name."""
    return {name: head for name, head in learner.heads.items() if isinstance(head, JointHead)}
