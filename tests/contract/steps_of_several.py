"""What several processes do in a test: the same steps of every member, in every way of parallelism.

They are given a folder with `<row>.pt`: a recipe as JSON, micro-batches, and ways of parallelism by name as
JSON. All processes read it; the first writes `<row>.found` beside it.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from genus.errors import UsageError
from genus.objectives import answering
from genus.optim.adamw import AdamW
from genus.optim.pieces import piece_of, whole
from genus.recipe import Recipe
from genus.train.data import MicroBatch
from genus.train.parallel import Parallel
from genus.train.run import Run
from genus.train.step import TrainStep
from genus.train.world import World, init_distributed

if TYPE_CHECKING:
    from pathlib import Path

    from genus.batch import Batch
    from genus.objectives import Learner
    from genus.optim import Optimizer

SMOOTH = AdamW(lr=0.03, eps=1.0, weight_decay=0.0, clip_norm=None)
"""Whose first update is lr g / (|g| + 1): no small difference of gradients is a large one of weights. Gradients are not
clipped, since the norm of one process is off by 2e-4 in float32 (see `train/test_runs_in_pieces.py` for clipping)."""
RUN = Run(device="cpu", precision="float32")
MICRO_BATCHES = 4
"""Of a step: with two processes each accumulates two."""


def make(recipe: Recipe) -> Learner:
    """Return the learner with fresh weights, the same in every process."""
    torch.manual_seed(0)
    return recipe.learner()


def steps(
    learner: Learner, batches: list[Batch], world: World, number: int, run: Run = RUN, choice: Optimizer = SMOOTH
) -> dict[str, Any]:
    """Return losses, gradient norms and weights after some steps, of which this process takes its part, and answers."""
    train_step = TrainStep(learner, choice, run, world, seed=0)
    found: dict[str, Any] = {"loss": [], "norm": [], "tokens": [], "exact": []}

    def sum_squares(*_: object) -> None:
        gradients = [weight.grad for weight in train_step.parameters if weight.grad is not None]
        found["exact"].append(sum(float(one.double().square().sum()) for one in gradients) ** 0.5)

    train_step.optimizer.register_step_pre_hook(sum_squares)
    for step in range(number):
        of_step = [batches[(step * MICRO_BATCHES + n) % len(batches)] for n in range(MICRO_BATCHES)]
        own = {
            step * MICRO_BATCHES + n: MicroBatch(batch, 0.0)
            for n, batch in enumerate(of_step)
            if n % world.data_size == world.data_rank
        }
        counts = train_step.count(own)
        result = train_step({n: one.batch for n, one in own.items()}, 0, 1.0, counts.targets).read()
        assert result.finite
        assert train_step.weights_are_finite()
        for name, value in (("loss", result.loss), ("norm", result.gradient_norm), ("tokens", counts.tokens)):
            found[name].append(value)
    held = {name: weight for name, weight in learner.held().items() if isinstance(weight, torch.nn.Parameter)}
    found["pieces"] = sum(bool((piece := piece_of(weight)) and piece.divisions) for weight in held.values())
    weights = {name: whole(weight).clone() for name, weight in held.items()}
    return found | {"weights": weights, "outputs": outputs(learner, batches[0])}


def outputs(learner: Learner, batch: Batch) -> dict[str, torch.Tensor]:
    """Return what the heads answer whose targets are in a batch, which is the same in all processes."""
    heads = frozenset(name for name, head in learner.heads.items() if head.target in batch.targets)
    memory = learner.network.initial_memory(batch.tokens.rows)
    with answering(learner):
        found = learner.outputs(replace(batch, memory=memory, heads=heads))
    return {f"{head}/{name}": value for head, one in found.items() for name, value in one.items()}


def main(folder: Path) -> None:
    """Make the steps of all rows in the folder, in every way that the row asks for."""
    warnings.simplefilter("error")
    for path in sorted(folder.glob("*.pt")):
        given = torch.load(path, weights_only=False)
        recipe, found = Recipe.from_json(given["recipe"]), dict[str, Any]()
        for name, way in given["ways"].items():
            run = replace(RUN, parallel=Parallel.from_json(way))
            try:
                world = init_distributed(run)
                found[name] = steps(make(recipe), given["batches"], world, given["steps"], run)
            except UsageError as error:
                found[name] = str(error)
        if world.rank == 0:
            torch.save(found, path.with_suffix(".found"))

