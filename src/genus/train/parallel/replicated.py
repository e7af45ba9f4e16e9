"""Data parallelism with a whole learner in every process."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from genus.train.parallel import Parallel

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import nn
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh

    from genus.train.world import World

DATA = "data"
"""Axis of the mesh along which processes have the same weights and different micro-batches."""
BUFFERS = "forward_sync_buffers"
"""Argument of `DistributedDataParallel` for broadcasting buffers in every forward pass, which is not needed here."""


class Replicated(Parallel):
    """Every process has the whole learner and optimizer; gradients are summed in buckets during the backward pass.

    Source: Li et al. 2020, PyTorch Distributed (`DistributedDataParallel`).
    """

    divides: ClassVar[bool] = False

    @property
    def in_words(self) -> str:
        """Empty, as it is the default."""
        return ""

    @property
    def in_step(self) -> bool:
        """False: processes meet in the last micro-batch of each step only."""
        return False

    def axes(self, processes: int) -> dict[str, int]:
        """Return one axis of all processes."""
        return {DATA: processes}

    def place(self, learner: nn.Module, world: World, mesh: DeviceMesh | None) -> nn.Module:
        """Return a `DistributedDataParallel` around the learner; with one process the learner itself."""
        learner.to(world.device)
        if mesh is None or mesh[DATA].size() == 1:
            return learner
        from torch.nn.parallel import DistributedDataParallel

        known = inspect.signature(DistributedDataParallel).parameters
        buffers = BUFFERS if BUFFERS in known else "broadcast_buffers"  # before PyTorch 2.13
        group = mesh[DATA].get_group()
        options: dict[str, Any] = {buffers: False, "find_unused_parameters": True, "process_group": group}
        replica = DistributedDataParallel(learner, **options)
        replica.register_comm_hook(group, lambda _, bucket: _sum(group, bucket))  # string annotations are rejected
        if mesh[DATA].get_local_rank() > 0:
            _leave_writing_to_the_first(learner)
        return replica

    def accumulate(self, module: nn.Module, *, last: bool) -> AbstractContextManager[object]:
        """Return the context of a micro-batch's passes: gradients are all-reduced only in the last one of the step."""
        no_sync = getattr(module, "no_sync", None)
        return nullcontext() if last or no_sync is None else no_sync()


def _sum(group: ProcessGroup, bucket: Any) -> Any:
    """Sum a bucket of gradients over the processes (a communication hook of `DistributedDataParallel`)."""
    from torch import distributed

    work = distributed.all_reduce(bucket.buffer(), group=group, async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


def _leave_writing_to_the_first(learner: nn.Module) -> None:
    """Note that this process holds copies of pieces of matrices that others write."""
    from dataclasses import replace

    from genus.optim.pieces import piece_of, set_piece

    for tensor in (*learner.parameters(), *learner.buffers()):
        if (piece := piece_of(tensor)) is not None:
            set_piece(tensor, replace(piece, owner=False))
