"""The key-value cache: cached, packed generation equals reading everything again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
import torch
from torch import Tensor

import decoding
from decoding import DOUBLE, read
from genus.batch import Packed
from genus.model.attention.masks import Causal, Prefix
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.attention.plan import Source
from genus.model.block.parallel import Parallel
from genus.model.cache import prompts, step
from genus.model.embedding import Embedding
from genus.model.norm import Identity
from genus.model.position.bias import Alibi, RelativeBuckets
from genus.model.position.learned import LearnedPosition
from genus.model.position.rotary import Rotary
from hand import equal_rows
from toys.decoder import DECODER, VOCABULARY

if TYPE_CHECKING:
    from genus.model.cache import Cache
    from genus.model.transformer import Transformer, TransformerNetwork


def embedded(**choices: object) -> Transformer:
    return replace(DECODER, embedding=Embedding(segments=0, norm=Identity(), dropout=0.0, **choices))  # type: ignore[arg-type]


MODELS = {
    "rotary": DECODER,
    "learned": embedded(position=LearnedPosition(length=40)),
    "interleaved, half of a head": embedded(position=Rotary(interleaved=True, fraction=0.5)),
    "T5": embedded(position=RelativeBuckets(buckets=8, longest=6, both_directions=False)),
    "ALiBi": embedded(position=Alibi()),
    "parallel": replace(DECODER, block=Parallel()),
}
models = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


def built(model: Transformer) -> TransformerNetwork:
    return decoding.built(model, VOCABULARY)


def texts() -> list[Tensor]:
    return decoding.texts(VOCABULARY)


@models
def test_cached_generation_of_packed_prompts_is_that_of_each_alone(model: Transformer) -> None:
    """Token for token, for prompts of different lengths, packed in rows in another order than their slots."""
    network = built(model)
    cache = network.cache(4, 20)
    assert cache is not None
    decoding.same_as_each_alone(network, cache, texts())


@models
def test_no_later_token_moves_an_earlier_state(model: Transformer) -> None:
    decoding.no_later_token_moves_an_earlier_state(built(model), VOCABULARY)


def test_a_slot_is_freed_taken_again_and_no_other_moves() -> None:
    """What another slot holds changes no bit; a freed slot starts anew with a prompt, in a cache that is not empty."""
    network, given = built(DECODER), texts()
    cache, other = (cast("Cache", network.cache(2, 20)) for _ in range(2))
    for one, second in ((cache, given[1]), (other, given[2])):
        read(network, prompts([[given[0], second]], 16, [[0, 1]]), cache=one)
    ids = torch.tensor([4, 7])
    states = [read(network, step(ids, one, torch.tensor([True, True])), cache=one) for one in (cache, other)]
    assert torch.equal(states[0][0], states[1][0])
    assert not torch.equal(states[0][1], states[1][1])
    cache.free(1)
    alone = read(network, step(ids, cache, torch.tensor([True, False])), cache=cache)
    assert cache.lengths.tolist() == [len(given[0]) + 2, 0]
    assert alone[0].isfinite().all()
    fresh = read(network, prompts([[given[3]]], 5, [[1]]), cache=cache)
    assert cache.lengths.tolist() == [len(given[0]) + 2, 3]
    expected = read(network, equal_rows(given[3][None]))
    torch.testing.assert_close(fresh[:3], expected, rtol=DOUBLE, atol=DOUBLE)


def test_beams_go_on_from_their_parents() -> None:
    network, given = built(DECODER), texts()
    cache = cast("Cache", network.cache(2, 20))
    read(network, prompts([[given[0], given[2]]], 14, [[0, 1]]), cache=cache)
    cache.reorder(torch.tensor([1, 1]))
    assert cache.lengths.tolist() == [9, 9]
    states = read(network, step(torch.tensor([4, 4]), cache, torch.tensor([True, True])), cache=cache)
    assert torch.equal(states[0], states[1])
    whole = read(network, equal_rows(torch.cat([given[2], torch.tensor([4])])[None]))
    torch.testing.assert_close(states[0], whole[-1], rtol=DOUBLE, atol=DOUBLE)


def test_a_prefix_is_seen_by_all_of_it() -> None:
    """Within a prompt that is a prefix all tokens see each other; what follows is causal, cached or not."""
    attention = MultiHeadAttention(heads=4, dropout=0.0, mask=Prefix())
    network, ids = built(replace(DECODER, attention=attention)), texts()[2]
    whole = equal_rows(ids[None], {"prefix": (torch.arange(9) < 6).long()})
    expected = read(network, whole)
    cache = cast("Cache", network.cache(1, 12))
    packed = prompts([[ids[:6]]], 6, [[0]])
    found = [read(network, replace(packed, facts={**packed.facts, "prefix": torch.ones(6).long()}), cache=cache)]
    found += [read(network, step(one[None], cache, torch.tensor([True])), cache=cache) for one in ids[6:]]
    torch.testing.assert_close(torch.cat(found), expected, rtol=DOUBLE, atol=DOUBLE)


def test_cross_attention_reads_a_second_cache() -> None:
    """Keys and values of the source are made once, and read by every step; one source is empty."""
    cross = MultiHeadAttention(heads=4, key_heads=2, dropout=0.0)
    network, given = built(replace(DECODER, cross=cross)), texts()
    source_rows = [[6, 0], [4, 9]]
    torch.manual_seed(2)
    states = torch.randn(26, 32, dtype=torch.float64)
    slots = torch.zeros(26, dtype=torch.int64)
    source = Packed.laid(torch.zeros(26, dtype=torch.int64), source_rows, 13)
    for slot, (start, end) in {0: (0, 6), 2: (13, 17), 3: (17, 26)}.items():
        slots[start:end] = slot
    source = replace(source, facts={"slot": slots})
    rows = [[given[0], given[1]], [given[2], given[3]]]
    tokens = prompts(rows, 13, [[0, 1], [2, 3]])
    caches = {"cache": network.cache(4, 20), "source_cache": network.cache(4, 13, cross=True)}
    read(network, tokens, source=Source(source, states), **caches)
    ids = torch.tensor([3, 1, 4, 1])
    found = read(network, step(ids, cast("Cache", caches["cache"]), torch.ones(4, dtype=torch.bool)), **caches)
    longer = [
        [torch.cat([one, ids[2 * r + n : 2 * r + n + 1]]) for n, one in enumerate(row)] for r, row in enumerate(rows)
    ]
    whole = prompts(longer, 15, [[0, 1], [2, 3]])
    expected = read(network, whole, source=Source(source, states))
    last = [end - 1 for _, end in whole.spans()]
    torch.testing.assert_close(found, expected[last], rtol=DOUBLE, atol=DOUBLE)


def test_attention_without_a_cache_says_so() -> None:
    from genus.model.attention.linformer import LinformerAttention
    from genus.model.position import NoPosition

    plain = Embedding(segments=0, position=NoPosition(), norm=Identity())
    network = replace(DECODER, attention=LinformerAttention(heads=4, rank=4), embedding=plain).build(VOCABULARY)
    assert cast("TransformerNetwork", network).cache(2, 8) is None
    assert DECODER.causal
    assert not replace(DECODER, attention=MultiHeadAttention(heads=4)).causal
    assert Causal().after_prompt() == Causal()
