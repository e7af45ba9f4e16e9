"""Plans beside what papers report: bytes of ZeRO's table, layouts and rates of Megatron-LM's, days of GPT-3."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from published import gpt

from genus import catalog
from genus.cost import component_cost, cost
from genus.devices import DEVICES, Device
from genus.plan import Plan, best, main_stage, plan_of, plans, whole_run
from genus.plan.assumptions import MIXED, Assumptions
from genus.plan.demand import Workload, kept, memory, traffic
from genus.plan.layout import Layout

ZERO: dict[float, dict[int, tuple[float, float, float]]] = {
    # Rajbhandari et al. 2020, table 1: gigabytes a device for stages 1 to 3, by billions of parameters and DP
    7.5: {1: (120, 120, 120), 4: (52.5, 41.3, 30), 16: (35.6, 21.6, 7.5), 64: (31.4, 16.6, 1.88),
          256: (30.4, 15.4, 0.47), 1024: (30.1, 15.1, 0.12)},
    128: {1: (2048, 2048, 2048), 4: (896, 704, 512), 16: (608, 368, 128), 64: (536, 284, 32), 256: (518, 263, 8),
          1024: (513, 257, 2)},
    1000: {1: (16000, 16000, 16000), 4: (7000, 5500, 4000), 16: (4750, 2875, 1000), 64: (4187, 2218, 250),
           256: (4046, 2054, 62.5), 1024: (4011, 2013, 15.6)},
}  # fmt: skip

MEGATRON = [  # Narayanan et al. 2021, table 1:
    # billions, heads, hidden, layers, tensor, pipeline, devices, batch, teraFLOP/s
    (1.7, 24, 2304, 24, 1, 1, 32, 512, 137),
    (3.6, 32, 3072, 30, 2, 1, 64, 512, 138),
    (7.5, 32, 4096, 36, 4, 1, 128, 512, 142),
    (18.4, 48, 6144, 40, 8, 1, 256, 1024, 135),
    (39.1, 64, 8192, 48, 8, 2, 512, 1536, 138),
    (76.1, 80, 10240, 60, 8, 4, 1024, 1792, 140),
    (145.6, 96, 12288, 80, 8, 8, 1536, 2304, 148),
    (310.1, 128, 16384, 96, 8, 16, 1920, 2160, 155),
    (529.6, 128, 20480, 105, 8, 35, 2520, 2520, 163),
    (1008.0, 160, 25600, 128, 8, 64, 3072, 3072, 163),
]
ROUNDED = 0.006
"""Tables have three digits."""


def work(parameters: float) -> Workload:
    """Return a workload of so many parameters, with Adam."""
    return replace(Workload.of(gpt(2, 64, 2, batch=1024), main_stage(gpt(2, 64, 2, batch=1024))),
                   parameters=round(parameters))  # fmt: skip


@pytest.mark.parametrize("billions", ZERO)
def test_bytes_of_every_stage_are_those_of_zero(billions: float) -> None:
    for degree, expected in ZERO[billions].items():
        for stage, gigabytes in zip((1, 2, 3), expected, strict=True):
            layout = Layout(stage=stage, data=degree)
            found = memory(work(billions * 1e9), layout, MIXED, 1).states / 1e9
            tolerance = 0.02 if billions == 128 else ROUNDED  # the paper counts 128 billion as 128 x 1.024
            assert found == pytest.approx(gigabytes, rel=tolerance, abs=0.005), (degree, stage)


def test_without_zero_1_4_billion_parameters_are_too_many_for_32_gigabytes() -> None:
    """Section 1: data parallelism alone runs out of memory beyond 1.4 billion, on devices of 32 GB."""
    for billions, fits in ((1.4, True), (2.1, False)):
        assert (memory(work(billions * 1e9), Layout(data=64), MIXED, 1).states < 32e9) == fits


def test_traffic_of_every_stage_is_that_of_zero() -> None:
    """Section 7: 2 Ψ elements for data parallelism and stages 1 and 2, 3 Ψ for stage 3, with one micro-batch a step."""
    psi, many = 10**9, 1 << 20
    sent = [traffic(replace(work(psi), rows=many), Layout(stage=stage, data=many), MIXED, 1).data for stage in range(4)]
    assert [round(number / (2 * psi), 3) for number in sent] == [2, 2, 2, 3]


def test_split_tokens_divide_all_activations_of_layers() -> None:
    """Korthikanti et al. 2022, equations 2 and 4: what split matrices leave whole is divided too, for one more gather.

    Of a layer that is 4 s b h elements here: inputs of norms and of sub-layers, without the masks of dropout.
    """
    load = Workload.of(gpt(2, 64, 2, batch=8), main_stage(gpt(2, 64, 2, batch=8)))
    whole, matrices, tokens = (kept(load, Layout(tensor=t, sequence=s)) for t, s in ((1, False), (4, False), (4, True)))
    assert tokens == pytest.approx(whole / 4)
    assert matrices - tokens == pytest.approx(2 * 4 * 64 * 3 / 4)
    sent = [traffic(load, Layout(tensor=4, sequence=s), MIXED, 1).tensor for s in (False, True)]
    assert sent[1] == pytest.approx(1.25 * sent[0])


@pytest.mark.parametrize(("billions", "heads", "hidden", "layers", "batch"), [(*r[:4], r[7]) for r in MEGATRON])
def test_parameters_and_flops_are_those_of_megatron(
    billions: float, heads: int, hidden: int, layers: int, batch: int
) -> None:
    """Equations 2 and 3: P and F for vocabulary V and length s; F has the forward pass twice."""
    recipe, v, s = gpt(layers, hidden, heads, batch=batch), 51_200, 2048
    parameters = 12 * layers * hidden**2 * (1 + 13 / (12 * hidden) + (v + s) / (12 * layers * hidden))
    own = cost(recipe)
    assert own.parameters == pytest.approx(parameters, rel=1e-4)
    assert own.parameters / 1e9 == pytest.approx(billions, rel=ROUNDED, abs=0.05)
    flops = 96 * batch * s * layers * hidden**2 * (1 + s / (6 * hidden) + v / (16 * layers * hidden))
    load = Workload.of(recipe, main_stage(recipe))
    logits = 2 * v * hidden * batch * s  # the output layer, which equation 3 does not compute again
    assert load.flops * (1 + load.again) - logits == pytest.approx(flops, rel=1e-3)


def megatron_plan(row: tuple[float, ...], given: Assumptions) -> Plan:
    _, heads, hidden, layers, tensor, pipeline, devices, batch, _ = (int(number) for number in row)
    recipe = gpt(layers, hidden, heads, batch=batch)
    layout = Layout(pipeline, tensor, 0, True, devices // (tensor * pipeline))
    return plan_of(Workload.of(recipe, main_stage(recipe)), layout, given, 1)


@pytest.mark.parametrize("row", MEGATRON, ids=lambda row: f"{row[0]}B")
def test_what_megatron_trained_fits_and_is_as_fast(row: tuple[float, ...]) -> None:
    """What a device reaches alone is taken of the first row.

    Split matrices cost what they are said to, within a seventh. Pipelines are slower here than there: theirs interleave
    layers, which shortens the wait, and matrices of larger models reach more of the peak.
    """
    given = Assumptions(device=DEVICES["a100"], count=int(row[6]), storage=MIXED, efficiency=137 / 312)
    plan = megatron_plan(row, given)
    assert plan.fits
    ratio = plan.achieved / 1e12 / row[8]
    assert 0.85 < ratio < 1.15 if row[5] == 1 else 0.7 < ratio < 1


def test_days_of_gpt_3_are_those_of_megatron() -> None:
    """Section 5.1: 300 billion tokens on 1,024 A100 at 140 teraFLOP/s, all told, take 34 days."""
    free = replace(DEVICES["a100"], link=1e30, network=1e30, bandwidth=1e30)  # 140 has communication in it
    given = Assumptions(device=free, count=1024, storage=MIXED, efficiency=140 / 312)
    recipe = gpt(96, 12288, 96, batch=1536)
    plan = plan_of(Workload.of(recipe, main_stage(recipe)), Layout(1, 8, 0, True, 128), given, 1)
    assert whole_run(recipe, plan).days == pytest.approx(34, abs=1)


def test_gpt_3_needs_what_megatron_took() -> None:
    """Table 2: on 384 A100, 96 devices hold a model without ZeRO; with its stage 3 micro-batches of 4 fit."""
    recipe = gpt(96, 12288, 96, batch=1536)
    given = Assumptions(device=DEVICES["a100"], count=384, storage=MIXED)
    found = plans(recipe, given, pipelines=(1, 2, 4, 6, 12))
    replicated = [plan.layout for plan in found if plan.fits and plan.layout.stage == 0]
    assert replicated
    assert all(layout.pipeline * layout.tensor >= 32 for layout in replicated)
    assert Layout(12, 8, 0, True, 4) in replicated
    load = Workload.of(recipe, main_stage(recipe))
    assert plan_of(load, Layout(1, 1, 3, True, 384), given, 4).fits
    assert not plan_of(load, Layout(1, 8, 0, True, 48), given, 1).fits


def test_zero_3_is_slower_the_more_devices_share_a_batch() -> None:
    """Table 2: with one batch on 384, 768 and 1,536 devices, ZeRO-3 reaches 144, 88, 44, Megatron 153, 149, 141."""
    rates = []
    for devices, micro_batch in ((384, 4), (768, 2), (1536, 1)):
        recipe = gpt(96, 12288, 96, batch=1536)
        given = Assumptions(device=DEVICES["a100"], count=devices, storage=MIXED, efficiency=0.49)
        load = Workload.of(recipe, main_stage(recipe))
        zero = plan_of(load, Layout(1, 1, 3, True, devices), given, micro_batch)
        megatron = plan_of(load, Layout(12, 8, 0, True, devices // 96), given, 1)
        rates.append((zero.achieved / 1e12, megatron.achieved / 1e12))
    (first, _), (second, _), (third, last) = rates
    assert first == pytest.approx(144, rel=0.1)
    assert first > second > third
    assert last > third  # the order of both at 1,536, though the gap that was measured is wider


V100 = DEVICES["v100"]


def megatron_8(devices: int, tensor: int, layers: int, hidden: int, heads: int, given: Device = V100) -> Plan:
    """Return the plan of a row of Shoeybi et al.'s table 1: 8 rows a group, at what one device reaches alone."""
    groups = devices // tensor
    recipe = gpt(layers, hidden, heads, batch=8 * groups, length=1024)
    taken = Assumptions(device=given, count=devices, storage=MIXED, efficiency=39e12 / given.flops)
    return plan_of(Workload.of(recipe, main_stage(recipe)), Layout(1, tensor, 0, True, groups), taken, 8)


