"""Training step: forward and backward passes of the micro-batches, gradient clipping, and one optimizer update."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from genus.batch import IGNORE
from genus.errors import UsageError
from genus.model.compile import compile_learner
from genus.model.gradient_scale import leave_gradients, scaled_branches
from genus.objectives.joint import joint_heads
from genus.optim.clipping import clip_gradients
from genus.optim.foreach import ForeachOptimizer
from genus.optim.groups import by_depth, frozen
from genus.train.block_scales import BlockScales
from genus.train.float8 import check_float8, convert_linear_maps
from genus.train.gradient_scaling import GradientScaling, LossScale
from genus.train.memory import Memories
from genus.train.noise_scale import NAME, NoiseScale
from genus.train.parallel.local import LocalParameters
from genus.train.precision import number_format
from genus.train.recompute import recompute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from genus.batch import Batch, Targets
    from genus.objectives import Learner, Step, Sums
    from genus.optim import Optimizer
    from genus.train.data import MicroBatch
    from genus.train.run import Run
    from genus.train.world import World


@dataclass(frozen=True)
class StepCounts:
    """Counts of a step over all processes, known before its forward pass from one small all-reduce on the CPU."""

    targets: Sums
    """Number of targets of each loss."""
    tokens: int
    """Real tokens, without padding."""
    flops: float
    """Model FLOPs of the step, forward and backward, from the true sequence lengths."""
    epochs: float
    """Fraction of a pass over the data."""
    seconds: float
    """Time since the previous step was counted, without evaluation and checkpoints: the mean over the processes."""
    stops: bool
    """Whether any process was asked to stop."""
    fails: bool
    """Whether any process could not write a checkpoint."""


@dataclass(frozen=True)
class StepResult:
    """The result of one update, the same on every process."""

    loss: float
    """The training objective that the update minimized."""
    means: dict[str, float]
    """Each loss, and each further sum, per target."""
    gradient_norm: float
    """Global L2 norm of the gradient before clipping."""
    lr: float
    """Learning rate: the peak rate times the schedule's factor."""
    finite: bool
    """False if this or an earlier loss or gradient is not finite; the update was then skipped, and the run ends."""
    skipped: bool = False
    """Whether the update was skipped because float16's gradients are not finite; the run goes on."""


class PendingResult:
    """The result of an update that the device may not have finished; only `read` synchronizes with the device."""

    def __init__(
        self, losses: Sums, norm: Tensor, loss: Tensor, scaling: GradientScaling, counts: Sums, lr: float
    ) -> None:
        self.names, self.counts, self.lr = list(losses), counts, lr
        found = (loss.detach().float(), norm.detach().float(), scaling.failed, scaling.skip)
        values = torch.stack([*found, *losses.values()])
        self.ready: torch.cuda.Event | None = None
        self.values = values
        if values.is_cuda:
            self.values = torch.empty(values.shape, pin_memory=True)
            self.values.copy_(values, non_blocking=True)
            self.ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.ready.record()

    def read(self) -> StepResult:
        """Wait until the device has finished the update, and return its result."""
        if self.ready is not None:
            self.ready.synchronize()
        loss, norm, failed, skip, *sums = self.values.tolist()
        losses = {name: torch.tensor(value) for name, value in zip(self.names, sums, strict=True)}
        return StepResult(loss, means(losses, self.counts), norm, self.lr, failed == 0, skip > 0)


