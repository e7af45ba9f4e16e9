"""Attention between two sides: one rule for all kernels, biases, and cross-attention of packed streams."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from genus.batch import Packed
from genus.model.attention.kernels import attend, attend_reference
from genus.model.attention.masks import AttentionMask, Banded, Causal, Full, Prefix
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.attention.plan import Context, Kernel, Side, Source, plan_attention
from genus.model.position.bias import Alibi, RelativeBuckets

ROWS = [[5, 4], [7, 2]]
LENGTH = 10
RULES = [Full(), Causal(), Banded(width=3), Prefix()]
DOUBLE = 1e-12
"""Rounding of sums of a dozen float64 products."""
SINGLE = 1e-6
"""Of float32, in which buckets' tables are."""
rules = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
uncompiled = pytest.mark.filterwarnings("ignore:flex_attention called without:UserWarning")
"""FlexAttention is compiled on GPUs only."""


def laid(rows: list[list[int]], length: int) -> Packed:
    """Return packed sequences of random ids, whose first tokens are a prefix."""
    packed = Packed.laid(torch.randint(1, 60, (len(rows) * length,)), rows, length)
    return replace(packed, facts={"prefix": (packed.positions < 3).long(), "segment": packed.positions * 0})


def drawn(tokens: int, heads: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(tokens, heads, 8, dtype=torch.float64).to(dtype)


@uncompiled
@rules
@pytest.mark.parametrize("kernel", ["math", "sdpa", "flex"])
@pytest.mark.parametrize("groups", [4, 2, 1])
def test_one_rule_serves_all_kernels(rule: AttentionMask, kernel: Kernel, groups: int) -> None:
    """With as many heads of keys, and with fewer."""
    torch.manual_seed(0)
    packed = laid(ROWS, LENGTH)
    side, real = Side.of(packed), packed.sequence >= 0
    q, k, v = drawn(20, 4), drawn(20, groups), drawn(20, groups)
    found = attend(q, k, v, plan_attention(side, side, rule, q.dtype, kernel=kernel))
    expected = attend_reference(q, k, v, side, side, rule)
    torch.testing.assert_close(found[real], expected[real], atol=DOUBLE, rtol=0)


@uncompiled
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # asked by PyTorch's compiler
@rules
@pytest.mark.parametrize("kernel", ["math", "sdpa", "flex"])
@pytest.mark.parametrize(
    "position", [RelativeBuckets(buckets=8, longest=6), Alibi()], ids=lambda one: type(one).__name__
)
def test_positions_bias_the_scores(rule: AttentionMask, kernel: Kernel, position: Any) -> None:
    torch.manual_seed(0)
    packed = laid(ROWS, LENGTH)
    side, real, bias = Side.of(packed), packed.sequence >= 0, position.bias(4, 32)
    q, k, v = (drawn(20, 4, torch.float32) for _ in range(3))
    found = attend(q, k, v, plan_attention(side, side, rule, q.dtype, bias=bias, kernel=kernel))
    added = bias.added(packed.positions[None] - packed.positions[:, None]).permute(2, 0, 1)
    expected = attend_reference(q, k, v, side, side, rule, added)
    torch.testing.assert_close(found[real], expected[real], atol=5 * SINGLE, rtol=0)


def test_a_layer_s_own_bias_goes_with_every_mask() -> None:
    torch.manual_seed(0)
    packed = Packed.laid(torch.ones(1200, dtype=torch.int64), [[600], [600]], 600)
    side, bias = Side.of(packed), torch.randn(1, 2, 600, 600)
    q, k, v = (drawn(1200, 2, torch.float32) for _ in range(3))
    wide = torch.zeros(2, 1200, 1200)
    wide[:, :600, :600] = wide[:, 600:, 600:] = bias[0]
    expected = attend_reference(q, k, v, side, side, Causal(), wide)
    for kernel in ("math", "sdpa"):
        plan = plan_attention(side, side, Causal(), q.dtype, packed=packed, kernel=kernel)
        torch.testing.assert_close(attend(q, k, v, plan, bias), expected, atol=5 * SINGLE, rtol=0)


def test_buckets_are_those_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    distance = torch.arange(-200, 201)
    theirs = transformers.models.t5.modeling_t5.T5Attention._relative_position_bucket
    for both in (True, False):
        expected = theirs(distance, bidirectional=both, num_buckets=32, max_distance=128)
        assert torch.equal(RelativeBuckets(both_directions=both).bucket(distance), expected)


def crossing(source_rows: list[list[int]], rows: list[list[int]]) -> tuple[Packed, Packed]:
    return laid(source_rows, 12), laid(rows, LENGTH)


@uncompiled
@pytest.mark.parametrize("kernel", ["math", "sdpa", "flex"])
def test_cross_attention_of_packed_streams(kernel: Kernel) -> None:
    """Entry j of both streams is the same example; one source is empty, and gives 0."""
    torch.manual_seed(0)
    source, packed = crossing([[6, 3], [0, 8]], [[4, 5], [2, 6]])
    assert len(source.offsets) == len(packed.offsets)
    q, k, v = drawn(20, 4), drawn(24, 2), drawn(24, 2)
    sides = Side.of(packed), Side.of(source)
    found = attend(q, k, v, plan_attention(*sides, Full(), q.dtype, kernel=kernel))
    expected = attend_reference(q, k, v, *sides, Full())
    real = packed.sequence >= 0
    torch.testing.assert_close(found[real], expected[real], atol=DOUBLE, rtol=0)
    start, end = packed.spans()[2]
    assert not expected[start:end].any()


@pytest.mark.parametrize("training", [False, True])
def test_no_example_reaches_another_across_streams(training: bool) -> None:
    torch.manual_seed(0)
    source, packed = crossing([[6, 3], [0, 8]], [[4, 5], [2, 6]])
    layer = MultiHeadAttention(heads=2, dropout=0.3).build(16)
    x, states = torch.randn(20, 16), torch.randn(24, 16)
    other = states.clone()
    first, last = source.spans()[0]
    other[first:last] += 1
    found = []
    for one in (states, other):
        torch.manual_seed(1)
        context = Context(packed, training=training, source=Source(source, one)).crossing()
        found.append(layer(x, layer.plan(context)))
    moved = (found[0] != found[1]).any(-1)
    start, end = packed.spans()[0]
    assert moved[start:end].all()
    moved[start:end] = False
    assert not moved.any()


def flash(monkeypatch: pytest.MonkeyPatch, rule: AttentionMask, dropout: float) -> dict[str, Any]:
    """Return what the flash kernel is called with, on a machine without a GPU."""
    packed = laid(ROWS, LENGTH)
    side, given = Side.of(packed), {}

    def varlen(q: Tensor, k: Tensor, v: Tensor, *places: Any, **named: Any) -> Tensor:
        given.update(named, places=places)
        return q

    class Aten:
        @staticmethod
        def _flash_attention_forward(q: Tensor, *places: Any, **named: Any) -> tuple[Tensor, ...]:
            given.update(named, places=places)
            return q, q, q, q, q

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen)
    monkeypatch.setattr("genus.model.attention.kernels.ATEN", Aten)
    plan = plan_attention(side, side, rule, torch.bfloat16, dropout=dropout, scale=0.5, kernel="varlen")
    assert plan.mask is None
    attend(drawn(20, 4), drawn(20, 2), drawn(20, 2), plan)
    return given


