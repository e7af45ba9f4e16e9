"""One update of a learner: the micro-batches of a step in, new weights and the step's losses out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from genus.model.speed import compile_learner
from genus.optim.groups import by_depth
from genus.train.memory import Memories
from genus.train.precision import autocast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genus.batch import Batch
    from genus.objectives import Learner, Step, Sums
    from genus.optim import Optimizer
    from genus.train.parallel import World
    from genus.train.run import Run


@dataclass(frozen=True)
class StepResult:
    """What one update did, the same on every process."""

    loss: float
    """The number that was minimized."""
    means: dict[str, float]
    """Every loss, and every further sum, per target."""
    gradient_norm: float
    """Before clipping."""
    tokens: int
    """Live tokens of all processes."""
    lr: float
    """The peak rate times the schedule's factor."""
    finite: bool
    """False: the loss or the gradient is not finite, and the weights were left as they were."""


class TrainStep:
    """Makes updates: the same ones for any number of processes, workers and earlier interruptions."""

    def __init__(self, learner: Learner, choice: Optimizer, run: Run, world: World, seed: int) -> None:
        self.learner, self.choice, self.world, self.precision, self.seed = learner, choice, world, run.precision, seed
        self.optimizer = choice.build(learner)
        self.memories = Memories()
        if choice.layer_decay != 1:
            by_depth(self.optimizer, learner.network.levels(), choice.layer_decay)
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        if run.compile:
            compile_learner(learner.network, learner.regions())

    def __call__(self, batches: Mapping[int, Batch], stage: int, factor: float) -> StepResult:
        """Make one update from this process's micro-batches by number, at `factor` of the peak rates.

        Targets are counted over the whole step before the first loss is divided by their number, so that every target
        weighs the same, whatever micro-batch or process it is in.
        """
        self.learner.train()
        counts, tokens = self._count(batches)
        sums = self._gradients(batches, stage, counts)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.choice.clip_norm or math.inf).item()
        loss = self.learner.objective(sums, counts).item()
        finite = math.isfinite(loss) and math.isfinite(norm)
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult(loss, means(sums, counts), norm, tokens, self.choice.lr * factor, finite)

    def _count(self, batches: Mapping[int, Batch]) -> tuple[Sums, int]:
        """Return the targets of the step by loss, and its live tokens, over all processes."""
        each = [self.learner.counts(batch) for batch in batches.values()]
        own = [sum(counts[name].item() for counts in each) for name in each[0]]
        *totals, tokens = self.world.sum([*own, sum(batch.tokens.live for batch in batches.values())])
        return {name: torch.tensor(total) for name, total in zip(each[0], totals, strict=True)}, int(tokens)

    def _gradients(self, batches: Mapping[int, Batch], stage: int, counts: Sums) -> Sums:
        """Leave the step's gradient in the parameters and return its sums, over all processes.

        What a forward pass draws (dropout) is keyed by the micro-batch: nothing is to be saved, and no process differs.
        """
        totals: Sums = {}
        for place, (number, batch) in enumerate(batches.items()):
            key = np.random.SeedSequence((self.seed, stage, number))
            torch.manual_seed(int(key.generate_state(1, np.uint64)[0]))
            slot = self.world.rank + place * self.world.size
            batch = self.memories.given(batch.to(self.world.device), self.learner.network, slot)
            with autocast(self.precision, self.world.device):
                step: Step = self.learner(batch)
            self.memories.keep(batch, slot, step.memory)
            self.learner.objective(step.sums, counts).backward()  # type: ignore[no-untyped-call]
            totals = {name: value.detach().float() + totals.get(name, 0.0) for name, value in step.sums.items()}
        self.world.sum_gradients(self.parameters)
        values = self.world.sum(torch.stack(list(totals.values())).tolist())
        return {name: torch.tensor(value) for name, value in zip(totals, values, strict=True)}


def means(sums: Sums, counts: Sums) -> dict[str, float]:
    """Return every sum per target: `masked` by the count of `masked`, and so `masked/correct`."""
    return {name: total.item() / max(1.0, counts[name.split("/")[0]].item()) for name, total in sums.items()}