class TrainStep:
    """Training step, whose updates do not depend on the number of processes and workers or on interruptions.

    It does not synchronize with the device. A loss or a gradient that is not finite sets `scaling.failed`, which skips
    this and all later updates on the device (`found_inf` of fused optimizers) until the result is read. In float16 it
    skips this one alone; then optimizers of others than fused kernels, whose moments would change, wait for the device.
    """

    def __init__(
        self,
        learner: Learner,
        choice: Optimizer,
        run: Run,
        world: World,
        seed: int,
        updated: Sequence[Sequence[str] | None] = (None,),
    ) -> None:
        """Build the optimizer.

        Args:
            learner: network and heads, on the world's device.
            choice: the update rule.
            run: run settings.
            world: the processes.
            seed: of random draws of the forward pass.
            updated: patterns of the names of the parameters that are updated, by stage; None: all.

        Raises:
            UsageError: no parameter has a name of one of the patterns; several processes, and a joint loss.
        """
        self.joint = joint_heads(learner)
        alone = [name for name, head in self.joint.items() if not head.gathers or world.data_size != world.size]
        if world.data_size > 1 and alone:
            raise UsageError(f"{min(alone)} compares all examples of an update; train it in one process")
        if choice.averages and run.parallel.divides:
            raise UsageError("optimizer: averages of weights are kept where a process has all of them; take "
                             "run.parallel=Replicated")  # fmt: skip
        self.learner, self.choice, self.world, self.seed = learner, choice, world, seed
        self.parallel, self.memories = run.parallel, Memories()
        self.replica = placed(learner, run, world)
        self.frozen = [frozen(learner, patterns) for patterns in updated]
        self.optimizer = choice.build(learner)
        if choice.layer_decay != 1:
            by_depth(self.optimizer, learner.network.layer_groups(), choice.layer_decay)
        self.local = LocalParameters(self.optimizer)
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.noise = NoiseScale(world) if run.noise_scale else None
        self.scaling = gradient_scaling(run.precision, world, learner, self.local)
        if self.noise and (self.joint or run.parallel.divides or self.scaling.skips):
            raise UsageError("run.noise_scale: not measured of losses that compare examples, nor of divided weights or "
                             "float16's scaled gradients")  # fmt: skip
        groups, here = self.optimizer.param_groups, {parameter.device for parameter in self.parameters}
        fused = all(group.get("fused") for group in groups)
        if self.scaling.skips:
            self.stoppable = fused and not choice.averages
        else:
            self.stoppable = fused or isinstance(self.optimizer, ForeachOptimizer)
        self.stoppable &= here <= {self.scaling.skip.device}  # not where the update is computed on the CPU
        if self.stoppable:
            self.optimizer.found_inf = self.scaling.skip  # type: ignore[attr-defined]

    def count(
        self,
        batches: Mapping[int, MicroBatch],
        flops_of: Callable[[Mapping[str, Sequence[int]]], float] | None = None,
        seconds: float = 0.0,
        *,
        stop: bool = False,
        fail: bool = False,
    ) -> StepCounts:
        """Return the counts of the next step, summed over the micro-batches of all processes."""
        each = [self.learner.counts(one.batch) for one in batches.values()]
        own = [sum(counts[name].item() for counts in each) for name in each[0]]
        tokens = sum(one.batch.tokens.tokens for one in batches.values())
        epochs = sum(one.epochs for one in batches.values())
        flops = sum(flops_of(one.batch.lengths()) for one in batches.values()) if flops_of else 0.0
        flags = [seconds, float(stop), float(fail)]
        *totals, every, flops, epochs, seconds, stops, fails = self.world.sum([*own, tokens, flops, epochs], flags)
        targets = {name: torch.tensor(total) for name, total in zip(each[0], totals, strict=True)}
        return StepCounts(targets, int(every), flops, epochs, seconds / self.world.size, stops > 0, fails > 0)

    def __call__(self, batches: Mapping[int, Batch], stage: int, factor: float, counts: Sums) -> PendingResult:
        """Make one update from this process's micro-batches by number, at `factor` times the peak learning rates.

        Losses are divided by the number of targets in the whole step (`counts`), so that every target has the same
        weight in whatever micro-batch or process it is.
        """
        self.learner.train()
        sums = self._gradients(batches, stage, counts)
        for parameter in self.frozen[stage]:
            parameter.grad = None  # optimizers pass over it, whatever kind they are
        self.local.take()
        self.scaling.unscale(self.parameters)
        norm = clip_gradients(self.parameters, self.choice).to(self.world.device)
        loss = self.learner.objective(sums, counts)
        self.scaling.update(loss.isfinite() & norm.isfinite())
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        if self.stoppable or not self.scaling.skip.item():
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.noise:
            sums, counts = sums | {NAME: self.noise.of_step(norm)}, counts | {NAME: torch.ones(())}
        measured = self.scaling.measured()
        sums, counts = sums | measured, counts | {name.split("/")[0]: torch.ones(()) for name in measured}
        self.local.release()
        return PendingResult(sums, norm, loss, self.scaling, counts, self.choice.lr * factor)

    def weights_are_finite(self) -> bool:
        """Return whether all weights of all processes are finite; this synchronizes with the device."""
        with torch.no_grad():
            lengths = torch._foreach_norm([weight.detach() for weight in self.parameters if weight.numel()], math.inf)
            (wrong,) = self.world.sum([], [float(not all(bool(length.isfinite()) for length in lengths))])
            return wrong == 0

    def _gradients(self, batches: Mapping[int, Batch], stage: int, counts: Sums) -> Sums:
        """Accumulate the step's gradient in the parameters, and return the loss sums over all processes.

        Random draws of the forward pass (dropout) are seeded by the micro-batch number, so that checkpoints save no
        random state and results do not depend on the number of processes.
        """
        totals: Sums = {}
        self.scaling.begin(len(batches))
        whole, cotangents = self._joint_losses(batches, stage)
        for place, (number, batch) in enumerate(batches.items()):
            slot = self.world.data_rank + place * self.world.data_size
            batch = self.memories.given(batch.to(self.world.device), self.learner.network, slot)
            batch = replace(batch, cotangents=cotangents.get(number, {}))
            with self.parallel.accumulate(self.replica, last=place == len(batches) - 1):
                step: Step = self._forward(batch, stage, number)
                loss = self.scaling.scaled(self.learner.objective(step.sums, counts))
                loss.backward()  # type: ignore[no-untyped-call]
            if self.noise and place == 0:
                fixed = {id(weight) for weight in self.frozen[stage]}
                learning = [weight for weight in self.parameters if id(weight) not in fixed]
                self.noise.first(learning, batch.tokens.rows, len(batches))
            self.memories.keep(batch, slot, step.memory)
            totals = {name: value.detach().float() + totals.get(name, 0.0) for name, value in step.sums.items()}
        self.parallel.finish(self.replica)
        totals |= whole
        summed = self.world.sum_tensor(torch.stack(list(totals.values())))
        return dict(zip(totals, summed.unbind(), strict=True))

    def _forward(self, batch: Batch, stage: int, number: int, **asked: str) -> Step:
        """Run the forward pass of a micro-batch, whose random draws are the same in every call."""
        key = np.random.SeedSequence((self.seed, stage, number))
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0]))
        with self.scaling.forward_pass():
            step: Step = self.replica(batch, **asked)
        return step

    def _joint_losses(self, batches: Mapping[int, Batch], stage: int) -> tuple[Sums, dict[int, dict[str, Tensor]]]:
        """Return joint losses of the whole step, and their gradients by micro-batch (`Batch.cotangents`).

        Gradient caching: a forward pass of all micro-batches without gradient gives what a joint loss compares, and the
        loss the gradient with respect to it, which `_gradients` then takes through each micro-batch by itself. So
        memory is that of one micro-batch, and dividing a step changes nothing. A step of one needs no such pass.

        Source: Gao et al. 2021 (arXiv:2101.06983), section 3.2.
        """
        losses: Sums = {}
        found: dict[int, dict[str, Tensor]] = {number: {} for number in batches}
        if not self.joint or (len(batches) == 1 and self.world.data_size == 1):
            return losses, found
        own = [replace(batch.to(self.world.device), heads=frozenset(self.joint)) for batch in batches.values()]
        with torch.no_grad():
            steps = [self._forward(one, stage, number, ask="precise") for number, one in zip(batches, own, strict=True)]
        for name, head in self.joint.items():
            compared = [step.outputs[name][head.compares].requires_grad_() for step in steps]
            loss = head.joint_loss(*gathered(compared, [one.targets[head.target] for one in own], self.world))
            for number, gradient in zip(batches, torch.autograd.grad(loss, compared), strict=True):
                found[number][head.loss] = gradient
            losses[head.loss] = loss.detach().float() / self.world.data_size  # each process has all of it
        return losses, found


