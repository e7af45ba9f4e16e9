"""What a network remembers from batch to batch: for each place of a step, as the rows there go on from each other."""

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
    """The memories of one process, by turn and place; feeds that take turns have streams of their own, each."""

    def __init__(self) -> None:
        self.slots: dict[tuple[str, int], Memory] = {}

    def given(self, batch: Batch, network: Network, place: int) -> Batch:
        """Return the batch at a place of its step with the memory of the last one there.

        Batches that are no streams, as those of a task, have no memory.
        """
        if batch.tokens.flow is None:
            return batch
        memory = self.slots.get((turn_of(batch), place))
        if memory is None:
            memory = network.initial_memory(batch.tokens.rows)
        return replace(batch, memory=memory)

    def keep(self, batch: Batch, place: int, memory: Memory) -> None:
        """Keep the memory that follows the batch at a place of its step."""
        if memory:
            self.slots[turn_of(batch), place] = memory

    def forget(self) -> None:
        """Begin anew."""
        self.slots.clear()

    def tensors(self, world: World) -> dict[str, Tensor]:
        """Return the memories of all processes, as `<turn>.<place>.<name>`; every process calls this.

        Process r of R has the places r, r + R, ... of every turn.
        """
        found = {}
        for turn in sorted({turn for turn, _ in self.slots}):
            own = {place: memory for (one, place), memory in self.slots.items() if one == turn}
            like = next(iter(own.values()))
            [total] = world.sum([float(len(own))])
            for place in range(int(total)):
                memory = own.get(place) or {name: torch.empty_like(tensor) for name, tensor in like.items()}
                for name, tensor in memory.items():
                    found[f"{turn}.{place}.{name}"] = world.share(tensor, place % world.size)
        return found

    def restore(self, tensors: dict[str, Tensor], world: World) -> None:
        """Take back what is this process's of the tensors of all."""
        self.slots.clear()
        for key, tensor in tensors.items():
            turn, place, name = key.split(".", 2)
            if int(place) % world.size == world.rank:
                self.slots.setdefault((turn, int(place)), {})[name] = tensor.to(world.device)


def turn_of(batch: Batch) -> str:
    """Return the name of the turn that a batch is of: the objectives that learn from it."""
    return "all" if batch.heads is None else ",".join(sorted(batch.heads))
