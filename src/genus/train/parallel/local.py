"""What this process holds of parameters, as plain parameters for the optimizer, and publishing by all together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genus.optim.pieces import held, piece_of, set_piece, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.objectives import Learner
    from genus.train.world import World


class LocalParameters:
    """Plain parameters in place of FSDP2's `DTensor`s, of the same memory, so that an optimizer sees tensors alone.

    An update of single weights is then what it always is. One that looks at whole tensors sums over the processes
    (`optim.pieces`).
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        """Put local parameters into the groups of an optimizer without state."""
        self.pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
        for group in optimizer.param_groups:
            group["params"] = [self._local(weight) for weight in group["params"]]

    def _local(self, weight: nn.Parameter) -> nn.Parameter:
        if not hasattr(weight, "to_local"):
            return weight
        local = nn.Parameter(held(weight).detach(), weight.requires_grad)
        if (piece := piece_of(weight)) is not None:
            set_piece(local, piece)
        self.pairs.append((weight, local))
        return local

    @torch.no_grad()
    def take(self) -> None:
        """Give the local parameters the gradients of the others."""
        for weight, local in self.pairs:
            local.data = held(weight).detach()  # FSDP2 may lay a piece anew before the first forward pass
            local.grad = None if weight.grad is None else held(weight.grad)

    def release(self) -> None:
        """Free the gradients."""
        for weight, local in self.pairs:
            weight.grad = local.grad = None


def publish_together(learner: Learner, world: World, publish: Callable[[Learner], None]) -> None:
    """Call `publish` on the first process, with a learner whose tensors are gathered one by one as they are read.

    Every process must call this. The first says which tensor is wanted; no process ever holds more than one whole one.
    """
    tensors = list(learner.held().values())
    if world.rank > 0:
        while (number := int(world.share(torch.empty(1, dtype=torch.long), 0))) >= 0:
            whole(tensors[number])
        return
    places = {id(tensor): number for number, tensor in enumerate(tensors)}

    def gathered(tensor: Tensor) -> Tensor:
        world.share(torch.tensor([places[id(tensor)]]), 0)
        return whole(tensor)

    learner.whole = gathered
    try:
        publish(learner)
    finally:
        learner.whole = None
        world.share(torch.tensor([-1]), 0)
