"""Attention whose maps are split by heads from outside: queries, keys and values by rows, the output by columns.

The module keeps its choices. What its halves give sums up to what the whole gives, as tensor parallelism needs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from genus.batch import Packed
from genus.model.attention.block_sparse.layer import BlockSparseAttention
from genus.model.attention.chunked.local import ChunkedLocalAttention
from genus.model.attention.chunked.lsh import LSHAttention
from genus.model.attention.linformer import LengthProjection, LinformerAttention
from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.attention.plan import Context
from genus.model.attention.relative import RelativeAttention
from genus.model.attention.two_stream import TwoStreamAttention

if TYPE_CHECKING:
    from torch import Tensor

    from genus.model.attention import Attention, AttentionLayer

DOUBLE = 1e-12
"""Sums of a few dozen float64 terms in another order."""
HIDDEN, LENGTH = 16, 20
ROWS = [[12, 5], [20]]
SPLIT: dict[str, Attention] = {
    "softmax": MultiHeadAttention(heads=4, dropout=0.0),
    "causal": MultiHeadAttention(heads=4, dropout=0.0, mask=Causal()),
    "two heads": MultiHeadAttention(heads=2, dropout=0.0, bias=False),
    "relative": RelativeAttention(heads=4, dropout=0.0),
    "two-stream": TwoStreamAttention(heads=4, dropout=0.0),
    "local": ChunkedLocalAttention(heads=4, head_size=6, chunk_length=4, dropout=0.0),
    "low-rank": LinformerAttention(heads=4, rank=3, length=LENGTH, dropout=0.0),
    "low-rank, unshared": LinformerAttention(heads=4, rank=3, length=LENGTH, sharing="none", dropout=0.0),
    "low-rank, one": LinformerAttention(heads=4, rank=3, length=LENGTH, sharing="key-value", dropout=0.0),
}
DRAWN: dict[str, Attention] = {
    "lsh": LSHAttention(heads=2, head_size=6, chunk_length=4, num_buckets=(4,)),
    "block-sparse": BlockSparseAttention(heads=2, dropout=0.0, block_size=4, num_global_tokens=4, random_blocks=1),
}
OF_HEADS = {"content_bias": 0, "position_bias": 0, "segment_bias": 0, "segments": 1, "key_bias": 0, "value_bias": 0}
"""Vectors that are split too, and along which axis."""
Make = Callable[..., Packed]


def part(parameter: Tensor, rank: int, axis: int = 0) -> nn.Parameter:
    return nn.Parameter(parameter.detach().chunk(2, axis)[rank].clone())


def half(whole: AttentionLayer, rank: int) -> AttentionLayer:
    """Return a module that holds half of the heads."""
    made = copy.deepcopy(whole)
    for name, module in made.named_children():
        if name == "out" and isinstance(module, nn.Linear):
            module.weight = part(module.weight, rank, 1)
            if module.bias is not None:
                module.bias = nn.Parameter(module.bias.detach() / 2)
        elif isinstance(module, nn.Linear):
            module.weight = part(module.weight, rank)
            if module.bias is not None:
                module.bias = part(module.bias, rank)
        elif isinstance(module, LengthProjection) and len(module.weight) > module.rank:
            module.weight = part(module.weight, rank)
    for name, axis in OF_HEADS.items():
        if getattr(made, name, None) is not None:
            setattr(made, name, part(getattr(made, name), rank, axis))
    return made


def built(attention: Attention) -> AttentionLayer:
    torch.manual_seed(0)
    layer = attention.build(HIDDEN).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


@pytest.mark.parametrize("attention", SPLIT.values(), ids=SPLIT)
def test_halves_sum_up_to_the_whole(make_packed: Make, attention: Attention) -> None:
    packed, layer = make_packed(ROWS, LENGTH, torch.ones(2 * LENGTH, dtype=torch.long)), built(attention)
    x = torch.randn(2 * LENGTH, HIDDEN, dtype=torch.float64)
    expected = layer(x, layer.plan(Context.of(packed, x, False)))
    found = sum(one(x, one.plan(Context.of(packed, x, False))) for one in (half(layer, rank) for rank in range(2)))
    torch.testing.assert_close(found, expected, rtol=DOUBLE, atol=DOUBLE * expected.abs().max().item())


@pytest.mark.parametrize("attention", DRAWN.values(), ids=DRAWN)
def test_what_is_drawn_for_each_head_is_not_split(make_packed: Make, attention: Attention) -> None:
    """One head of two would take the draws of both."""
    packed, layer = make_packed(ROWS, LENGTH, torch.ones(2 * LENGTH, dtype=torch.long)), half(built(attention), 1)
    x = torch.randn(2 * LENGTH, HIDDEN, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"2 heads.*holds 1: it cannot be split by heads"):
        layer(x, layer.plan(Context.of(packed, x, False)))
