"""The processes that `torchrun` starts: what each is among them, and what is summed over all."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

from genus.errors import GenusError, UsageError
from genus.processes import end_with
from genus.train.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.distributed.device_mesh import DeviceMesh

    from genus.train.parallel import Parallel
    from genus.train.run import Run

CONNECTING = timedelta(minutes=30)
"""Time limit for all processes to start."""
FOREVER = timedelta(days=3650)
"""Time limit for the first process to prepare the files of a run: tokenizing a large corpus takes days."""
LOST = ("Connection closed", "Connection reset", "Broken pipe", "Timed out waiting", "NCCL", "gloo")
"""Words of errors of collectives, which PyTorch raises as plain `RuntimeError` in backward passes."""
_turns = itertools.count()


@dataclass(frozen=True)
class World:
    """Rank of this process, number of processes (world size), and device."""

    rank: int
    size: int
    device: torch.device
    splits: int = 1
    """Number of processes, neighbors by rank, that compute the same micro-batches (tensor parallelism)."""
    in_step: bool = False
    """Whether every process must make as many forward passes in a step as every other."""

    @property
    def data_rank(self) -> int:
        """Number of this process among those with different micro-batches; `splits` processes have the same."""
        return self.rank // self.splits

    @property
    def data_size(self) -> int:
        """Number of micro-batches that are computed at once."""
        return self.size // self.splits

    def sum(self, values: list[float], of_each: list[float] | None = None) -> list[float]:
        """Return each number summed over the processes (all-reduce on the CPU, without device synchronization).

        Args:
            values: of the data, which processes that compute the same micro-batches have in common.
            of_each: further numbers, which every process has of its own.
        """
        if self.size == 1:
            return [*values, *(of_each or [])]
        own = values if self.rank % self.splits == 0 else [0.0] * len(values)
        vector = torch.tensor([*own, *(of_each or [])], dtype=torch.float64)
        distributed.all_reduce(vector)
        return vector.tolist()

    def sum_tensor(self, tensor: Tensor) -> Tensor:
        """Sum a tensor of the data over the processes (all-reduce, in place, queued on the device) and return it."""
        if self.size > 1:
            if self.rank % self.splits:
                tensor.zero_()
            distributed.all_reduce(tensor)
        return tensor

    def any(self, flags: Tensor) -> Tensor:
        """Return flags that are true in any process (all-reduce, queued on the device)."""
        if self.size == 1:
            return flags
        found = flags.float()
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return found > 0

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

    def mesh(self, parallel: Parallel) -> DeviceMesh | None:
        """Return the mesh of processes that a way of parallelism asks for; None with one process."""
        axes = parallel.axes(self.size)
        if self.size == 1:
            return None
        from torch.distributed.device_mesh import init_device_mesh

        return init_device_mesh(self.device.type, tuple(axes.values()), mesh_dim_names=tuple(axes))


@contextmanager
def telling_lost_processes(world: World) -> Iterator[None]:
    """Turn the error of a collective, which another process has left, into one line.

    Raises:
        GenusError: another process has ended, or cannot be reached.
    """
    try:
        yield
    except RuntimeError as error:
        found = [one for one in LOST if one in str(error)]
        if world.size == 1 or not (isinstance(error, distributed.DistError) or found):
            raise
        told = found[0] if found else type(error).__name__
        raise GenusError(
            f"process {world.rank}: another process of the run has ended or cannot be reached ({told}); "
            "its own message says why, and the run goes on from its last checkpoint with --resume"
        ) from None


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
        UsageError: PyTorch does not know the device, or the machine does not have it; the processes do not fit the way
            of parallelism.
    """
    (rank, size), place = _place(), device_of_run(run)
    run.parallel.axes(size)
    shared = run.parallel.splits, run.parallel.in_step
    if size == 1:
        return World(0, 1, place, *shared)
    if not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
        store = distributed.PrefixStore("genus/group", _store())  # type: ignore[attr-defined]
        distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
        atexit.register(distributed.destroy_process_group)
    return World(distributed.get_rank(), distributed.get_world_size(), place, *shared)


def restarted() -> bool:
    """Return whether `torchrun` has started this process again, after another had ended (`--max-restarts`)."""
    return _starts() > 0


def _starts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def notes() -> Notes | None:
    """Return the notes that the processes of a run exchange; None with one process."""
    rank, size = _place()
    return Notes(_store(), rank, size, next(_turns)) if size > 1 else None


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
    """Return the rendezvous store that the processes of a run share, without what those before a restart wrote."""
    store, _, _ = next(distributed.rendezvous("env://", timeout=CONNECTING))  # type: ignore[attr-defined]
    return distributed.PrefixStore(f"genus/start/{_starts()}", store)  # type: ignore[attr-defined]


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
