"""The processes of a run, as `torchrun` starts them: one whole model in each, gradients and counts summed over all."""

from __future__ import annotations

import atexit
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed, nn

from genus.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True)
class World:
    """This process among those of its run, and where it computes."""

    rank: int
    size: int
    device: torch.device

    @contextmanager
    def rank_zero_first(self) -> Iterator[None]:
        """Let the first process through a block before the others: it makes the files that they then find."""
        if self.rank > 0:
            distributed.barrier()
        yield
        if self.rank == 0 and self.size > 1:
            distributed.barrier()

    def place(self, module: nn.Module) -> None:
        """Move a module to the device, with the weights of the first process."""
        module.to(self.device)
        if self.size > 1:
            for tensor in [*module.parameters(), *module.buffers()]:
                distributed.broadcast(tensor.detach(), 0)

    def sum(self, values: list[float]) -> list[float]:
        """Return each number summed over the processes."""
        if self.size == 1:
            return values
        vector = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(vector)
        return vector.tolist()

    def share(self, tensor: Tensor, owner: int) -> Tensor:
        """Return the tensor of one of the processes; the others bring one of its shape and type, overwritten."""
        if self.size > 1:
            distributed.broadcast(tensor, owner)
        return tensor

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Sum every gradient over the processes, in place."""
        if self.size == 1:
            return
        work = [distributed.all_reduce(p.grad, async_op=True) for p in parameters if p.grad is not None]
        for one in work:
            one.wait()


def init_distributed(device: str) -> World:
    """Return this process's place, having met the others if `torchrun` started several.

    Raises:
        UsageError: a device that PyTorch does not know or the machine does not have.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    place = _device(device)
    if size == 1:
        return World(0, 1, place)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
        atexit.register(distributed.destroy_process_group)
    return World(distributed.get_rank(), distributed.get_world_size(), place)


def _device(name: str) -> torch.device:
    """Return the device a name means; each process of a machine takes a GPU of its own."""
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
