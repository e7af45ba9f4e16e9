"""Every causal network of the catalog: no later token moves an earlier state, and a cache changes no token.

A new member is covered without a line here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch

import decoding
from generate.writers import TEXTS
from genus import catalog
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.reader import Reader
from genus.generate.sampling import Greedy
from genus.model.cache import Cache, LayerCache
from genus.model.lstm import LSTM
from genus.model.transformer import Transformer
from genus.objectives import evaluating
from genus.tokens.algorithms.byte_bpe import ByteBPE
from small import VOCABULARY, of_texts, shrunk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.model import Model
    from genus.recipe import Recipe

LOGITS = 1e-5
"""Of float32 logits of weights as they are drawn."""
MOST_BYTES = 1.1
"""Bytes of a cache over those of the keys and values of its texts, or of the states of a recurrent network."""
WITHOUT_CACHE = {"LSHAttention": "as published, which earlier tokens share a chunk depends on later ones"}
"""Attention under which a causal model reads the whole text again for each token, and why."""


def causal() -> dict[str, Recipe]:
    """Return a row for every causal model that is made when the rows are made small, but those that read a source.

    These are tested in `tests/generate/test_from_a_source.py`, those that write images in `test_text_then_image.py`.
    """
    found: dict[Transformer, Recipe] = {}
    for name in catalog.names():
        recipe = shrunk(catalog.load(name))
        if recipe.model.causal and recipe.model.streams == {"tokens"} and of_texts(recipe):
            found.setdefault(cast("Transformer", recipe.model), recipe)
    return {recipe.name: recipe for recipe in found.values()}


ROWS = causal()
MODELS = {
    name: cast("Transformer", row.model)
    for name, row in ROWS.items()
    if not any(kind in json.dumps(row.model.to_json()) for kind in WITHOUT_CACHE)
}
models = pytest.mark.parametrize("name", MODELS)


def with_one_key_head(choices: Any) -> Any:
    """Return the choices of a model whose multi-head attention has one head of keys and values."""
    if isinstance(choices, list):
        return [with_one_key_head(one) for one in choices]
    if not isinstance(choices, dict):
        return choices
    own = {"key_heads": 1} if choices.get("kind") == "MultiHeadAttention" else {}
    return {key: with_one_key_head(value) for key, value in choices.items()} | own


GROUPED = {
    f"{name}, one head of keys": ROWS[name].overlay({"model": with_one_key_head(model.to_json())})
    for name, model in MODELS.items()
    if with_one_key_head(model.to_json()) != model.to_json()
}
CACHED = {name: ROWS[name] for name in MODELS} | GROUPED


def test_there_are_some() -> None:
    """GPT-3 and Turing-NLG, made small, are the networks of Codex and GPT-2."""
    members = {"transformer-xl", "gpt", "gpt2", "codex", "gpt-j", "llama", "chinchilla", "ctrl", "lstm"}
    assert {name.split("/")[0] for name in MODELS} >= members


@pytest.mark.parametrize("name", ROWS)
def test_every_member_has_a_cache_unless_the_reason_is_named(name: str) -> None:
    assert (decoding.built(ROWS[name].model, VOCABULARY).cache(8) is not None) == (name in MODELS)  # type: ignore[arg-type]


@models
def test_no_later_token_moves_an_earlier_state(name: str) -> None:
    decoding.no_later_token_moves_an_earlier_state(decoding.built(MODELS[name], VOCABULARY), VOCABULARY)


@models
def test_cached_generation_of_packed_prompts_is_that_of_each_alone(name: str) -> None:
    network = decoding.built(MODELS[name], VOCABULARY)
    decoding.same_as_each_alone(network, decoding.opened(network, decoding.CAPACITIES), decoding.texts(VOCABULARY))


@models
def test_sequences_join_leave_and_go_on_by_several_tokens(name: str) -> None:
    decoding.joining_and_leaving(decoding.built(MODELS[name], VOCABULARY), VOCABULARY)


class Uncached(Reader):
    """A reader that reads each text anew for each token."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self.cache = None


def turns(prompts: Sequence[Sequence[int]], slots: int) -> list[tuple[list[int], dict[int, int], list[int]]]:
    """Return, step by step, the slots that go on, the prompts that join by slot, and the slots that leave after it."""
    rng = np.random.default_rng(1)
    free, running, waiting, found = list(range(slots)), dict[int, int](), list(range(len(prompts))), []
    while waiting or running:
        joining = {}
        while free and waiting and rng.random() < 0.7:
            joining[free.pop()] = waiting.pop(0)
        going = [*running]
        running |= {slot: int(rng.integers(1, 7)) for slot in joining}
        running = {slot: left - 1 for slot, left in running.items()}
        leaving = [slot for slot, left in running.items() if not left]
        for slot in leaving:
            del running[slot]
        free += leaving
        if going or joining:
            found.append((going, joining, leaving))
    return found