def test_megatron_8_3_billion_on_512_devices() -> None:
    """Section 5.1: of 39 teraFLOP/s on one device 76 % remain on 512, 15.1 petaFLOP/s in all; table 1: 8 share a model.

    What was measured has small matrices and latencies in it, which a plan does not know.
    """
    plan = megatron_8(512, 8, 72, 3072, 32)
    assert plan.work.parameters / 1e9 == pytest.approx(8.3, rel=0.01)
    assert plan.fits
    assert plan.achieved / 39e12 == pytest.approx(0.76, abs=0.06)
    assert plan.achieved * 512 / 1e15 == pytest.approx(15.1, rel=0.08)
    assert not megatron_8(512, 4, 72, 3072, 32).fits
    assert not megatron_8(512, 2, 72, 3072, 32).fits


@pytest.mark.parametrize(
    ("billions", "hidden", "heads", "layers", "tensor"),
    [(1.2, 1536, 16, 40, 1), (2.5, 1920, 20, 54, 2), (4.2, 2304, 24, 64, 4), (8.3, 3072, 32, 72, 8)],
)
def test_sizes_and_layouts_of_megatron(billions: float, hidden: int, heads: int, layers: int, tensor: int) -> None:
    """Table 1 of the sources' copy: each size fits on the devices that shared it, with 64 groups."""
    plan = megatron_8(64 * tensor, tensor, layers, hidden, heads)
    assert plan.fits
    assert plan.work.parameters / 1e9 == pytest.approx(billions, rel=0.03)


