"""Data-parallel training in the processes that `torchrun` starts: gradients and counts are summed over all."""

from __future__ import annotations

import atexit
import functools
import inspect
import itertools
import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from genus.errors import UsageError
from genus.processes import end_with

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genus.train.run import Run

CONNECTING = timedelta(minutes=30)
"""Time limit for all processes to start."""
FOREVER = timedelta(days=3650)
"""Time limit for the first process to prepare the files of a run: tokenizing a large corpus takes days."""
BUFFERS = "forward_sync_buffers"
"""Argument of `DistributedDataParallel` for broadcasting buffers in every forward pass, which is not needed here."""
if BUFFERS not in inspect.signature(DistributedDataParallel).parameters:  # before PyTorch 2.13
    BUFFERS = "broadcast_buffers"
_turns = itertools.count()


@dataclass(frozen=True)
class World:
    """Rank of this process, number of processes (world size), and device."""

    rank: int
    size: int
    device: torch.device

    def replicate(self, learner: nn.Module) -> nn.Module:
        """Return a data-parallel replica of the learner, whose backward pass sums gradients over the processes.

        The weights become those of the first process. Gradients are summed in buckets during the backward pass
        (`DistributedDataParallel`), not averaged, since losses are divided by the targets of all processes. A learner
        whose parameters were sharded by the caller (FSDP2's `fully_shard`) is returned itself, set to sum and not to
        average.
        """
        if is_sharded(learner):
            for module in learner.modules():
                if isinstance(module, FSDPModule):
                    module.set_gradient_divide_factor(1.0)
                    module.set_force_sum_reduction_for_comms(True)
            return learner
        if self.size == 1:
            return learner
        options: dict[str, Any] = {BUFFERS: False, "find_unused_parameters": True}
        replica = DistributedDataParallel(learner, **options)
        replica.register_comm_hook(None, lambda _, bucket: _sum(bucket))  # string annotations are rejected
        return replica

    def sum(self, values: list[float]) -> list[float]:
        """Return each number summed over the processes (all-reduce on the CPU, without device synchronization)."""
        if self.size == 1:
            return values
        vector = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(vector)
        return vector.tolist()

    def sum_tensor(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the processes (all-reduce, in place, queued on the device) and return it."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, of the same shape and type, in the order of their ranks."""
        if self.size == 1:
            return [tensor]
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        distributed.all_gather(found, tensor.contiguous())
        return found

    def share(self, tensor: Tensor, owner: int) -> Tensor:
        """Broadcast the tensor of process `owner`; the others pass one of its shape and type, which is overwritten."""
        if self.size > 1:
            distributed.broadcast(tensor, owner)
        return tensor


def is_sharded(module: nn.Module) -> bool:
    """Return whether parameters are sharded over the processes, as by FSDP2's `fully_shard`."""
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def _sum(bucket: Any) -> Any:
    """Sum a bucket of gradients over the processes (a communication hook of `DistributedDataParallel`)."""
    work = distributed.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Run a block on the first process before the others, which then find the files that it made.

    The others wait on the rendezvous store of `torchrun`, not in a collective, whose time limit (10 minutes with NCCL)
    the preparation of a corpus exceeds. Therefore it is used before `init_distributed`.
    """
    rank, size = _place()
    if size == 1:
        yield
        return
    store, key = _store(), f"genus/prepared/{next(_turns)}"
    if rank > 0:
        store.wait([key], FOREVER)
    yield
    if rank == 0:
        store.set(key, "yes")


def init_distributed(run: Run) -> World:
    """Join the process group if `torchrun` started several processes, and return this process's rank and device.

    Raises:
        UsageError: PyTorch does not know the device, or the machine does not have it.
    """
    (rank, size), place = _place(), device_of_run(run)
    if size == 1:
        return World(0, 1, place)
    if not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
        store = distributed.PrefixStore("genus/group", _store())  # type: ignore[attr-defined]
        distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
        atexit.register(distributed.destroy_process_group)
    return World(distributed.get_rank(), distributed.get_world_size(), place)


def is_rank_zero() -> bool:
    """Return whether this process has rank 0, which writes the files of a run."""
    return _place()[0] == 0


def _place() -> tuple[int, int]:
    """Return the rank of this process and the world size, from the environment variables of `torchrun`."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _end_with_torchrun()
    size = int(os.environ.get("WORLD_SIZE", "1"))
    return (int(os.environ["RANK"]), size) if size > 1 else (0, 1)


@functools.cache
def _end_with_torchrun() -> None:
    """End this process when `torchrun` is gone: the others may be too, and nobody would tell this one."""
    end_with(os.getppid())


@functools.cache
def _store() -> Any:
    """Return the rendezvous store that the processes of a run share."""
    store, _, _ = next(distributed.rendezvous("env://", timeout=CONNECTING))  # type: ignore[attr-defined]
    return store


def device_of_run(run: Run) -> torch.device:
    """Return the device of a run, after setting the number of threads of this process where the settings say one."""
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    return find_device(run.device)


def find_device(name: str) -> torch.device:
    """Return the device of a name; with `auto` or `cuda`, each process of a machine gets its own GPU.

    Raises:
        UsageError: PyTorch does not know the device, or the machine does not have it.
    """
    if name in {"auto", "cuda"}:
        if torch.cuda.is_available():
            place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(place)
            return place
        if name == "auto":
            return torch.device("cpu")
    try:
        place = torch.device(name)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"run.device: cannot compute on {name!r} ({reason}); take auto or cpu") from None
    return place
