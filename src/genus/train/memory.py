"""Recurrent memory between batches: one memory per place of a step, whose rows continue each other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from genus.batch import Batch, Memory
    from genus.model import Network
    from genus.train.world import World


class Memories:
    """The recurrent memories of one process, by task step and place; each task step's feed has its own streams."""

    def __init__(self) -> None:
        self.slots: dict[tuple[str, int], Memory] = {}

    def given(self, batch: Batch, network: Network, place: int) -> Batch:
        """Return the batch with the memory that the previous batch at this place of the step left.

        Batches that are not streams, such as those of a fine-tuning task, get no memory.
        """
        if batch.tokens.flow is None:
            return batch
        memory = self.slots.get((turn_of(batch), place))
        if memory is None:
            memory = network.initial_memory(batch.tokens.rows)
        return replace(batch, memory=memory)

    def keep(self, batch: Batch, place: int, memory: Memory) -> None:
        """Store the memory after the batch at a place of its step."""
        if memory:
            self.slots[turn_of(batch), place] = memory

    def forget(self) -> None:
        """Discard all memories."""
        self.slots.clear()

    def tensors(self, world: World) -> dict[str, Tensor]:
        """Return the memories of all processes, as `<task step>.<place>.<name>`; every process must call this.

        Process r of R with different micro-batches has the places r, r + R, ... of every task step.
        """
        found = {}
        for turn in sorted({turn for turn, _ in self.slots}):
            own = {place: memory for (one, place), memory in self.slots.items() if one == turn}
            like = next(iter(own.values()))
            [total] = world.sum([float(len(own))])
            for place in range(int(total)):
                memory = own.get(place) or {name: torch.empty_like(tensor) for name, tensor in like.items()}
                for name, tensor in memory.items():
                    found[f"{turn}.{place}.{name}"] = world.share(tensor, place % world.data_size * world.splits)
        return found

    def restore(self, tensors: dict[str, Tensor], world: World) -> None:
        """Load this process's memories from those of all processes, as `tensors` returns them."""
        self.slots.clear()
        for key, tensor in tensors.items():
            turn, place, name = key.split(".", 2)
            if int(place) % world.data_size == world.data_rank:
                self.slots.setdefault((turn, int(place)), {})[name] = tensor.to(world.device)


def turn_of(batch: Batch) -> str:
    """Return the name of a batch's task step: the names of the objectives that learn from it."""
    return "all" if batch.heads is None else ",".join(sorted(batch.heads))
