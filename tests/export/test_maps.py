"""Operations of export rows: each has an inverse, and transformers' own classes agree with what they rearrange."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import oracle
import pytest
import torch
from folders import tiny
from torch.nn.functional import linear

from genus.export.layouts import bert
from genus.export.layouts.maps import (
    Chain,
    Flatten,
    Identity,
    Interleave,
    Map,
    Op,
    Permute,
    RotaryPermute,
    Separate,
    Split,
    Stack,
    Transpose,
    Unflatten,
    place,
)
from genus.export.translate import clean, foreign, to_ours

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

transformers = oracle.transformers

ONE = [torch.Size([24, 10])]
OPS: list[tuple[Op, list[torch.Size]]] = [
    (Identity(), ONE),
    (Stack(), ONE * 3),
    (Stack((4, 1, 1)), [torch.Size([16, 5]), torch.Size([4, 5]), torch.Size([4, 5])]),
    (Split(), ONE),
    (Split((4, 1, 1)), ONE),
    (Transpose(), ONE),
    (Permute((2, 0, 1)), [torch.Size([2, 3, 5])]),
    (Unflatten(4), ONE),
    (Flatten(4), [torch.Size([4, 6, 10])]),
    (Interleave(4), ONE),
    (Interleave(2, (4, 1, 1)), ONE),
    (Separate(4), ONE),
    (RotaryPermute(3), ONE),
    (RotaryPermute(3, rotary=4), ONE),
    (RotaryPermute(3, back=True), ONE),
    (Chain((Stack(), Interleave(2), Transpose())), ONE * 3),
]


@pytest.mark.parametrize(("op", "shapes"), OPS, ids=lambda value: repr(value) if isinstance(value, Op) else "")
def test_there_and_back_is_the_identity(op: Op, shapes: list[torch.Size]) -> None:
    given = tuple(torch.randn(shape) for shape in shapes)
    for first, second in ((op, op.inverse), (op.inverse.inverse, op.inverse)):
        found = second(first(given))
        assert len(found) == len(given)
        assert all(torch.equal(a, b) for a, b in zip(found, given, strict=True))


@pytest.mark.parametrize(("op", "shapes"), OPS, ids=lambda value: repr(value) if isinstance(value, Op) else "")
def test_nothing_is_lost_or_doubled(op: Op, shapes: list[torch.Size]) -> None:
    numbers = torch.arange(sum(shape.numel() for shape in shapes))
    given = tuple(
        part.view(shape) for part, shape in zip(numbers.split([s.numel() for s in shapes]), shapes, strict=True)
    )
    assert torch.cat([part.flatten() for part in op(given)]).sort().values.tolist() == numbers.tolist()


@pytest.mark.parametrize("op", [Transpose(), Interleave(2), RotaryPermute(3), Identity()])
def test_a_bias_goes_with_its_weight(op: Op) -> None:
    """What permutes the rows of a matrix permutes its bias alike; a transposed matrix leaves it alone."""
    weight, bias = torch.randn(24, 24), torch.randn(24)
    (made,), (made_bias,) = op((weight,)), op((bias,))
    if op != Transpose():
        assert torch.equal(op((torch.diag(bias) @ weight,))[0], torch.diag(made_bias) @ made)
    else:
        assert torch.equal(made_bias, bias)


@pytest.mark.parametrize("op", [Split(), Interleave(4), RotaryPermute(3, rotary=3), Unflatten(7), Permute((0, 2, 1))])
def test_shapes_that_do_not_fit_are_said(op: Op) -> None:
    with pytest.raises(ValueError, match=r"rows do not|rotary dimensions do not|axes are expected"):
        op((torch.randn(10, 3),))


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int, *, causal: bool = True) -> Tensor:
    """Return softmax(QKᵀ/√d + causal mask) V, computed by hand, for (L, heads x d)."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(0, 1) for x in (query, key, value))
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    later = torch.ones(len(query), len(query), dtype=torch.bool).triu(1)
    return (scores.masked_fill(later, -math.inf) if causal else scores).softmax(-1).matmul(v).transpose(0, 1).flatten(1)