def placed(learner: Learner, run: Run, world: World) -> nn.Module:
    """Prepare a learner for training, in place, as the run settings say, and return the module that a step calls.

    Raises:
        UsageError: the learner cannot be divided among processes, or computed again, as is asked for.
    """
    run.parallel.check(learner, world.device.type)
    if run.compile and run.parallel.splits > 1:
        raise UsageError("run.compile: matrices that are split among processes are not compiled; leave out one of both")
    recompute(learner, run.recompute)
    check_float8(run, world.device)
    if run.precision == "float8":
        convert_linear_maps(learner)
    if run.compile:
        learner.to(world.device)
        compile_learner(learner.network, learner.compile_units())
    return run.parallel.place(learner, world, world.mesh(run.parallel))


def gradient_scaling(precision: str, world: World, learner: Learner, local: LocalParameters) -> GradientScaling:
    """Return how gradients are scaled: in float16 by branches whose blocks say how, or by a loss scale; else not."""
    branches = [branch for branch, _ in scaled_branches(learner)]
    for branch in branches:
        leave_gradients(branch)
    if number_format(precision, world.device) is not torch.float16:
        return GradientScaling(precision, world)
    return BlockScales(precision, world, learner, local) if branches else LossScale(precision, world)


def gathered(own: list[Tensor], targets: list[Targets], world: World) -> tuple[list[Tensor], list[Targets]]:
    """Return what is compared, and its targets, of the micro-batches of all processes in the order of their numbers.

    Those of this process are the given ones, with respect to which the loss has a gradient. Process r has the places
    r, r + R, ... of a step; one that has a place less than others fills it with targets that do not count.
    """
    if world.data_size == 1:
        return own, targets
    places = int(max(world.gather(torch.tensor([len(own)], device=own[0].device))))
    compared: list[Tensor] = []
    asked: list[Targets] = []
    for place in range(places):
        there = place < len(own)
        mine, target = (own[place], targets[place]) if there else (own[0], targets[0])
        label = target.label if there else torch.full_like(target.label, IGNORE)
        vectors, labels, index = world.gather(mine.detach()), world.gather(label), world.gather(target.index)
        if there:
            vectors[world.rank] = mine
        compared += vectors
        asked += [replace(target, index=i, label=one, original=None) for i, one in zip(index, labels, strict=True)]
    return compared, asked


def means(sums: Sums, counts: Sums) -> dict[str, float]:
    """Return every sum per target; `masked_lm` and `masked_lm/correct` are divided by the count of `masked_lm`."""
    return {name: total.item() / max(1.0, counts[name.split("/")[0]].item()) for name, total in sums.items()}
