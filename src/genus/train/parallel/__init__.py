"""The slot `Parallel`: how the processes of a run share the work on a step, and the memory of a learner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import TYPE_CHECKING, ClassVar

from genus.part import Part

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import nn
    from torch.distributed.device_mesh import DeviceMesh

    from genus.train.world import World


class Parallel(Part, ABC):
    """The slot of ways in which processes train one learner together, composed over a mesh of them."""

    divides: ClassVar[bool] = True
    """Whether processes hold pieces of the weights, so that only all together can save or publish them."""

    @property
    def splits(self) -> int:
        """Number of processes that compute the same micro-batch together (tensor parallelism)."""
        return 1

    @property
    def in_step(self) -> bool:
        """Whether every process must make as many forward passes in a step as every other."""
        return True

    @abstractmethod
    def axes(self, processes: int) -> dict[str, int]:
        """Return the mesh of so many processes: its sizes by name, from the outermost axis to the innermost.

        Raises:
            UsageError: they do not multiply to the number of processes.
        """

    def check(self, learner: nn.Module, device: str) -> None:
        """Check that the learner can be trained so; it may lie on the device `meta`.

        Args:
            learner: network and heads.
            device: type of the run's device.

        Raises:
            UsageError: a module of it cannot be divided.
        """
        return

    @abstractmethod
    def place(self, learner: nn.Module, world: World, mesh: DeviceMesh | None) -> nn.Module:
        """Distribute the learner over the processes, in place, and return the module that a training step calls.

        Its backward pass sums gradients over the processes, and does not average them, since losses are divided by the
        targets of the whole step. All processes begin with the weights of the first.

        Args:
            learner: network and heads; afterwards they lie on the world's device.
            world: the processes.
            mesh: as `axes` says, or a larger one; None: there is one process.
        """

    def accumulate(self, module: nn.Module, *, last: bool) -> AbstractContextManager[object]:
        """Return the context of a micro-batch's passes; gradients are complete after the last one of a step."""
        return nullcontext()

    def finish(self, module: nn.Module) -> None:
        """Complete the gradients after the last micro-batch of a step, where processes have shares of a sum."""
        return