def test_turing_nlg_needs_zero_or_sixteen_devices_a_model() -> None:
    """On 256 V100 of 32 GB: replicated only where 16 devices share a model, with ZeRO's first stage already where 4 do.

    The announcement, which says so, could not be read; what stands here follows from its 17 billion parameters.
    """
    recipe = catalog.load("turing-nlg/17b")
    given = Assumptions(device=V100, count=256, storage=MIXED)
    load = Workload.of(recipe, main_stage(recipe))
    assert load.parameters / 1e9 == pytest.approx(17, rel=0.02)

    def fits(tensor: int, stage: int) -> bool:
        return plan_of(load, Layout(1, tensor, stage, True, 256 // tensor), given, 1).fits

    assert [fits(tensor, 0) for tensor in (4, 8, 16)] == [False, False, True]
    assert fits(4, 1)
    chosen = best(plans(recipe, given))
    assert chosen is not None
    assert chosen.layout.stage > 0


def test_activations_of_a_layer_are_those_of_korthikanti() -> None:
    """Equation 1 without the scores, which fused attention does not keep, and without dropout's masks: 32 s b h bytes;
    equation 2 divides 24 of them by the devices that split a layer."""
    hidden, length = 1024, 2048
    recipe = gpt(24, hidden, 16, batch=1)
    two, one = (Workload.of(gpt(layers, hidden, 16, batch=1), main_stage(recipe)) for layers in (25, 24))
    a_layer = two.activations - one.activations
    assert 2 * a_layer == pytest.approx(32 * hidden, rel=0.1)
    inside = 2 * (a_layer - 2 * (two.branches - one.branches))
    assert inside == pytest.approx(24 * hidden, rel=0.1)
    wanted = component_cost(recipe, {"tokens": length})
    assert (wanted.layers, wanted.branches) == (24, 24 * 2 * hidden)
