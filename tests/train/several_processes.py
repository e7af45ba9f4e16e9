"""What each process of `torchrun` does in tests of runs in pieces: the scene that is named, in a folder.

several_processes.py SCENE FOLDER
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from toy_run import RUN, STILL, ToyFeed, toy_learner, toy_train

from genus.batch import Batch, Targets
from genus.errors import GenusError
from genus.optim import Optimizer
from genus.optim.adamw import AdamW
from genus.optim.pieces import held, whole
from genus.train.agreement import check_processes
from genus.train.data import MicroBatch, TrainStage
from genus.train.parallel import Parallel
from genus.train.parallel.tensor import TensorParallel
from genus.train.step import TrainStep
from genus.train.tensor_files import TensorFile
from genus.train.world import init_distributed, restarted
from hand import equal_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from genus.objectives import Learner
    from genus.train.loop import Summary
    from genus.train.run import Run
    from genus.train.world import World

RANK = int(os.environ.get("RANK", "0"))
ACCUMULATE = 4
LARGER = STILL.overlay({"hidden": 64, "feedforward": {"size": 128}, "attention": {"bias": False}})
"""Without biases of keys, whose gradient is 0 but for rounding, which moments divide by itself."""
STEPS = 4
SCALES: dict[str, dict[str, Any]] = {
    "loss_scale": {"kind": "PostNorm"},
    "gradient_scale/smallest": {"kind": "GradientScaled", "block": {"kind": "PostNorm"}},
}
"""Metrics of scales, and blocks that have them."""
SEQUENCES: dict[str, Parallel] = {"matrices": TensorParallel(), "sequence": TensorParallel(sequence=True)}


def train(folder: Path, way: str, **changes: Any) -> Summary:
    """Run the tiny run in a way of parallelism, given as JSON."""
    stages = [TrainStage(ToyFeed(), ACCUMULATE, 0.6), TrainStage(ToyFeed(salt=1), ACCUMULATE, 0.4)]
    run = replace(RUN, parallel=Parallel.from_json(json.loads(way)), **changes.pop("run", {}))
    learner = toy_learner(seed=changes.pop("seed", 0), model=STILL)
    return toy_train(folder, learner=learner, stages=stages, run=run, choices=STILL, **changes)


def publish(folder: Path, learner: Learner) -> None:
    """Write the tensors of the learner, of which each is read once and then forgotten."""
    save_file({name: tensor.clone() for name, tensor in learner.tensors().items()}, folder / "published.safetensors")


def runs(folder: Path) -> None:
    """Make the runs that `runs.json` lists: way, folder, and whether to resume."""
    for way, name, resume in json.loads((folder / "runs.json").read_text()):
        own = folder / name
        own.mkdir(exist_ok=True)
        train(own, json.dumps(way), resume=resume, seed=RANK, publish=lambda learner, own=own: publish(own, learner))


def optimizers(folder: Path) -> None:
    """Make a few steps by each optimizer in each way that `optimizers.json` lists."""
    ways, choices = json.loads((folder / "optimizers.json").read_text())
    for name, way in ways.items():
        for kind, choice in choices.items():
            found = some_steps(Optimizer.from_json(choice), json.dumps(way))
            if RANK == 0:
                torch.save(found, folder / f"{name}-{kind}.found")


def some_steps(choice: Optimizer, way: str) -> dict[str, Any]:
    """Return weights and norms after some steps, and the bytes that this process held when it made the last update."""
    run = replace(RUN, parallel=Parallel.from_json(json.loads(way)))
    world, learner = init_distributed(run), toy_learner(model=LARGER)
    train_step, sizes = TrainStep(learner, choice, run, world, seed=0), dict[str, int]()

    def count(*_: object) -> None:
        own = train_step.parameters
        states = [value for state in train_step.optimizer.state.values() for value in state.values()]
        sizes["weights"] = sum(weight.nbytes for weight in own)
        sizes["gradients"] = sum(weight.grad.nbytes for weight in own if weight.grad is not None)
        sizes["moments"] = sum(value.nbytes for value in states if isinstance(value, torch.Tensor) and value.ndim)

    train_step.optimizer.register_step_post_hook(count)
    norms = []
    for step in range(STEPS):
        numbers = range(step * ACCUMULATE + world.data_rank, (step + 1) * ACCUMULATE, world.data_size)
        own = {number: MicroBatch(ToyFeed()[number], 0.0) for number in numbers}
        counts = train_step.count(own)
        result = train_step({number: one.batch for number, one in own.items()}, 0, 1.0, counts.targets).read()
        norms.append(result.gradient_norm)
    weights = {name: whole(weight).clone() for name, weight in learner.held().items()}
    return {"weights": weights, "norms": norms, "bytes": sizes}


def overflow(folder: Path) -> None:
    """Make a few steps in float16, in each way of `optimizers.json` and with tokens split; step 1 overflows."""
    ways = json.loads((folder / "optimizers.json").read_text())[0] | {"sequence": SEQUENCES["sequence"].to_json()}
    for name, way in ways.items():
        for scale in SCALES:
            torch.save(half_steps(json.dumps(way), scale), folder / f"{name}-{scale.partition('/')[0]}-{RANK}.found")


def half_steps(way: str, scale: str) -> dict[str, Any]:
    """Return which of some steps in float16 were skipped, scales, losses, and weights at the end.

    Args:
        way: of parallelism, as JSON.
        scale: one of `SCALES`.
    """
    run = replace(RUN, parallel=Parallel.from_json(json.loads(way)), precision="float16")
    world, learner = init_distributed(run), toy_learner(model=LARGER.overlay({"block": SCALES[scale]}))
    train_step = TrainStep(learner, AdamW(lr=1e-3, eps=1e-3), run, world, seed=0)
    found: dict[str, Any] = {"skipped": [], "scale": [], "loss": []}
    wrong = False

    def spoil(_: object, __: object, x: torch.Tensor) -> None:
        if wrong and x.requires_grad:
            x.register_hook(lambda gradient: gradient * torch.inf)  # type: ignore[no-untyped-call]

    learner.network.embed.register_forward_hook(spoil)  # type: ignore[union-attr]
    for step in range(STEPS):
        wrong = step == 1 and world.rank == world.size - 1
        numbers = range(step * ACCUMULATE + world.data_rank, (step + 1) * ACCUMULATE, world.data_size)
        own = {number: MicroBatch(ToyFeed()[number], 0.0) for number in numbers}
        counts = train_step.count(own)
        result = train_step({number: one.batch for number, one in own.items()}, 0, 1.0, counts.targets).read()
        found["skipped"].append(result.skipped)
        found["scale"].append(result.means[scale])
        found["loss"].append(result.loss)
    return found | {"weights": {name: whole(weight).clone() for name, weight in learner.held().items()}}


def tokens(folder: Path) -> None:
    """Make a few steps with tokens that are split in each way of `SEQUENCES`, and note what each process keeps."""
    for name, way in SEQUENCES.items():
        torch.save(token_steps(way), folder / f"{name}-tokens-{RANK}.found")


def token_steps(way: Parallel) -> dict[str, Any]:
    """Return losses, weights, and bytes kept for the backward pass, of steps of 33 and of 32 tokens."""
    run = replace(RUN, parallel=way)
    world, learner = init_distributed(run), toy_learner(model=LARGER)
    train_step, sizes, losses = TrainStep(learner, AdamW(lr=1e-3, eps=1e-3), run, world, seed=0), [], []
    for step, rows in enumerate(((3, 11), (2, 16))):
        batch = odd(rows)
        counts = train_step.count({step: MicroBatch(batch, 0.0)})
        with kept_bytes(learner) as size:
            losses.append(train_step({step: batch}, 0, 1.0, counts.targets).read().loss)
        sizes.append(size())
    weights = {name: whole(weight).clone() for name, weight in learner.held().items()}
    found = {"loss": losses, "weights": weights, "bytes": sizes, "drawn": drawn(way, world)}
    return found | {what: dropped_out(replace(run, recompute=what), world) for what in ("nothing", "layers")}


def dropped_out(run: Run, world: World) -> list[torch.Tensor]:
    """Return the pieces of weights after a step with dropout."""
    learner, batch = toy_learner(model=LARGER.override("dropout", "0.5")), odd((3, 11))
    train_step = TrainStep(learner, AdamW(lr=1e-2), run, world, seed=0)
    train_step({0: batch}, 0, 1.0, train_step.count({0: MicroBatch(batch, 0.0)}).targets)
    return [held(weight).detach().clone() for weight in learner.held().values()]


def odd(rows: tuple[int, int]) -> Batch:
    """Return a batch of rows x length tokens, of which the first of each row is a target."""
    ids = torch.arange(rows[0] * rows[1]).view(rows) % 35 + 5
    index = torch.arange(0, rows[0] * rows[1], rows[1])
    return Batch({"tokens": equal_rows(ids)}, {"masked_lm": Targets(index, ids[:, 0].clone())})


@contextmanager
def kept_bytes(learner: Learner) -> Iterator[Callable[[], int]]:
    """Count the bytes of tensors that are kept for the backward pass, without weights, each memory once."""
    own = {one.untyped_storage().data_ptr() for one in (*learner.parameters(), *learner.buffers())}
    found: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and tensor.is_floating_point():
            found[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield lambda: sum(storage.nbytes() for storage in found.values())


def drawn(way: Parallel, world: World) -> torch.Tensor:
    """Return which states of the first residual connection dropout lets through, of this process's tokens."""
    learner, found = toy_learner(model=LARGER.override("dropout", "0.5")), list[torch.Tensor]()
    run = replace(RUN, parallel=way)
    train_step = TrainStep(learner, AdamW(lr=0.0), run, world, seed=0)
    layer = learner.network.layers[0]  # type: ignore[index]
    layer.dropout.register_forward_hook(lambda _, __, out: found.append(out.detach() != 0))
    batch = odd((2, 16))
    train_step({0: batch}, 0, 1.0, train_step.count({0: MicroBatch(batch, 0.0)}).targets)
    return found[0]


