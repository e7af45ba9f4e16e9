"""What a layout needs of each device: bytes by kind, and seconds of a step by what they go to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from genus.cost import component_cost, stage_cost

if TYPE_CHECKING:
    from genus.plan.assumptions import Assumptions, Storage
    from genus.plan.layout import Layout
    from genus.recipe import Recipe
    from genus.stages import Stage


@dataclass(frozen=True, slots=True)
class Workload:
    """What a step of a recipe's stage takes, whatever the devices."""

    parameters: int
    frozen: int
    """Parameters of a teacher, which every device holds."""
    moments: int
    """Of the optimizer, per parameter."""
    layers: int
    rows: int
    """Of a step."""
    length: int
    flops: float
    """Of a step."""
    again: float
    """FLOPs of computing the forward pass once more, as a share of those of a step."""
    activations: float
    """Elements per token that are kept for the backward pass."""
    branches: float
    """Elements per token that sub-layers add to the hidden states."""

    @classmethod
    def of(cls, recipe: Recipe, stage: Stage) -> Workload:
        """Return the workload of a stage of a recipe."""
        wanted, costs = component_cost(recipe, stage.limits, recipe.task_steps(stage)), stage_cost(recipe, stage)
        return cls(
            parameters=wanted.parameters,
            frozen=wanted.frozen_parameters,
            moments=recipe.optimizer.moments,
            layers=max(1, wanted.layers),
            rows=stage.batch,
            length=stage.max_length,
            flops=costs.flops_step,
            again=costs.flops_forward / costs.flops_training,
            activations=wanted.activations,
            branches=wanted.branches,
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one device, by kind."""

    weights: float
    gradients: float
    optimizer: float
    working: float
    """Copies of weights in 16 bits, and whole layers that are gathered for a moment."""
    activations: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.states + self.working + self.activations

    @property
    def states(self) -> float:
        """What is there between steps."""
        return self.weights + self.gradients + self.optimizer

    def to_json(self) -> dict[str, float]:
        """Return the bytes by kind, and their sum."""
        return {**asdict(self), "total": self.total}


def memory(work: Workload, layout: Layout, storage: Storage, micro_batch: int) -> Memory:
    """Return the bytes of one device.

    Stage 1 divides moments, 2 gradients too, 3 weights too, of which two layers are then whole at a time. Split
    matrices divide all parameters, and of the activations what lies between a sub-layer's two ends (inputs of norms and
    of sub-layers are whole in every device, unless tokens are split).

    Source: Rajbhandari et al. 2020 (ZeRO), section 5; Korthikanti et al. 2022 (arXiv:2205.05198), equations 1, 2 and 4.
    """
    own = work.parameters / (layout.tensor * layout.pipeline)
    shares = [layout.data if layout.stage >= stage else 1 for stage in (1, 2, 3)]
    moments = (storage.master + storage.moments * work.moments) * own / shares[0]
    casts = storage.casts * own
    if layout.stage == 3:
        casts = 2 * own / (work.layers / layout.pipeline) * (storage.weights + storage.casts)
    return Memory(
        weights=storage.weights * (own / shares[2] + work.frozen),
        gradients=storage.gradients * own / shares[1],
        optimizer=moments,
        working=casts,
        activations=storage.activations * kept(work, layout) * micro_batch * work.length,
    )


def kept(work: Workload, layout: Layout) -> float:
    """Return the elements per token that one device keeps for the backward pass.

    Of a pipeline, the first stage keeps those of as many micro-batches as there are stages: the same as without.
    """
    whole = 2 * work.branches if layout.tensor > 1 and not layout.sequence else 0.0
    all_layers = whole + max(0.0, work.activations - whole) / layout.tensor
    if not layout.recompute:
        return all_layers
    inputs = work.branches / 2 / (layout.tensor if layout.sequence else 1)
    return inputs + all_layers / work.layers  # inputs of all layers, and everything of one


@dataclass(frozen=True, slots=True)
class Seconds:
    """Seconds of one step, by what they go to."""

    compute: float
    recompute: float
    tensor: float
    """Sums over the devices that split a layer's matrices."""
    data: float
    """Exchange of gradients and weights, as far as computation does not hide it."""
    bubble: float
    """Waiting for the first and the last stage of a pipeline."""
    update: float
    """Reading and writing weights and moments."""

    @property
    def total(self) -> float:
        """All of them."""
        return float(sum(asdict(self).values()))


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that one device sends in a step."""

    tensor: float
    data: float


def traffic(work: Workload, layout: Layout, storage: Storage, micro_batch: int) -> Traffic:
    """Return the bytes that one device sends in a step, with ring algorithms.

    An all-reduce of M bytes over n devices sends 2 (n - 1) / n M, gathering or scattering half of that. Every sub-layer
    is summed over its devices once forward and once backward, and once more where it is computed again; where tokens
    are split, they are gathered once more in the backward pass. Gradients are reduced once a step, from stage 2 on for
    every micro-batch; weights are gathered once a step in stages 1 and 2, and twice for every micro-batch in stage 3.

    Source: Shoeybi et al. 2019, section 3; Rajbhandari et al. 2020, section 7; Korthikanti et al. 2022, section 4.2.2.
    """
    t, d = layout.tensor, layout.data
    tokens = work.rows * work.length / d
    passes = (3 if layout.recompute else 2) + (0.5 if layout.sequence else 0.0)
    sums = passes * work.branches * tokens * storage.activations / layout.pipeline
    own = work.parameters / (t * layout.pipeline)
    micro = micro_batches(work, layout, micro_batch)
    gradients, weights = storage.gradients * own, storage.weights * own
    once = {
        0: 2 * gradients,
        1: gradients + weights,
        2: micro * gradients + weights,
        3: micro * (gradients + 2 * weights),
    }
    return Traffic(tensor=2 * (t - 1) / t * sums, data=(d - 1) / d * once[layout.stage])


def micro_batches(work: Workload, layout: Layout, micro_batch: int) -> int:
    """Return the micro-batches of one group in a step."""
    return work.rows // (layout.data * micro_batch)


def seconds(work: Workload, layout: Layout, given: Assumptions, micro_batch: int) -> Seconds:
    """Return the seconds of a step.

    A group that shares the data has several members in a machine, and so several of its adapters, if matrices are split
    among fewer devices than a machine has.

    Source: Narayanan et al. 2021 (arXiv:2104.04473), section 2.2: a pipeline of p stages waits (p - 1) / m of the time.
    """
    device = given.device
    rate = layout.devices * device.flops * given.efficiency
    compute = work.flops / rate
    again = work.again * compute if layout.recompute else 0.0
    sent = traffic(work, layout, given.storage, micro_batch)
    inside = device.link / 2
    within = layout.tensor <= device.machine
    machine = layout.devices <= device.machine
    members = max(1.0, device.machine / (layout.tensor * layout.pipeline))
    apart = inside if machine else min(inside, members * device.network)
    exposed = max(sent.data / apart * (1 - given.overlap), sent.data / apart - compute - again)
    own = memory(work, layout, given.storage, micro_batch)
    return Seconds(
        compute=compute,
        recompute=again,
        tensor=sent.tensor / (inside if within else device.network),
        data=exposed,
        bubble=(compute + again) * (layout.pipeline - 1) / micro_batches(work, layout, micro_batch),
        update=2 * own.states / device.bandwidth,
    )