def varlen_by_hand(
    q: Tensor, k: Tensor, v: Tensor, q_offsets: Tensor, k_offsets: Tensor, *longest: int, window_size: tuple[int, int],
    **named: Any,
) -> Tensor:  # fmt: skip
    """Attention entry by entry, as flash attention defines a window: by distance from the ends of both sides."""
    assert q_offsets.dtype == k_offsets.dtype == torch.int32
    left, right = (size if size >= 0 else len(q) for size in window_size)
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    spans = zip(pairwise(q_offsets.tolist()), pairwise(k_offsets.tolist()), strict=True)
    out = []
    for (first, last), (start, end) in spans:
        assert last - first <= longest[0]
        assert end - start <= longest[1]
        apart = torch.arange(start - end, 0)[None] - torch.arange(first - last, 0)[:, None]
        scores = torch.einsum("qad,kad->aqk", q[first:last], k[start:end]) * (named["scale"] or q.shape[-1] ** -0.5)
        weights = scores.masked_fill((apart < -left) | (apart > right), -torch.inf).softmax(-1)
        out.append(torch.einsum("aqk,kad->qad", weights, v[start:end]))
    return torch.cat(out)


@rules
@pytest.mark.parametrize("groups", [4, 2])
def test_variable_length_calls_are_the_rule(monkeypatch: pytest.MonkeyPatch, rule: AttentionMask, groups: int) -> None:
    """Prefixes too, some as long as their sequence, one of no token: outputs and gradients."""
    torch.manual_seed(0)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_by_hand)
    packed = laid(ROWS, LENGTH)
    starts, prefix = packed.offsets.tolist(), packed.facts["prefix"].clone()
    prefix[starts[1] : starts[2]] = 0
    packed = replace(packed, facts={"prefix": prefix})
    side, real = Side.of(packed), packed.sequence >= 0
    drawn_weights = drawn(20, 4)[real]
    given = [drawn(20, heads).requires_grad_() for heads in (4, groups, groups)]
    again = [x.detach().clone().requires_grad_() for x in given]
    found = attend(*given, plan_attention(side, side, rule, torch.bfloat16, kernel="varlen"))[real]
    expected = attend_reference(*again, side, side, rule)[real]
    torch.testing.assert_close(found, expected, atol=DOUBLE, rtol=0)
    (found * drawn_weights).sum().backward()
    (expected * drawn_weights).sum().backward()
    for ours, theirs in zip(given, again, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=DOUBLE, rtol=0)


def test_flash_attention_without_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    for rule, window in ((Full(), (-1, -1)), (Causal(), (-1, 0)), (Banded(width=3), (2, 0))):
        given = flash(monkeypatch, rule, 0.0)
        assert given["window_size"] == window
        assert (given["enable_gqa"], given["num_splits"], given["scale"]) == (True, 1, 0.5)
        assert given["places"][2:] == (LENGTH, LENGTH)


def test_flash_attention_with_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator's own arguments: offsets, row lengths, dropout, causal, no debug mask."""
    for rule, causal, window in (
        (Full(), False, (None, None)),
        (Causal(), True, (None, None)),
        (Banded(width=3), False, (2, 0)),
    ):
        given = flash(monkeypatch, rule, 0.1)
        assert given["places"][4:] == (LENGTH, LENGTH, 0.1, causal, False)
        assert (given["window_size_left"], given["window_size_right"], given["scale"]) == (*window, 0.5)
    schema = torch.ops.aten._flash_attention_forward.default._schema
    names = [argument.name for argument in schema.arguments]
    assert names[3:10] == ["cum_seq_q", "cum_seq_k", "max_q", "max_k", "dropout_p", "is_causal", "return_debug_mask"]
    assert {"scale", "window_size_left", "window_size_right"} <= set(names)
