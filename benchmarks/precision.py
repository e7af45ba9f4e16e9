"""Seconds of a training step, and losses after some, of a row in every number format that the device has.

    python benchmarks/precision.py --recipe bert/base --length 512 --rows 32 --device cuda
    python benchmarks/precision.py --recipe bert/mini --length 128 --rows 8    # on a CPU: how far losses are apart

Sequences of random tokens fill the rows. A format that the device does not have is left out with the reason. Compiled,
unless `--eager`: torchao says that float8 is no faster otherwise.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from contenders import Levers, Ours, sequences, shared

from genus import catalog
from genus.errors import GenusError
from genus.files import write_json
from genus.train.provenance import surroundings
from genus.train.run import Run
from genus.train.step import TrainStep
from genus.train.timing import seconds_a_step
from genus.train.world import init_distributed

if TYPE_CHECKING:
    from genus.batch import Batch
    from genus.recipe import Recipe

RESULTS = Path(__file__).parent / "results"
FORMATS = ("float32", "bfloat16", "float16", "float8")
STEPS = 20
"""Of the losses."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="bert/mini")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=10.0, help="for which steps are counted, each")
    parser.add_argument("--eager", action="store_true", help="do not compile")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    work = shared(catalog.load(options.recipe))
    examples = sequences(work, np.full(options.rows, options.length))
    place = init_distributed(Run(device=options.device)).device
    batch = Ours(work.recipe, examples, options.length, Levers(compiled=False), place).batch
    found = []
    for precision in FORMATS:
        run = Run(device=options.device, compile=not options.eager).override("precision", precision)
        try:
            found.append({"precision": precision, **measured(work.recipe, batch, run, options)})
        except GenusError as error:
            found.append({"precision": precision, "left_out": str(error)})
        print(found[-1], flush=True)
    told = {"recipe": work.recipe.name, "length": options.length, "rows": options.rows, "eager": options.eager}
    name = f"precision-{work.recipe.name.replace('/', '-')}-{place.type}.json"
    write_json(options.out or RESULTS / name, {**surroundings(place), **told, "results": found})


def measured(recipe: Recipe, batch: Batch, run: Run, options: argparse.Namespace) -> dict[str, Any]:
    """Return seconds a step, tokens per second, and what the steps of a fresh learner are like."""
    seconds = seconds_a_step(recipe.learner, recipe.optimizer, lambda _: {0: batch}, run, options.seconds)
    losses, skipped = steps(recipe, batch, run)
    return {
        "seconds_a_step": seconds,
        "tokens_per_second": options.rows * options.length / seconds,
        "losses": losses,
        "skipped": skipped,
    }


def steps(recipe: Recipe, batch: Batch, run: Run) -> tuple[list[float], int]:
    """Return the losses of some steps on one batch, and how many of them were skipped."""
    world = init_distributed(run)
    torch.manual_seed(recipe.seed)
    learner = recipe.learner().to(world.device)
    train_step = TrainStep(learner, recipe.optimizer, run, world, recipe.seed)
    counts = learner.counts(batch)
    found = [train_step({number: batch}, 0, 1.0, counts).read() for number in range(STEPS)]
    return [one.loss for one in found], sum(one.skipped for one in found)


if __name__ == "__main__":
    main()
