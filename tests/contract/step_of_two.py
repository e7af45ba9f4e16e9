"""What two processes of `torchrun` do in a test: the same step of every member, replicated and sharded.

The first argument is a folder with `<row>.pt`: a recipe as JSON and the micro-batches of a step. Both processes read
it; the first writes `<row>.found` beside it.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from genus.errors import UsageError
from genus.objectives import answering
from genus.optim.adamw import AdamW
from genus.recipe import Recipe
from genus.train.data import MicroBatch
from genus.train.run import Run
from genus.train.step import TrainStep
from genus.train.world import init_distributed

if TYPE_CHECKING:
    from genus.batch import Batch
    from genus.objectives import Learner
    from genus.train.world import World

SMOOTH = AdamW(lr=0.1, eps=1.0, weight_decay=0.0)
"""Whose first update is lr g / (|g| + 1): no small difference of gradients is a large one of weights."""
RUN = Run(device="cpu", precision="float32")


def make(recipe: Recipe) -> Learner:
    """Return the learner with fresh weights, the same in every process."""
    torch.manual_seed(0)
    return recipe.learner()


def sharded(learner: Learner) -> Learner:
    """Return the learner with its parameters spread over the processes, layer by layer of every stack.

    Layers that share weights, as those of an encoder and its decoder can, are spread together, as PyTorch asks for.
    """
    stacks = [module for name, module in learner.network.named_modules() if name.rpartition(".")[2] == "layers"]
    together: dict[int, list[nn.Module]] = {}
    for layer in dict.fromkeys(layer for stack in stacks for layer in stack.children()):
        together.setdefault(id(next(layer.parameters())), []).append(layer)
    for layers in together.values():
        fully_shard(layers)
    fully_shard(learner)
    return learner


def step(learner: Learner, batches: list[Batch], world: World) -> dict[str, Any]:
    """Return loss, gradient norm and weights after one step, of which this process takes its part, and then answers."""
    own = {n: MicroBatch(batch, 0.0) for n, batch in enumerate(batches) if n % world.size == world.rank}
    train_step = TrainStep(learner, SMOOTH, RUN, world, seed=0)
    counts = train_step.count(own)
    result = train_step({n: one.batch for n, one in own.items()}, 0, 1.0, counts.targets).read()
    assert result.finite
    weights = {
        name: (weight.full_tensor() if isinstance(weight, DTensor) else weight).detach()
        for name, weight in learner.named_parameters()
    }
    found = {"loss": result.loss, "norm": result.gradient_norm, "tokens": counts.tokens, "weights": weights}
    return found | {"outputs": outputs(learner, batches[0])}


def outputs(learner: Learner, batch: Batch) -> dict[str, torch.Tensor]:
    """Return what the heads answer whose targets are in a batch, which is the same in all processes."""
    heads = frozenset(name for name, head in learner.heads.items() if head.target in batch.targets)
    memory = learner.network.initial_memory(batch.tokens.rows)
    with answering(learner):
        found = learner.outputs(replace(batch, memory=memory, heads=heads))
    return {f"{head}/{name}": value for head, one in found.items() for name, value in one.items()}


def main(folder: Path) -> None:
    """Make the steps of all rows in the folder."""
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    world = init_distributed(Run(device="cpu"))
    for path in sorted(folder.glob("*.pt")):
        given = torch.load(path, weights_only=False)
        recipe, found = Recipe.from_json(given["recipe"]), {}
        for kind in ("replicated", "sharded"):
            learner = make(recipe)
            try:
                found[kind] = step(sharded(learner) if kind == "sharded" else learner, given["batches"], world)
            except UsageError as error:
                found[kind] = str(error)
        if world.rank == 0:
            torch.save(found, path.with_suffix(".found"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
