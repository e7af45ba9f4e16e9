"""Low-rank attention against equation 7 of its paper, its counts, and sequences that share rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from genus import catalog
from genus.batch import Batch
from genus.errors import UsageError
from genus.model.attention.linformer import LinformerAttention, LinformerAttentionLayer, strip_bounds
from genus.model.attention.plan import Context
from genus.model.compile import compile_learner
from genus.model.skeleton import skeleton
from genus.model.stack.sharing import SharedProjection, Unshared
from genus.model.transformer import Transformer
from hand import alone, stretches

if TYPE_CHECKING:
    from torch import Tensor

    from genus.batch import Packed
    from genus.model.stack import Stack

MakeBatch = Callable[..., Batch]
MakeEncoder = Callable[..., Transformer]
MakePacked = Callable[..., "Packed"]
VOCABULARY = 67
DOUBLE = 1e-10
"""Relative; float64 has 53 bits, 1e-16: sums of a few hundred terms in another order, magnified by a few layers."""
LENGTH, LONGEST, RANK = 40, 48, 6
ROWS = [[12, 20, 5], [30], [1, 2, 3, 26], [9, 23], [40], [1] * 17]
MODES: dict[str, tuple[LinformerAttention, Stack]] = {
    "none": (LinformerAttention(heads=4, rank=RANK, length=LONGEST, sharing="none", dropout=0.0), Unshared()),
    "heads": (LinformerAttention(heads=4, rank=RANK, length=LONGEST, sharing="heads", dropout=0.0), Unshared()),
    "key-value": (LinformerAttention(heads=4, rank=RANK, length=LONGEST, sharing="key-value", dropout=0.0), Unshared()),
    "layers": (
        LinformerAttention(heads=4, rank=RANK, length=LONGEST, sharing="key-value", dropout=0.0),
        SharedProjection(),
    ),
}
modes = pytest.mark.parametrize("mode", MODES)


def low_rank(make_encoder: MakeEncoder, mode: str, layers: int = 2) -> Transformer:
    attention, stack = MODES[mode]
    return replace(make_encoder(layers=layers), attention=attention, stack=stack)


def equation_7(layer: LinformerAttentionLayer, projection: Tensor, x: Tensor, heads: int) -> Tensor:
    """Transcribe the paper for one sequence (l, H): head by head, E_i and F_i one by one; biases are added last."""
    size = x.shape[1] // heads
    w_q, w_k, w_v = layer.query.weight, layer.key.weight, layer.value.weight
    b_q, b_k, b_v = layer.query.bias, layer.key_bias, layer.value_bias
    matrices = projection.view(-1, RANK, LONGEST)
    which = {2 * heads: lambda i: (i, heads + i), 2: lambda i: (0, 1), 1: lambda i: (0, 0)}[len(matrices)]
    found = []
    for i in range(heads):
        of = slice(i * size, (i + 1) * size)
        e, f = (matrices[number, :, : len(x)] for number in which(i))
        query = x @ w_q[of].T + b_q[of]
        keys, values = e @ (x @ w_k[of].T) + b_k[of], f @ (x @ w_v[of].T) + b_v[of]
        context = torch.softmax(query @ keys.T / size**0.5, dim=-1)
        found.append(context @ values)
    return torch.cat(found, dim=1) @ layer.out.weight.T + layer.out.bias


@modes
def test_it_is_equation_7_for_every_sequence_of_every_row(
    make_packed: MakePacked, make_encoder: MakeEncoder, mode: str
) -> None:
    torch.manual_seed(0)
    network = low_rank(make_encoder, mode).build(VOCABULARY).double()
    packed = make_packed(ROWS, LENGTH, torch.ones(LENGTH * len(ROWS), dtype=torch.long))
    x = torch.randn(LENGTH * len(ROWS), 32, dtype=torch.float64)
    first = network.layers[0].attention
    for layer in network.layers:
        for bias in (layer.attention.query.bias, layer.attention.key_bias, layer.attention.value_bias):
            torch.nn.init.normal_(bias)
        own = first if mode == "layers" else layer.attention
        both = [own.key_projection, own.value_projection]
        projection = torch.cat([one.weight for one in both if one is not None])
        wanted = [equation_7(layer.attention, projection, x[a:b], 4) for a, b in packed.spans()]
        found = layer.attention(x, layer.attention.plan(Context(packed)))
        torch.testing.assert_close(found[packed.sequence >= 0], torch.cat(wanted))


@modes
def test_the_number_of_projections(make_encoder: MakeEncoder, mode: str) -> None:
    """Section 4: a stack of 12 layers of 12 heads has 24, 12 and 1 of k x n; without sharing an E and an F a head."""
    attention, stack = MODES[mode]
    model = replace(make_encoder(layers=12), hidden=48, attention=replace(attention, heads=12), stack=stack)
    network = model.build(VOCABULARY)
    named = [weight for name, weight in network.named_parameters() if "projection" in name]
    wanted = {"none": 2 * 12 * 12, "heads": 24, "key-value": 12, "layers": 1}[mode]
    assert sum(weight.numel() for weight in named) == wanted * RANK * LONGEST
    assert model.parameters(VOCABULARY) == sum(weight.numel() for weight in network.parameters())


@modes
def test_gradients(make_packed: MakePacked, mode: str) -> None:
    torch.manual_seed(0)
    attention = replace(MODES[mode][0], heads=2, rank=3, length=7)
    layer = attention.build(4).double()
    packed = make_packed([[3, 2, 1], [7], [4]], 7, torch.ones(21, dtype=torch.long))
    lying = layer.plan(Context(packed))
    names = list(dict(layer.named_parameters()))

    def run(x: Tensor, *weights: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (x, lying))

    x = torch.randn(21, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, *(weight.detach().requires_grad_() for weight in layer.parameters())))


@modes
def test_one_by_one_is_the_same(make_batch: MakeBatch, make_encoder: MakeEncoder, mode: str) -> None:
    torch.manual_seed(0)
    network = low_rank(make_encoder, mode).build(VOCABULARY).double()
    batch = make_batch(ROWS, LENGTH)
    packed = batch.tokens
    sums = network(batch)["tokens"]
    direction = torch.randn_like(sums) * (packed.sequence >= 0)[:, None]
    names = list(dict(network.layers.named_parameters()))
    gradients = torch.autograd.grad((sums * direction).sum(), list(network.layers.parameters()))
    largest = max(gradient.abs().max().item() for gradient in gradients)
    total = [torch.zeros_like(gradient) for gradient in gradients]
    for a, b in packed.spans():
        own = network(Batch({"tokens": alone(packed, a, b)}, {}))["tokens"]
        torch.testing.assert_close(own, sums[a:b], rtol=DOUBLE, atol=DOUBLE)
        found = torch.autograd.grad((own * direction[a:b]).sum(), list(network.layers.parameters()))
        total = [one + other for one, other in zip(total, found, strict=True)]
    for name, gradient, other in zip(names, gradients, total, strict=True):
        scale = largest if name.endswith("key_bias") else gradient.abs().max().item()  # which are 0 but for rounding
        torch.testing.assert_close(gradient, other, rtol=DOUBLE, atol=DOUBLE * scale, msg=name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler imports what it deprecates
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("mode", "compiled"),
    [*((mode, False) for mode in MODES), *(pytest.param(m, True, marks=pytest.mark.slow) for m in ("none", "layers"))],
)
def test_no_document_reaches_another(
    make_batch: MakeBatch, make_encoder: MakeEncoder, mode: str, compiled: bool, half: bool
) -> None:
    torch.manual_seed(0)
    network = low_rank(make_encoder, mode).build(VOCABULARY).eval()
    if compiled:
        assert compile_learner(network, [])
    batch = make_batch(ROWS, LENGTH)
    packed = batch.tokens
    for start, stop in stretches(packed)[:4]:  # the first holds cell 0, which stands in for cells that are not there
        ids = packed.ids.clone()
        ids[start:stop] = ids[start:stop] % 60 + 3
        other = replace(batch, streams={"tokens": replace(packed, ids=ids)})
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            before, after = network(batch)["tokens"], network(other)["tokens"]
        moved = torch.ones(len(before), dtype=torch.bool)
        moved[start:stop] = False
        assert torch.equal(before[moved], after[moved])
        assert not torch.equal(before[~moved], after[~moved])


def test_spare_offsets_and_dead_cells_change_nothing(make_batch: MakeBatch, make_encoder: MakeEncoder) -> None:
    torch.manual_seed(0)
    network = low_rank(make_encoder, "heads").build(VOCABULARY).double()
    batch = make_batch(ROWS, LENGTH)
    packed = batch.tokens
    offsets = torch.cat([packed.offsets, packed.offsets[-1:].repeat(9)])
    dead = packed.ids == 0
    ids = packed.ids.masked_fill(dead, 5)
    with torch.no_grad():
        before = network(batch)["tokens"]
        spare = network(Batch({"tokens": replace(packed, offsets=offsets)}, {}))["tokens"]
        other = network(Batch({"tokens": replace(packed, ids=ids)}, {}))["tokens"]
    torch.testing.assert_close(spare, before, rtol=DOUBLE, atol=DOUBLE)
    assert torch.equal(before[~dead], other[~dead])


@pytest.mark.parametrize(("sequences", "rows", "length"), [(4, 4, 64), (8, 4, 64), (68, 4, 64), (40, 4, 50), (1, 1, 1)])
def test_stretches_hold_every_place_that_can_be_reached(sequences: int, rows: int, length: int) -> None:
    """Of any lengths that fit; and they hold little more than the rows do."""
    found = strip_bounds(sequences, rows, length)
    assert [first for first, _, _ in found] == [0, *(end for _, end, _ in found[:-1])]
    assert found[-1][1] == length
    for first, _, number in found:
        assert number == min(sequences, rows * (length // (first + 1)))
    held = sum((end - first) * number for first, end, number in found)
    assert held <= rows * length * (2 + math.log2(sequences / rows))


@pytest.mark.parametrize("mode", ["none", "heads", "key-value"])
def test_work_grows_with_the_length_and_no_cell_has_all_mixtures(make_batch: MakeBatch, mode: str) -> None:
    """FLOPs as counted beforehand, so O(n k); what autograd keeps is a few times T H, far below T k H."""
    hidden, rank, rows = 32, 16, 2
    attention = replace(MODES[mode][0], rank=rank, length=512)
    layer = attention.build(hidden)
    for length in (128, 512):
        packed = make_batch([[length]] * rows, length).tokens
        sizes: list[int] = []

        def keep(y: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(y.numel())
            return y

        x = torch.randn(rows * length, hidden, requires_grad=True)
        with (
            sdpa_kernel(SDPBackend.MATH),  # the fused one is not counted
            FlopCounterMode(display=False) as counter,
            torch.autograd.graph.saved_tensors_hooks(keep, lambda y: y),
        ):
            layer(x, layer.plan(Context(packed)))
        wanted = attention.cost(hidden, length).flops * rows * length
        assert counter.get_total_flops() == pytest.approx(wanted, rel=0.02)
        assert max(sizes) < rows * length * rank * hidden / 4
        assert attention.cost(hidden, length).flops == attention.cost(hidden, 64).flops


def test_dropout_is_active_in_training_only(make_batch: MakeBatch, make_encoder: MakeEncoder) -> None:
    model = low_rank(make_encoder, "heads")
    network = replace(model, attention=replace(MODES["heads"][0], dropout=0.5)).build(VOCABULARY)
    batch = make_batch(ROWS, LENGTH)
    assert not torch.equal(network(batch)["tokens"], network(batch)["tokens"])
    network.eval()
    assert torch.equal(network(batch)["tokens"], network(batch)["tokens"])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["model.stack=SharedProjection"], "sharing = 'key-value'"),
        (["model.attention.rank=0"], "attention.rank: expected at least 1"),
        (["model.attention.heads=5"], "do not divide"),
        (["model.attention.length=64"], "max_length 128 is past the model's 64"),
        (["model.attention.sharing=rows"], "expected one of 'none', 'heads', 'key-value'"),
    ],
)
def test_choices_that_contradict_each_other(settings: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint.replace(".", r"\.")):
        catalog.load("linformer/tiny", settings)


@pytest.mark.parametrize(
    ("name", "projections", "rank", "length"),
    [
        ("base", 24, 256, 512),
        ("base-shared-kv", 12, 256, 512),
        ("base-shared-layer", 1, 256, 512),
        ("base-unshared", 2 * 12 * 12, 256, 512),
        ("base-128", 24, 128, 512),
        ("base-128-shared-kv", 12, 128, 512),
        ("base-128-shared-layer", 1, 128, 512),
        ("base-1024", 24, 256, 1024),
        ("base-1024-shared-kv", 12, 256, 1024),
        ("base-1024-shared-layer", 1, 256, 1024),
    ],
)
def test_rows_are_roberta_and_as_many_projections_as_the_paper_says(
    name: str, projections: int, rank: int, length: int
) -> None:
    """Of k x n numbers each (section 4); a longer row has as many more position vectors, of 768 numbers."""
    row, roberta = catalog.load(f"linformer/{name}"), catalog.load("roberta/base")
    with skeleton():
        own, theirs = (sum(weight.numel() for weight in each.learner().parameters()) for each in (row, roberta))
    assert own - theirs == projections * rank * length + 768 * (length - 512)
    assert {stage.max_length for stage in row.stages} == {length}
