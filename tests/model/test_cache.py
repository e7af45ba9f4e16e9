"""The key-value cache: cached, packed generation equals reading everything again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
import torch
from torch import Tensor

import decoding
from decoding import DOUBLE, cached, opened, read
from genus.batch import Packed
from genus.model.attention.masks import Banded, Causal, Prefix
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.attention.plan import Source
from genus.model.attention.relative import RelativeAttention
from genus.model.block.parallel import Parallel
from genus.model.embedding import Embedding
from genus.model.norm import Identity
from genus.model.position import NoPosition
from genus.model.position.bias import Alibi, RelativeBuckets
from genus.model.position.learned import LearnedPosition
from genus.model.position.rotary import Rotary
from hand import equal_rows
from toys.decoder import DECODER, VOCABULARY

if TYPE_CHECKING:
    from genus.model.transformer import Transformer, TransformerNetwork


def embedded(**choices: object) -> Transformer:
    return replace(DECODER, embedding=Embedding(segments=0, norm=Identity(), dropout=0.0, **choices))  # type: ignore[arg-type]


def relative(**choices: object) -> Transformer:
    attention = RelativeAttention(heads=4, dropout=0.0, **choices)  # type: ignore[arg-type]
    return replace(embedded(position=NoPosition()), attention=attention)


MODELS = {
    "rotary": DECODER,
    "learned": embedded(position=LearnedPosition(length=40)),
    "interleaved, half of a head": embedded(position=Rotary(interleaved=True, fraction=0.5)),
    "T5": embedded(position=RelativeBuckets(buckets=8, longest=6, both_directions=False)),
    "ALiBi": embedded(position=Alibi()),
    "parallel": replace(DECODER, block=Parallel()),
    "relative": relative(mask=Causal()),
    "relative, clamped, banded": relative(mask=Banded(width=4), clamp_len=2),
}
models = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


def built(model: Transformer) -> TransformerNetwork:
    return decoding.built(model, VOCABULARY)


def texts() -> list[Tensor]:
    return decoding.texts(VOCABULARY)


@models
def test_cached_generation_of_packed_prompts_is_that_of_each_alone(model: Transformer) -> None:
    """Token for token, for prompts of different lengths, packed in another order than their slots."""
    network = built(model)
    decoding.same_as_each_alone(network, opened(network, decoding.CAPACITIES), texts())


@models
def test_sequences_join_leave_and_go_on_by_several_tokens(model: Transformer) -> None:
    decoding.joining_and_leaving(built(model), VOCABULARY)


@models
def test_sequences_that_are_alike_are_one_piece(model: Transformer) -> None:
    """Samples of one prompt are computed at once, and each as if alone."""
    from genus.model.attention.cached import pieces

    network, given = built(model), texts()
    cache = opened(network, dict.fromkeys(range(3), 12))
    cached(network, cache, {slot: given[0].tolist() for slot in range(3)})
    packed = cache.packed({slot: [3 + slot] for slot in range(3)})
    (mask,) = {layer.attention.choice.mask for layer in list(network.layers)[:1]}
    [piece] = pieces(cache, packed, mask, network.position_bias)
    assert (piece.sequences, piece.tokens, piece.stride) == (3, 1, 12)
    told = cached(network, cache, {slot: [3 + slot] for slot in range(3)})
    for slot, state in told.items():
        alone = read(network, equal_rows(torch.cat([given[0], torch.tensor([3 + slot])])[None]))[-1]
        torch.testing.assert_close(state, alone, rtol=DOUBLE, atol=DOUBLE)


@models
def test_no_later_token_moves_an_earlier_state(model: Transformer) -> None:
    decoding.no_later_token_moves_an_earlier_state(built(model), VOCABULARY)


def test_what_another_slot_holds_changes_no_bit() -> None:
    network, given = built(DECODER), texts()
    states = []
    for other in (given[1], given[2]):
        cache = opened(network, {0: 8, 1: 12})
        for slot, ids in enumerate((given[0], other)):  # one by one: products of other sizes round otherwise
            cached(network, cache, {slot: ids.tolist()})
        states.append(cached(network, cache, {0: [4], 1: [7]}))
    assert torch.equal(states[0][0], states[1][0])
    assert not torch.equal(states[0][1], states[1][1])


def test_beams_go_on_from_their_parents() -> None:
    network, given = built(DECODER), texts()
    cache = opened(network, dict.fromkeys(range(3), 20))
    cached(network, cache, {slot: given[slot].tolist() for slot in range(3)})
    cache.reorder({0: 2, 1: 0, 2: 2})
    assert cache.lengths() == {0: 9, 1: 5, 2: 9}
    told = cached(network, cache, {key: [4] for key in range(3)})
    for slot, parent in enumerate((2, 0, 2)):
        whole = read(network, equal_rows(torch.cat([given[parent], torch.tensor([4])])[None]))
        torch.testing.assert_close(told[slot], whole[-1], rtol=DOUBLE, atol=DOUBLE)
    small = opened(network, {0: 4, 1: 6})
    cached(network, small, {0: [1], 1: [1, 2, 3, 4, 5]})
    with pytest.raises(ValueError, match="parent"):
        small.reorder({0: 1})


def test_a_prefix_is_seen_by_all_of_it() -> None:
    """Within a prompt that is a prefix all tokens see each other; what follows is causal, cached or not."""
    attention = MultiHeadAttention(heads=4, dropout=0.0, mask=Prefix())
    network, ids = built(replace(DECODER, attention=attention)), texts()[2]
    whole = equal_rows(ids[None], {"prefix": (torch.arange(9) < 6).long()})
    expected = read(network, whole)
    cache = opened(network, {0: 12})
    packed = cache.packed({0: ids[:6].tolist()}, facts=["prefix"])
    found = [read(network, replace(packed, facts={"prefix": torch.ones(6).long()}), cache=cache)]
    for one in ids[6:].tolist():
        found.append(read(network, cache.packed({0: [one]}, facts=["prefix"]), cache=cache))
    torch.testing.assert_close(torch.cat(found), expected, rtol=DOUBLE, atol=DOUBLE)


def test_cross_attention_reads_a_second_cache() -> None:
    """Keys and values of the source are made once, and read by every step; one source is empty."""
    cross = MultiHeadAttention(heads=4, key_heads=2, dropout=0.0)
    network, given = built(replace(DECODER, cross=cross)), texts()
    lengths = [6, 0, 4, 9]
    torch.manual_seed(2)
    states = torch.randn(sum(lengths), 32, dtype=torch.float64)
    caches = {
        "cache": opened(network, dict.fromkeys(range(4), 20)),
        "source_cache": opened(network, dict(enumerate(lengths)), cross=True),
    }
    source = caches["source_cache"].packed({slot: [0] * length for slot, length in enumerate(lengths)})
    cached(network, new={slot: ids.tolist() for slot, ids in enumerate(given)}, source=Source(source, states), **caches)
    found = cached(network, new={slot: [one] for slot, one in enumerate([3, 1, 4, 1])}, **caches)
    for slot, one in enumerate([3, 1, 4, 1]):
        alone = equal_rows(torch.cat([given[slot], torch.tensor([one])])[None])
        first, length = sum(lengths[:slot]), lengths[slot]
        own = Packed.laid(torch.zeros(max(length, 1), dtype=torch.int64), [[length]], max(length, 1))
        filled = states[first : first + length] if length else torch.zeros(1, 32, dtype=torch.float64)
        expected = read(network, alone, source=Source(own, filled))
        torch.testing.assert_close(found[slot], expected[-1], rtol=DOUBLE, atol=DOUBLE)


def test_attention_without_a_cache_says_so() -> None:
    from genus.model.attention.linformer import LinformerAttention

    plain = Embedding(segments=0, position=NoPosition(), norm=Identity())
    network = replace(DECODER, attention=LinformerAttention(heads=4, rank=4), embedding=plain).build(VOCABULARY)
    assert cast("TransformerNetwork", network).cache(16) is None
    assert DECODER.causal
    assert not replace(DECODER, attention=MultiHeadAttention(heads=4)).causal
    assert Causal().after_prompt() == Causal()