def killed(folder: Path) -> None:
    """Train; the second process kills itself once, after step 6."""
    calls = iter(range(1, 100))

    def kill(learner: Learner) -> dict[str, float]:
        if next(calls) == 6 and RANK == 1 and not restarted():
            (folder / "moment").write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)
        return {}

    way = (folder / "way.json").read_text()
    try:
        train(folder, way, evaluate=kill, resume=restarted(), run={"evaluate_every": 1, "checkpoint_every": 2})
    except GenusError as error:
        print(f"genus: error: {error}", file=sys.stderr)
        sys.exit(1)


def full_disk(folder: Path) -> None:
    """Train; the second process cannot write its second checkpoint."""
    written, write = iter(range(100)), TensorFile.write

    def fail(self: TensorFile, path: Path) -> None:
        if RANK == 1 and next(written) == 2:  # weights and moments make two files a checkpoint
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, path)

    TensorFile.write = fail  # type: ignore[method-assign]
    try:
        train(folder, (folder / "way.json").read_text(), run={"checkpoint_every": 2})
    except GenusError as error:
        print(f"genus: error: {error}", file=sys.stderr)
        sys.exit(1)


def disagreement(folder: Path) -> None:
    """Begin with other choices in the second process."""
    try:
        check_processes(RUN, STILL if RANK == 0 else LARGER)
    except GenusError as error:
        (folder / f"told-{RANK}").write_text(str(error))


SCENES = {
    "runs": runs, "optimizers": optimizers, "overflow": overflow, "tokens": tokens, "killed": killed,
    "full disk": full_disk, "disagreement": disagreement,
}  # fmt: skip


def main(scenes: str, folder: Path) -> None:
    """Do what the scenes say, one after the other."""
    for scene in scenes.split(","):
        SCENES[scene](folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], Path(sys.argv[2]))
