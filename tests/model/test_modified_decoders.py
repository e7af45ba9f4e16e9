"""Modifications of a decoder: no later token moves an earlier state, and a cache, if there is one, changes no token."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import decoding
from genus.model.attention.convolution import DynamicConvolution, LightweightConvolution
from genus.model.attention.masks import Causal
from genus.model.attention.shaw import ShawAttention
from genus.model.attention.synthesizer import DenseSynthesizer, FactorizedSynthesizer, RandomSynthesizer
from genus.model.block.branched import Branched
from genus.model.block.evolved import Evolved
from genus.model.block.fixup import Fixup
from genus.model.block.rezero import ReZero
from genus.model.feedforward.experts import MixtureOfExperts, Switch
from genus.model.feedforward.mlp import MLP
from genus.model.feedforward.product_keys import ProductKeyMemory
from genus.model.norm import Identity
from genus.model.position.sinusoidal import Sinusoidal
from genus.model.stack.universal import AdaptiveUniversal, Universal
from toys.decoder import DECODER, DENSE, VOCABULARY

PLAIN = replace(DECODER, attention=DENSE, embedding=replace(DECODER.embedding, position=Sinusoidal()))
EXPERT = MLP(size=24)
CACHED: dict[str, dict[str, Any]] = {
    "ReZero": {"block": ReZero()},
    "Fixup": {"block": Fixup(), "norm": Identity()},
    "Branched": {"block": Branched()},
    "MixtureOfExperts": {"feedforward": MixtureOfExperts(expert=EXPERT, experts=4)},
    "Switch": {"feedforward": Switch(expert=EXPERT, experts=4, capacity=1.0)},
    "ProductKeyMemory": {"feedforward": ProductKeyMemory(keys=8, key_size=8, heads=2, chosen=3)},
}
UNCACHED: dict[str, dict[str, Any]] = {
    "Evolved": {"block": Evolved()},
    "Universal": {"stack": Universal()},
    "AdaptiveUniversal": {"stack": AdaptiveUniversal()},
    "ShawAttention": {"attention": ShawAttention(heads=4, longest=3, mask=Causal(), dropout=0.0)},
    "DenseSynthesizer": {"attention": DenseSynthesizer(heads=4, length=40, mask=Causal(), dropout=0.0)},
    "RandomSynthesizer": {
        "attention": RandomSynthesizer(heads=4, length=40, mixed="alpha", mask=Causal(), dropout=0.0)
    },
    "FactorizedSynthesizer": {"attention": FactorizedSynthesizer(heads=4, length=40, mask=Causal(), dropout=0.0)},
    "LightweightConvolution": {"attention": LightweightConvolution(heads=4, mask=Causal(), dropout=0.0)},
    "DynamicConvolution": {"attention": DynamicConvolution(heads=4, mask=Causal(), dropout=0.0)},
}


@pytest.mark.parametrize("changes", [*CACHED.values(), *UNCACHED.values()], ids=[*CACHED, *UNCACHED])
def test_no_later_token_moves_an_earlier_state(changes: dict[str, Any]) -> None:
    model = replace(PLAIN, **changes)
    assert model.causal
    decoding.no_later_token_moves_an_earlier_state(decoding.built(model, VOCABULARY), VOCABULARY)


@pytest.mark.parametrize("changes", CACHED.values(), ids=CACHED)
def test_a_cache_changes_no_token(changes: dict[str, Any]) -> None:
    network = decoding.built(replace(PLAIN, **changes), VOCABULARY)
    decoding.same_as_each_alone(network, decoding.opened(network, decoding.CAPACITIES), decoding.texts(VOCABULARY))


@pytest.mark.parametrize("changes", UNCACHED.values(), ids=UNCACHED)
def test_who_has_no_cache_says_so(changes: dict[str, Any]) -> None:
    assert decoding.built(replace(PLAIN, **changes), VOCABULARY).cache(8) is None
