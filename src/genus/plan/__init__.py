"""Plans: which layout of devices trains a recipe, what it needs of each of them, and how long it takes.

All is computed from the recipe's choices and stated figures (`Assumptions`); nothing is built and nothing is measured.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from genus.plan.demand import Memory, Seconds, Workload, memory, micro_batches, seconds, traffic
from genus.plan.layout import Layout, layouts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genus.plan.assumptions import Assumptions
    from genus.recipe import Recipe
    from genus.stages import Stage

ALIKE = 0.99
"""Share of the highest speed from which on a layout counts as just as fast, and the simplest is taken."""
DAY, HOUR = 86_400.0, 3_600.0


@dataclass(frozen=True)
class Plan:
    """One layout with its largest micro-batch that fits, or, where none fits, with one row."""

    layout: Layout
    micro_batch: int
    """Rows."""
    memory: Memory
    seconds: Seconds
    """Of a step."""
    traffic: dict[str, float]
    """Bytes that one device sends in a step."""
    fits: bool
    work: Workload
    given: Assumptions

    @property
    def tokens_per_second(self) -> float:
        """Of all devices together."""
        return self.work.rows * self.work.length / self.seconds.total

    @property
    def most_rows(self) -> int:
        """Rows of the largest micro-batch for which there is memory, whatever the step has; 0: not even for one."""
        free = self.given.memory - self.memory.states - self.memory.working
        return max(0, int(free // (self.memory.activations / self.micro_batch)))

    @property
    def achieved(self) -> float:
        """FLOP/s of one device, computing again included, as Megatron-LM counts them."""
        done = self.work.flops * (1 + (self.work.again if self.layout.recompute else 0.0))
        return done / self.seconds.total / self.layout.devices

    @property
    def utilization(self) -> float:
        """Model FLOP/s as a share of the peak of all devices."""
        return self.work.flops / self.seconds.total / (self.layout.devices * self.given.device.flops)

    @property
    def rank(self) -> tuple[Any, ...]:
        """By which the simplest of plans that are as fast is found."""
        return (self.layout, -self.micro_batch)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {
            "layout": asdict(self.layout),
            "in_words": self.layout.in_words,
            "fits": self.fits,
            "micro_batch": self.micro_batch,
            "most_rows": self.most_rows,
            "micro_batches": micro_batches(self.work, self.layout, self.micro_batch),
            "bytes": self.memory.to_json(),
            "sent_bytes": self.traffic,
            "seconds": {**asdict(self.seconds), "total": self.seconds.total},
            "tokens_per_second": self.tokens_per_second,
            "utilization": self.utilization,
            "achieved_flops": self.achieved,
        }


@dataclass(frozen=True)
class Run:
    """A whole training with a plan."""

    tokens: float | None
    """None: the budget is one of epochs, whose text is not known."""
    flops: float | None
    days: float | None
    kilowatt_hours: float | None
    cost: float | None
    notes: tuple[str, ...]


def main_stage(recipe: Recipe) -> Stage:
    """Return the stage with the largest share of the budget."""
    return max(recipe.stages, key=lambda stage: stage.share)


def plans(recipe: Recipe, given: Assumptions, pipelines: Sequence[int] = (1,)) -> list[Plan]:
    """Return a plan for every layout that the recipe's sizes allow: those that fit first, the fastest of each first."""
    stage = main_stage(recipe)
    work = Workload.of(recipe, stage)
    found = (
        plan_of(work, layout, given)
        for layout in layouts(recipe, given.count, given.device.machine, stage.batch, pipelines)
    )
    return sorted(found, key=lambda plan: (not plan.fits, -plan.tokens_per_second, plan.rank))


