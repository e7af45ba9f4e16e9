"""Training steps of one process and of several: tokens a second, and memory per process, in each way of parallelism.

    python benchmarks/parallel.py                                  # 1 and 2 processes on CPUs, a thread each
    python benchmarks/parallel.py --processes 4 --recipe bert/base

Each way runs in a start of `torchrun` of its own. A step has the same rows whatever the number of processes (strong
scaling): random tokens, 15 % of them masked. Told are the median step of those after the first ones, the share of the
ideal speed-up over one process, the bytes of weights, gradients and moments that the first process holds when it makes
an update, and its largest resident memory, with all libraries. Collectives are gloo's over the loopback device.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from genus.batch import Batch

RESULTS = Path(__file__).parent / "results" / "parallel-cpu.json"
ONE = {"replicated": {"kind": "Replicated"}}
WAYS: dict[str, dict[str, Any]] = ONE | {
    **{f"sharded, stage {stage}": {"kind": "Sharded", "stage": stage} for stage in (1, 2, 3)},
    "matrices split": {"kind": "TensorParallel"},
}
MASKED = 0.15
WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="bert/mini")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rows", type=int, default=8, help="of a micro-batch; a step has two")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5, help="measured, after a few")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--measure", metavar="WAY", help=argparse.SUPPRESS)
    parser.add_argument("--told", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options)
        return
    found: list[dict[str, Any]] = []
    for processes in options.processes:
        for way in options.ways if processes > 1 else ONE:
            found.append({"processes": processes, "way": way, **started(processes, way)})
            alone = found[0]["seconds_per_step"] if found[0]["processes"] == 1 else None
            row = found[-1]
            row["efficiency"] = alone and alone / row["seconds_per_step"] / processes
            kept, share = row["bytes"], row["efficiency"]
            cells = [processes, way, f"{row['tokens_per_second']:,.0f}", "" if share is None else f"{share:.0%}"]
            cells += [f"{sum(kept.values()) / 1e6:.1f} MB", f"{row['resident_bytes'] / 1e6:,.0f} MB"]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    write(options, found)


def started(processes: int, way: str) -> dict[str, Any]:
    """Return what a start of so many processes measures."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "told.json")
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        own = [__file__, *sys.argv[1:], "--measure", way, "--told", str(told)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([*torchrun, *own], env=environment, check=True, stdout=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads(told.read_text())
        return found


def measure(options: argparse.Namespace) -> None:
    """Make steps as one of the processes; the first one writes what they took."""
    from genus import catalog
    from genus.train.data import MicroBatch
    from genus.train.parallel import Parallel
    from genus.train.run import Run
    from genus.train.step import TrainStep
    from genus.train.world import init_distributed

    run = Run(device="cpu", precision="float32", threads=1, parallel=Parallel.from_json(WAYS[options.measure]))
    recipe, world = catalog.load(options.recipe), init_distributed(run)
    torch.manual_seed(recipe.seed)
    step, sizes, seconds = TrainStep(recipe.learner(), recipe.optimizer, run, world, recipe.seed), dict[str, int](), []

    def count(*_: object) -> None:
        states = [value for state in step.optimizer.state.values() for value in state.values()]
        sizes["weights"] = sum(weight.nbytes for weight in step.parameters)
        sizes["gradients"] = sum(weight.grad.nbytes for weight in step.parameters if weight.grad is not None)
        sizes["moments"] = sum(value.nbytes for value in states if torch.is_tensor(value) and value.ndim)

    step.optimizer.register_step_post_hook(count)
    batches = [batch(recipe.vocab_rows, options.rows, options.length, seed) for seed in range(2)]
    own = {
        number: MicroBatch(one, 0.0)
        for number, one in enumerate(batches)
        if number % world.data_size == world.data_rank
    }
    for _ in range(WARM_UP + options.steps):
        begun = time.perf_counter()
        step({number: one.batch for number, one in own.items()}, 0, 1.0, step.count(own).targets).read()
        seconds.append(time.perf_counter() - begun)
    if world.rank == 0:
        took, tokens = median(seconds[WARM_UP:]), 2 * options.rows * options.length
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        found = {
            "seconds_per_step": took,
            "tokens_per_second": tokens / took,
            "bytes": sizes,
            "resident_bytes": resident,
        }
        options.told.write_text(json.dumps(found))


def batch(vocab_size: int, rows: int, length: int, seed: int) -> Batch:
    """Return full rows of random tokens, of which some are to be restored."""
    from genus.batch import Batch, Packed, Targets

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocab_size, (rows * length,), generator=generator)
    index = torch.randperm(len(ids), generator=generator)[: round(MASKED * len(ids))]
    packed = Packed.laid(ids, [[length]] * rows, length, {"segment": torch.zeros_like(ids)})
    return Batch({"tokens": packed}, {"masked_lm": Targets(index, ids[index])}, heads=frozenset({"masked_lm"}))


def write(options: argparse.Namespace, found: list[dict[str, Any]]) -> None:
    """Write the results, with what they depend on."""
    from genus import catalog
    from genus.files import write_json
    from genus.train.provenance import surroundings

    told = {"recipe": options.recipe, "hash": catalog.load(options.recipe).hash(), "rows": 2 * options.rows}
    write_json(options.results, surroundings(torch.device("cpu")) | told | {"length": options.length, "ways": found})


if __name__ == "__main__":
    main()
