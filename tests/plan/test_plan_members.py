"""Every member has a plan, and micro-batches are as large as memory allows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from genus import catalog
from genus.cost import cost
from genus.devices import DEVICES, known_as
from genus.plan import best, main_stage, plan_of, plans, whole_run
from genus.plan.assumptions import FLOAT32, Assumptions
from genus.plan.demand import Workload, memory
from genus.plan.layout import Layout
from genus.train.run import Run

FIRST = [next(iter(rows)) for rows in catalog.members().values()]
H200 = Assumptions(device=DEVICES["h200"], storage=FLOAT32)


def test_every_member_has_a_plan() -> None:
    """On one device, weights, gradients and moments are those of `genus show`, and so are activations."""
    for name in FIRST:
        recipe = catalog.load(name)
        own, work = cost(recipe), Workload.of(recipe, main_stage(recipe))
        rows = main_stage(recipe).micro_batch
        found = memory(work, Layout(), FLOAT32, rows)
        assert found.weights == own.bytes_weights, name
        assert (found.gradients, found.optimizer) == (own.bytes_gradients, own.bytes_optimizer), name
        stage = own.stages[recipe.stages.index(main_stage(recipe))]
        assert found.activations == pytest.approx(stage.bytes_activations, rel=1e-6), name
        assert best(plans(recipe, H200)) is not None or own.bytes_training > 100e9, name


def test_a_row_more_than_most_does_not_fit() -> None:
    recipe = catalog.load("bert/large")
    work = Workload.of(recipe, main_stage(recipe))
    plan = plan_of(work, Layout(), H200)
    for rows, fits in ((plan.most_rows, True), (plan.most_rows + 1, False)):
        assert (memory(work, Layout(), FLOAT32, rows).total <= H200.memory) == fits
    assert plan.micro_batch <= plan.most_rows


def test_budgets_of_every_unit_are_the_same_run() -> None:
    """BERT's million steps, said in tokens and in FLOPs of one stage, take as long."""
    stage = replace(main_stage(catalog.load("bert/base")), share=1.0)
    recipe = replace(catalog.load("bert/base"), stages=(stage,))
    plan = plan_of(Workload.of(recipe, stage), Layout(), H200)
    by_steps = whole_run(recipe, plan)
    assert by_steps.tokens == recipe.budget.amount * stage.batch * stage.max_length
    for unit, amount in (("tokens", by_steps.tokens), ("flops", by_steps.flops)):
        other = recipe.overrides({"budget.unit": unit, "budget.amount": amount})
        assert whole_run(other, plan).days == pytest.approx(by_steps.days)
    assert whole_run(recipe.override("budget.unit", "epochs"), plan).days is None
    seconds = recipe.overrides({"budget.unit": "seconds", "budget.amount": 86_400.0})
    assert whole_run(seconds, plan).days == pytest.approx(1.0)


def test_settings_are_those_of_a_run() -> None:
    """What a plan proposes, a run's settings take, and its processes are as many as the plan's devices."""
    pytest.importorskip("genus.train.parallel")
    for layout in (Layout(data=8), Layout(stage=2, data=8), Layout(tensor=2, stage=3, recompute=True, data=4)):
        told = [one.removeprefix("--runtime ") for one in layout.settings(50_257) if one.startswith("--runtime ")]
        parallel = getattr(catalog.overridden(Run(), told), "parallel")  # noqa: B009  # older settings have none
        assert math.prod(parallel.axes(layout.devices).values()) == layout.devices
    assert "--set padded_vocab_size=50432" in layout.settings(50_257)


def test_a_device_is_known_by_the_name_that_pytorch_has_for_it() -> None:
    assert known_as("NVIDIA H200") is DEVICES["h200"]
    assert known_as("NVIDIA H200 NVL") is None
    named = [name for device in DEVICES.values() for name in device.names]
    assert len(named) == len(set(named))