def plan_of(work: Workload, layout: Layout, given: Assumptions, micro_batch: int | None = None) -> Plan:
    """Return the plan of a layout, with the fastest micro-batch that fits if none is said."""
    sizes = [micro_batch] if micro_batch else list(divisors(work.rows // layout.data))
    fitting = [size for size in sizes if memory(work, layout, given.storage, size).total <= given.memory]
    fastest = min(fitting or sizes[:1], key=lambda size: (seconds(work, layout, given, size).total, -size))
    return Plan(
        layout,
        fastest,
        memory(work, layout, given.storage, fastest),
        seconds(work, layout, given, fastest),
        asdict(traffic(work, layout, given.storage, fastest)),
        bool(fitting),
        work,
        given,
    )


def divisors(number: int) -> Iterator[int]:
    """Yield the divisors of a number, rising."""
    yield from (size for size in range(1, number + 1) if number % size == 0)


def best(found: Sequence[Plan]) -> Plan | None:
    """Return the simplest of the fastest plans that fit; None where none does."""
    fitting = [plan for plan in found if plan.fits]
    if not fitting:
        return None
    enough = ALIKE * max(plan.tokens_per_second for plan in fitting)
    return min((plan for plan in fitting if plan.tokens_per_second >= enough), key=lambda plan: plan.rank)


def why(chosen: Plan | None, found: Sequence[Plan]) -> list[str]:
    """Return in words why a plan is chosen, or why none fits."""
    if not found:
        return ["no layout has these devices: heads, inner sizes and batch are no multiples of any of their divisors"]
    room = found[0].given.memory
    least = min(found, key=lambda plan: plan.memory.total)
    if chosen is None:
        return [f"even {least.layout.in_words} with one row needs {_gigabytes(least.memory.total)} "
                f"of {_gigabytes(room)} a device"]  # fmt: skip
    told = []
    simpler = [plan for plan in found if plan.rank[0] < chosen.rank[0]]
    if outside := [plan for plan in simpler if not plan.fits]:
        nearest = min(outside, key=lambda plan: plan.memory.total)
        told.append(
            f"{len(outside)} simpler layouts do not fit: {nearest.layout.in_words} needs "
            f"{_gigabytes(nearest.memory.total)} of {_gigabytes(room)} a device, {_gigabytes(nearest.memory.states)} "
            "of that for weights, gradients and moments"
        )
    others = [plan for plan in found if plan.fits and plan.layout != chosen.layout]
    if others:
        second = max(others, key=lambda plan: plan.tokens_per_second)
        apart = 1 - second.tokens_per_second / chosen.tokens_per_second
        compared = f"{apart:.0%} slower" if apart > 1 - ALIKE else "no faster by more than 1 %"
        told.append(f"of the {len(others) + 1} that fit, the next, {second.layout.in_words}, is {compared}")
    else:
        told.append("no other layout fits")
    return told


def whole_run(recipe: Recipe, plan: Plan) -> Run:
    """Return tokens, days, energy and cost of the recipe's whole budget with a plan.

    Stages with a batch that the groups cannot share out are counted with as many groups as have rows.
    """
    tokens, flops, time, small = 0.0, 0.0, 0.0, list[str]()
    for number, stage in enumerate(recipe.stages):
        work = Workload.of(recipe, stage)
        amount = _tokens(recipe, stage, work, plan)
        if amount is None:
            return Run(None, None, None, None, None, ("a budget in epochs says no number of tokens; take --set "
                                                      "budget.unit=tokens",))  # fmt: skip
        groups = next(size for size in range(min(plan.layout.data, work.rows), 0, -1) if work.rows % size == 0)
        if groups < plan.layout.data:
            small.append(f"stages.{number} with {work.rows}")
        layout = replace(plan.layout, data=groups)
        size = max(size for size in divisors(work.rows // groups) if size <= max(1, plan.micro_batch))
        steps = amount / (work.rows * work.length)
        tokens, flops = tokens + amount, flops + steps * work.flops
        time += steps * seconds(work, layout, plan.given, size).total
    given, hours = plan.given, time / HOUR * plan.given.count
    energy = hours * given.device.watts / 1000 * given.overhead
    price = None if given.price is None else hours * given.price
    note = (
        f"too few rows for {plan.layout.data} groups: {', '.join(small)}; take fewer devices there, or larger batches"
    )
    return Run(tokens, flops, time / DAY, energy, price, (note,) if small else ())


def _tokens(recipe: Recipe, stage: Stage, work: Workload, plan: Plan) -> float | None:
    """Return the tokens of a stage, if every row is full; None where the budget does not say."""
    share, a_step = stage.share * recipe.budget.amount, work.rows * work.length
    by_unit = {
        "tokens": share,
        "steps": share * a_step,
        "flops": share / work.flops * a_step,
        "seconds": share * plan.tokens_per_second,
    }
    return by_unit.get(recipe.budget.unit)


def least_devices(recipe: Recipe, given: Assumptions, most: int = 1 << 16) -> int | None:
    """Return the smallest power of two of devices on which the recipe fits; None: not even on the most."""
    count = 1
    while count <= most:
        if best(plans(recipe, given.override("count", count))) is not None:
            return count
        count *= 2
    return None


def _gigabytes(number: float) -> str:
    return f"{number / 1e9:,.3g} GB"