def logits(reader: Reader, prompts: Sequence[list[int]], next_ids: Mapping[tuple[int, int], int]) -> list[torch.Tensor]:
    """Return the logits of every step of a batch that prompts join and leave; texts go on with given ids."""
    found = []
    for step, (going, joining, leaving) in enumerate(turns(prompts, 3)):
        for slot, prompt in joining.items():
            reader.open(slot, len(prompts[prompt]) + 7)
        new = {slot: [next_ids[step, slot]] for slot in going}
        with torch.inference_mode():
            found.append(reader.read(new | {slot: prompts[prompt] for slot, prompt in joining.items()}))
        for slot in leaving:
            reader.close(slot)
    return found


@pytest.mark.parametrize("name", CACHED)
def test_logits_are_those_without_a_cache_in_continuous_batching(name: str) -> None:
    """Ten prompts of 1 to 20 tokens in three slots: they join while others go on, and leave for the next ones."""
    recipe, rng = CACHED[name], np.random.default_rng(2)
    torch.manual_seed(0)
    learner = recipe.learner()
    prompts = [rng.integers(5, VOCABULARY, rng.integers(1, 21)).tolist() for _ in range(10)]
    next_ids = {
        (step, slot): int(rng.integers(5, VOCABULARY))
        for step, turn in enumerate(turns(prompts, 3))
        for slot in turn[0]
    }
    with evaluating(learner):
        cached, uncached = (
            logits(kind(learner, recipe.model, 3 * 27), prompts, next_ids) for kind in (Reader, Uncached)
        )
    assert len(cached) > 12
    for with_cache, without in zip(cached, uncached, strict=True):
        torch.testing.assert_close(with_cache, without, rtol=0, atol=LOGITS)


def tensors(holder: object) -> Iterator[torch.Tensor]:
    """Yield every tensor that a cache holds, however deep."""
    if isinstance(holder, torch.Tensor):
        yield holder
    elif isinstance(holder, Mapping):
        yield from tensors([*holder.values()])
    elif isinstance(holder, list | tuple):
        for one in holder:
            yield from tensors(one)
    elif isinstance(holder, Cache):
        yield from tensors(vars(holder))
    elif isinstance(holder, LayerCache):
        yield from tensors([getattr(holder, one.name) for one in fields(holder)])


def held(cache: Cache) -> int:
    """Return the bytes of all memory behind the tensors of a cache."""
    behind = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors(cache)}
    return sum(behind.values())


def needed(model: Model, tokens: int, texts: int) -> int:
    """Return the bytes of keys and values of so many tokens, or of the states of so many texts, in float32."""
    if isinstance(model, LSTM):
        return 4 * texts * model.layers * sum(model.state_sizes)
    assert isinstance(model, Transformer)
    heads = model.attention.of_layer(0).to_json()
    size = heads.get("size") or model.hidden // heads["heads"]
    return 4 * model.layers * tokens * 2 * (heads.get("key_heads") or heads["heads"]) * size


@pytest.mark.parametrize("name", CACHED)
def test_a_cache_has_the_bytes_of_keys_and_values_and_little_else(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """32 texts with prompts of 4 to 48 tokens, as the engine decodes them together."""
    tokens = ByteBPE(vocab_size=VOCABULARY)
    with_sentinels = replace(tokens.special_tokens, extra=("<extra_id_0>", "<extra_id_1>"))
    tokenizer = replace(tokens, special_tokens=with_sentinels).train(TEXTS)
    recipe = CACHED[name].overlay({"tokens": tokenizer.tokens.to_json()})
    engine, made = Engine(recipe.learner(), recipe.model, tokenizer), list[Reader]()
    reader = engine.reader
    monkeypatch.setattr(engine, "reader", lambda *given: made.append(reader(*given)) or made[-1])
    rng = np.random.default_rng(0)
    lengths = np.exp(rng.uniform(np.log(4), np.log(48), 32)).round().astype(int).tolist()
    requests = [Request(rng.integers(5, 250, length).tolist(), max_tokens=8, ignore_end=True) for length in lengths]
    engine.generate(requests, Greedy())
    [cache] = [one.cache for one in made]
    assert cache is not None
    least = needed(recipe.model, sum(lengths) + 8 * len(lengths), len(lengths))
    assert least <= held(cache) <= MOST_BYTES * least