def half_split(x: Tensor, heads: int, rotary: int) -> Tensor:
    """Turn the first `rotary` dimensions of each head by its position, i with i + rotary / 2 (Su et al. 2021)."""
    x = x.unflatten(-1, (heads, -1))
    angles = torch.arange(len(x))[:, None] * 10_000.0 ** (-torch.arange(0, rotary, 2) / rotary)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    a, b, rest = x.split([rotary // 2, rotary // 2, x.shape[-1] - rotary], dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1).flatten(1)


LENGTH, HIDDEN, HEADS = 7, 32, 4


@torch.no_grad()
def test_gpt2_s_fused_and_transposed_queries_keys_and_values() -> None:
    config = transformers.GPT2Config(n_embd=HIDDEN, n_head=HEADS, n_layer=1, n_positions=16, vocab_size=20)
    block = oracle.scramble(transformers.GPT2Model(config)).eval().h[0].attn
    fused = Stack().then(Transpose())
    weights, biases = fused.inverse((block.c_attn.weight,)), fused.inverse((block.c_attn.bias,))
    x = torch.randn(LENGTH, HIDDEN)
    heads = attention(*(linear(x, w, b) for w, b in zip(weights, biases, strict=True)), HEADS)
    found = linear(heads, *Transpose()((block.c_proj.weight, block.c_proj.bias)))
    assert oracle.relative(found, block(x[None])[0][0]) <= oracle.FLOAT32
    assert torch.equal(fused(weights)[0], block.c_attn.weight)
    assert torch.equal(fused(biases)[0], block.c_attn.bias)


@torch.no_grad()
def test_codegen_s_groups_and_rotary_order() -> None:
    """Its `qkv_proj` holds queries, values and keys in four groups; its rotary dimensions are interleaved."""
    rotary = 4
    config = transformers.CodeGenConfig(
        n_embd=HIDDEN, n_head=HEADS, n_layer=1, n_positions=16, n_ctx=16, rotary_dim=rotary, vocab_size=20
    )
    model = oracle.scramble(transformers.CodeGenModel(config)).eval()
    block = model.h[0].attn
    row = Map(("query", "value", "key"), ("qkv_proj",), Stack().then(Interleave(4)))
    query, value, key = row.op({}).inverse((block.qkv_proj.weight,))
    turn = RotaryPermute(HEADS, rotary=rotary)
    (query,), (key,) = turn.inverse((query,)), turn.inverse((key,))
    x = torch.randn(LENGTH, HIDDEN)
    q, k = (half_split(linear(x, weight), HEADS, rotary) for weight in (query, key))
    found = linear(attention(q, k, linear(x, value), HEADS), block.out_proj.weight)
    places = torch.arange(LENGTH)[None]
    expected = block(x[None], position_ids=places, attention_mask=causal_mask())[0][0]
    assert oracle.relative(found, expected) <= oracle.FLOAT32


@torch.no_grad()
def test_gpt_j_s_rotary_order() -> None:
    rotary = 6
    config = transformers.GPTJConfig(
        n_embd=HIDDEN, n_head=HEADS, n_layer=1, n_positions=16, rotary_dim=rotary, vocab_size=20
    )
    block = oracle.scramble(transformers.GPTJModel(config)).eval().h[0].attn
    turn = RotaryPermute(HEADS, rotary=rotary)
    x = torch.randn(LENGTH, HIDDEN)
    query, key = turn.inverse((block.q_proj.weight, block.k_proj.weight))
    q, k = (half_split(linear(x, weight), HEADS, rotary) for weight in (query, key))
    found = linear(attention(q, k, linear(x, block.v_proj.weight), HEADS), block.out_proj.weight)
    places = torch.arange(LENGTH)[None]
    expected = block(x[None], position_ids=places, attention_mask=causal_mask())[0][0]
    assert oracle.relative(found, expected) <= oracle.FLOAT32


@torch.no_grad()
def test_gpt_neox_s_group_a_head() -> None:
    config = transformers.GPTNeoXConfig(
        hidden_size=HIDDEN, num_attention_heads=HEADS, num_hidden_layers=1, intermediate_size=16, vocab_size=20,
        rotary_pct=0.5,
    )  # fmt: skip
    model = oracle.scramble(transformers.GPTNeoXModel(config)).eval()
    block = model.layers[0].attention
    fused = Stack().then(Interleave(HEADS))
    weights, biases = (fused.inverse((one,)) for one in (block.query_key_value.weight, block.query_key_value.bias))
    x = torch.randn(LENGTH, HIDDEN)
    q, k, v = (linear(x, w, b) for w, b in zip(weights, biases, strict=True))
    rotary = HIDDEN // HEADS // 2
    heads = attention(half_split(q, HEADS, rotary), half_split(k, HEADS, rotary), v, HEADS)
    turned = model.rotary_emb(x[None], torch.arange(LENGTH)[None])
    expected = block(x[None], attention_mask=causal_mask(), position_embeddings=turned)[0][0]
    assert oracle.relative(linear(heads, block.dense.weight, block.dense.bias), expected) <= oracle.FLOAT32


@torch.no_grad()
def test_llama_is_half_split_and_meta_s_files_are_interleaved() -> None:
    """Its conversion script permutes Meta's rows as the inverse does; key heads are fewer than query heads."""
    config = transformers.LlamaConfig(
        hidden_size=HIDDEN, num_attention_heads=HEADS, num_key_value_heads=2, num_hidden_layers=1, intermediate_size=16,
        vocab_size=20,
    )  # fmt: skip
    model = oracle.scramble(transformers.LlamaModel(config)).eval()
    block = model.layers[0].self_attn
    x, size = torch.randn(LENGTH, HIDDEN), HIDDEN // HEADS
    q = half_split(linear(x, block.q_proj.weight), HEADS, size)
    k = (
        half_split(linear(x, block.k_proj.weight), 2, size)
        .unflatten(-1, (2, -1))
        .repeat_interleave(2, dim=1)
        .flatten(1)
    )
    v = linear(x, block.v_proj.weight).unflatten(-1, (2, -1)).repeat_interleave(2, dim=1).flatten(1)
    turned = model.rotary_emb(x[None], torch.arange(LENGTH)[None])
    expected = block(x[None], attention_mask=causal_mask(), position_embeddings=turned)[0][0]
    assert oracle.relative(linear(attention(q, k, v, HEADS), block.o_proj.weight), expected) <= oracle.FLOAT32
    meta = torch.randn(HIDDEN, HIDDEN)
    script = meta.view(HEADS, size // 2, 2, HIDDEN).transpose(1, 2).reshape(HIDDEN, HIDDEN)
    assert torch.equal(RotaryPermute(HEADS).inverse((meta,))[0], script)


def causal_mask() -> Tensor:
    return torch.full((LENGTH, LENGTH), torch.finfo(torch.float32).min).triu(1)[None, None]


def test_a_row_of_several_of_ours(tmp_path: Path) -> None:
    """Both norms of a layer in one tensor, a map stored transposed, one that asks the configuration: all come back."""
    norms = ("network.layers.{}.attention_norm", "network.layers.{}.feedforward_norm")
    inner, out = "network.layers.{}.feedforward.inner", "network.layers.{}.feedforward.out"
    table = {
        **{ours: row for ours, row in bert.LAYOUT.tensors.items() if ours not in (*norms, inner, out)},
        norms[0]: Map(norms, ("bert.h.{}.norms",), Stack((1, 1))),
        inner: Map((inner,), ("bert.h.{}.c_fc",), Transpose()),
        out: Map((out,), ("bert.h.{}.c_proj",), lambda config: RotaryPermute(config["num_attention_heads"])),
    }
    layout, config = replace(bert.LAYOUT, tensors=table), {"num_attention_heads": 2}
    _, learner, _ = tiny("bert", tmp_path)
    state = learner.tensors()
    theirs = {name: part.contiguous() for name, part in foreign(state, layout, learner.heads, config)}
    assert theirs["bert.h.1.norms.weight"].shape == (32,)
    assert torch.equal(theirs["bert.h.1.c_fc.weight"], state["network.layers.1.feedforward.inner.weight"].T)
    assert torch.equal(theirs["bert.h.1.c_fc.bias"], state["network.layers.1.feedforward.inner.bias"])
    found = to_ours(clean(theirs, layout), layout, learner, config, torch.float32)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    assert place(norms[1].format(1) + ".bias", table).theirs == ("bert.h.1.norms.bias",)


def test_a_row_stands_under_the_first_of_its_own_names() -> None:
    with pytest.raises(ValueError, match="the row of c is of a, b"):
        place("c.weight", {"c": Map(("a", "b"), ("d",), Stack((1, 1)))})
