"""Sharded data parallelism: weights, gradients and moments divided among the processes (ZeRO), by PyTorch's FSDP2."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from torch import distributed, nn
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard

from genus.errors import UsageError
from genus.model.roles import LAYERS
from genus.model.split import WholeWeights
from genus.optim.pieces import Division, Piece, piece_of, set_piece
from genus.part import Count
from genus.train.parallel import Parallel

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch.distributed.device_mesh import DeviceMesh

    from genus.train.world import World

COPIES, SHARDS = "copies", "shards"
"""Axes of the mesh: along the first processes have the same pieces, along the second different ones."""


class Sharded(Parallel):
    """Every process holds a part of the weights, and of the gradients and moments; it gathers weights to compute.

    Weights are gathered layer by layer; embeddings and heads, whose weights may be tied, together. Between steps a
    process holds 1 / n of weights, gradients and moments in all three stages. Within a step of stage

    1. it keeps all weights, and all gradients until the last micro-batch: as much communication as `Replicated`;
    2. it keeps all weights, and gives gradients away after each micro-batch;
    3. it gathers each layer's weights for its forward pass and again for its backward pass.

    Source: Rajbhandari et al. 2019 (ZeRO, arXiv:1910.02054), section 5. Deviation: weights between steps, which stages
    1 and 2 of the paper keep whole, are gathered when the first micro-batch needs them; the volume is the same.
    """

    stage: Literal[1, 2, 3] = 3
    """What is divided within a step: 1 moments, 2 gradients too, 3 weights too."""
    replicas: Count = 1
    """Groups of processes that each hold all pieces, such as the nodes of a cluster; 1 for no copies."""
    offload: bool = False
    """Whether weights, gradients and moments lie in the CPU's memory between steps, and the update is computed there
    (Ren et al. 2021, ZeRO-Offload; PyTorch's `CPUOffloadPolicy`)."""

    @property
    def in_words(self) -> str:
        """The stage, and the number of replicas if there are several."""
        return f"sharded, stage {self.stage}" + (f", {self.replicas} replicas" if self.replicas > 1 else "")

    def axes(self, processes: int) -> dict[str, int]:
        """Return the axes of replicas and of shards; `UsageError` if the first do not divide the processes."""
        if processes % self.replicas:
            raise UsageError(f"run.parallel.replicas: {self.replicas} replicas cannot be made of {processes} "
                             f"process{'es' if processes > 1 else ''}; take a divisor of that")  # fmt: skip
        return {COPIES: self.replicas, SHARDS: processes // self.replicas}

    def check(self, learner: nn.Module, device: str) -> None:
        """Check that no module needs whole weights, and that there is a device to offload from (UsageError)."""
        for module in learner.modules():
            if isinstance(module, WholeWeights):
                raise UsageError(f"run.parallel: this model cannot be sharded, as {module.why_whole}; "
                                 "take parallel=Replicated")  # fmt: skip
        if self.offload and device == "cpu":
            raise UsageError("run.parallel.offload: all lies in the CPU's memory already; leave it out")

    def place(self, learner: nn.Module, world: World, mesh: DeviceMesh | None) -> nn.Module:
        """Shard the learner in place, and return it; with one process all stays whole."""
        if mesh is None or mesh[SHARDS].size() * mesh[COPIES].size() == 1:
            learner.to(world.device)
            return learner
        if world.splits == 1:  # else they began alike before they were split
            begin_alike(learner)
        before = {name: piece_of(weight) or Piece(tuple(weight.shape)) for name, weight in learner.named_parameters()}
        lengths = {name: weight.shape[0] if weight.ndim else 0 for name, weight in learner.named_parameters()}
        _shard(learner, mesh, self)
        shards, copy = mesh[SHARDS], mesh[COPIES].get_local_rank()
        for name, weight in learner.named_parameters():
            piece = before[name]
            own = Division(0, lengths[name], shards.get_group(), shards.get_local_rank(), shards.size())
            set_piece(weight, replace(piece, divisions=(*piece.divisions, own), owner=piece.owner and copy == 0))
        return learner

    def accumulate(self, module: nn.Module, *, last: bool) -> AbstractContextManager[object]:
        """Return the context of a micro-batch's passes, after telling the module what it may keep until the next."""
        if isinstance(module, FSDPModule):
            module.set_reshard_after_backward(last or self.stage == 3)
            module.set_requires_gradient_sync(last or self.stage > 1)
            if self.replicas > 1:
                module.set_requires_all_reduce(last)
        return nullcontext()


def begin_alike(learner: nn.Module) -> None:
    """Give all processes the weights of the first."""
    for tensor in (*learner.parameters(), *learner.buffers()):
        distributed.broadcast(tensor.detach(), 0)


def _shard(learner: nn.Module, mesh: DeviceMesh, choice: Sharded) -> None:
    """Apply FSDP2 to the layers of all stacks and then to the rest; gradients are summed."""
    over = mesh[SHARDS] if mesh[COPIES].size() == 1 else mesh[COPIES, SHARDS]
    policy = CPUOffloadPolicy() if choice.offload else OffloadPolicy()
    options: dict[str, Any] = {"mesh": over, "offload_policy": policy}
    for layers in layers_together(learner):
        fully_shard(layers, reshard_after_forward=choice.stage == 3, **options)
    fully_shard(learner, reshard_after_forward=False, **options)
    for module in learner.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def layers_together(learner: nn.Module) -> list[list[nn.Module]]:
    """Return the layers of all stacks, one by one; those that share weights together, as FSDP2 needs it.

    Layers that share weights with other modules are left out.
    """
    stacks = [module for name, module in learner.named_modules() if name.rpartition(".")[2] == LAYERS]
    layers = [*dict.fromkeys(layer for stack in stacks for layer in stack.children())]
    inside = {id(module) for layer in layers for module in layer.modules()}
    others = [module for module in learner.modules() if id(module) not in inside]
    outside = {id(weight) for module in others for weight in module.parameters(recurse=False)}
    groups: list[tuple[set[int], list[nn.Module]]] = []
    for layer in layers:
        weights = {id(weight) for weight in layer.parameters()}
        alike = [group for group in groups if group[0] & weights]
        groups = [group for group in groups if not group[0] & weights]
        groups.append((weights.union(*(own for own, _ in alike)), [*(one for _, own in alike for one in own), layer]))
    return [own for weights, own in groups if weights and not weights & outside]
