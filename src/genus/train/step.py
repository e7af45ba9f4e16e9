"""One update of a learner: the micro-batches of a step in, new weights and the step's losses out."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from genus.model.compile import compile_learner
from genus.optim.foreach import ForeachOptimizer
from genus.optim.groups import by_depth
from genus.train.memory import Memories
from genus.train.precision import autocast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from genus.batch import Batch
    from genus.objectives import Learner, Step, Sums
    from genus.optim import Optimizer
    from genus.train.data import MicroBatch
    from genus.train.run import Run
    from genus.train.world import World


@dataclass(frozen=True)
class StepCounts:
    """What is known of a step before it is made, over all processes, by one small all-reduce on the CPU."""

    targets: Sums
    """Targets of each loss."""
    tokens: int
    """Tokens that are no padding."""
    flops: float
    """Model FLOPs of the step, forward and backward: of sequences of the lengths that they have."""
    epochs: float
    """Passes over the data."""
    seconds: float
    """Time since the step before was counted, without evaluation and checkpoints: the mean over the processes."""
    stops: bool
    """A process was asked to stop."""


@dataclass(frozen=True)
class StepResult:
    """What one update did, the same on every process."""

    loss: float
    """The number that was minimized."""
    means: dict[str, float]
    """Every loss, and every further sum, per target."""
    gradient_norm: float
    """Before clipping."""
    lr: float
    """The base learning rate times the schedule's factor."""
    finite: bool
    """False: this or an earlier loss or gradient is not finite, and the weights were left as they were."""


class PendingResult:
    """The result of an update, which the device may not have finished; only `read` waits for it."""

    def __init__(self, losses: Sums, norm: Tensor, loss: Tensor, failed: Tensor, counts: Sums, lr: float) -> None:
        self.names, self.counts, self.lr = list(losses), counts, lr
        values = torch.stack([loss.detach().float(), norm.detach().float(), failed, *losses.values()])
        self.ready: torch.cuda.Event | None = None
        self.values = values
        if values.is_cuda:
            self.values = torch.empty(values.shape, pin_memory=True)
            self.values.copy_(values, non_blocking=True)
            self.ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.ready.record()

    def read(self) -> StepResult:
        """Return the result, once the device has come so far."""
        if self.ready is not None:
            self.ready.synchronize()
        loss, norm, failed, *sums = self.values.tolist()
        losses = {name: torch.tensor(value) for name, value in zip(self.names, sums, strict=True)}
        return StepResult(loss, means(losses, self.counts), norm, self.lr, failed == 0)


class TrainStep:
    """Makes updates: the same ones for any number of processes, workers and earlier interruptions.

    Nothing in it waits for the device. A loss or a gradient that is not finite sets `failed`, which stops this update
    and all later ones on the device (`found_inf` of fused optimizers), until somebody reads the result.
    """

    def __init__(self, learner: Learner, choice: Optimizer, run: Run, world: World, seed: int) -> None:
        self.learner, self.choice, self.world, self.precision, self.seed = learner, choice, world, run.precision, seed
        self.optimizer = choice.build(learner)
        self.memories = Memories()
        if choice.layer_decay != 1:
            by_depth(self.optimizer, learner.network.layer_groups(), choice.layer_decay)
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        if run.compile:
            compile_learner(learner.network, learner.compile_units())
        self.replica = world.replicate(learner)
        self.failed = torch.zeros((), device=world.device)
        groups = self.optimizer.param_groups
        self.stoppable = isinstance(self.optimizer, ForeachOptimizer) or all(group.get("fused") for group in groups)
        if self.stoppable:
            self.optimizer.found_inf = self.failed  # type: ignore[attr-defined]

    def count(
        self,
        batches: Mapping[int, MicroBatch],
        flops_of: Callable[[Mapping[str, Sequence[int]]], float] | None = None,
        seconds: float = 0.0,
        *,
        stop: bool = False,
    ) -> StepCounts:
        """Return what all processes are about to do, of which this one's micro-batches are a part."""
        each = [self.learner.counts(one.batch) for one in batches.values()]
        own = [sum(counts[name].item() for counts in each) for name in each[0]]
        tokens = sum(one.batch.tokens.tokens for one in batches.values())
        epochs = sum(one.epochs for one in batches.values())
        flops = sum(flops_of(one.batch.lengths()) for one in batches.values()) if flops_of else 0.0
        rest = [tokens, flops, epochs, seconds, float(stop)]
        *totals, every, flops, epochs, seconds, stops = self.world.sum([*own, *rest])
        targets = {name: torch.tensor(total) for name, total in zip(each[0], totals, strict=True)}
        return StepCounts(targets, int(every), flops, epochs, seconds / self.world.size, stops > 0)

    def __call__(self, batches: Mapping[int, Batch], stage: int, factor: float, counts: Sums) -> PendingResult:
        """Make one update from this process's micro-batches by number, at `factor` of the base learning rates.

        Targets were counted over the whole step (`counts`) before the first loss is divided by their number, so that
        every target weighs the same, whatever micro-batch or process it is in.
        """
        self.learner.train()
        sums = self._gradients(batches, stage, counts)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.choice.clip_norm or math.inf)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        loss = self.learner.objective(sums, counts)
        self.failed.copy_((self.failed > 0) | ~(loss.isfinite() & norm.isfinite()))
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        if self.stoppable or not self.failed.item():
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return PendingResult(sums, norm, loss, self.failed, counts, self.choice.lr * factor)

    def weights_are_finite(self) -> bool:
        """Return whether every weight is a finite number; this waits for the device."""
        with torch.no_grad():
            lengths = torch._foreach_norm([weight.detach() for weight in self.parameters], math.inf)
            return all(bool(length.isfinite()) for length in lengths)

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
            with self._communication(last=place == len(batches) - 1):
                with autocast(self.precision, self.world.device):
                    step: Step = self.replica(batch)
                self.learner.objective(step.sums, counts).backward()  # type: ignore[no-untyped-call]
            self.memories.keep(batch, slot, step.memory)
            totals = {name: value.detach().float() + totals.get(name, 0.0) for name, value in step.sums.items()}
        summed = self.world.sum_tensor(torch.stack(list(totals.values())))
        return dict(zip(totals, summed.unbind(), strict=True))

    def _communication(self, *, last: bool) -> AbstractContextManager[object]:
        """Return the context of a micro-batch: gradients are summed over the processes in the last one alone."""
        replica = self.replica
        return replica.no_sync() if isinstance(replica, DistributedDataParallel) and not last else nullcontext()


def means(sums: Sums, counts: Sums) -> dict[str, float]:
    """Return every sum per target: `masked` by the count of `masked`, and so `masked/correct`."""
    return {name: total.item() / max(1.0, counts[name.split("/")[0]].item()) for name, total in sums.items()}
