"""Every causal network of the catalog: no later token moves an earlier state, and a cache changes no token.

A new member is covered without a line here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import pytest

import decoding
from genus import catalog
from small import VOCABULARY, shrunk

if TYPE_CHECKING:
    from genus.model.transformer import Transformer


def causal() -> dict[str, Transformer]:
    """Return a row's name for every causal model that is made when the rows are made small, and the model.

    Without those of LSH attention, as published: a later token has a part in which tokens are sorted into a chunk.
    """
    found: dict[Transformer, str] = {}
    for name in catalog.names():
        model = shrunk(catalog.load(name)).model
        if model.causal and "LSHAttention" not in json.dumps(model.to_json()):
            found.setdefault(cast("Transformer", model), name)
    return {name: model for model, name in found.items()}


MODELS = causal()
models = pytest.mark.parametrize("name", MODELS)


def test_there_are_some() -> None:
    assert {name.split("/")[0] for name in MODELS} >= {"transformer-xl", "gpt", "gpt2", "codex", "gpt-j", "llama"}


@models
def test_no_later_token_moves_an_earlier_state(name: str) -> None:
    decoding.no_later_token_moves_an_earlier_state(decoding.built(MODELS[name], VOCABULARY), VOCABULARY)


@models
def test_cached_generation_of_packed_prompts_is_that_of_each_alone(name: str) -> None:
    network = decoding.built(MODELS[name], VOCABULARY)
    cache = decoding.opened(network, decoding.CAPACITIES)
    if cache is None:
        pytest.skip("has attention that keeps no keys")
    decoding.same_as_each_alone(network, cache, decoding.texts(VOCABULARY))
