"""Text to text in one sequence: source and target are those of two streams, and no token sees what it predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_text_to_text import OBJECTIVES, WORDS

from genus import pipeline
from genus.batch import Batch
from genus.cost import component_cost
from genus.errors import UsageError
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy
from genus.objectives.pretraining.concatenated_lm import ConcatenatedLM
from genus.objectives.pretraining.text_to_text import Denoising, TextToText
from genus.recipes import t5
from hand import equal_rows
from small import documents

if TYPE_CHECKING:
    from genus.objectives import Learner
    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer

DOUBLE = 1e-12
"""Relative; of float64, in which both ways take the same sums."""


def framed(length: int, seed: int) -> Example:
    """Return a text of different tokens with its end token."""
    text = 100 + np.random.default_rng(seed).permutation(400)[:length]
    return Example({"tokens": Sequence(*WORDS.frame(text))}, {})


@given(objective=OBJECTIVES, length=st.integers(0, 60), seed=st.integers(0, 9))
def test_it_is_the_source_and_then_the_target(objective: TextToText, length: int, seed: int) -> None:
    """Of the same draws; what is predicted are the target's tokens, each from the one before it."""
    apart = objective.prepare_example(framed(length, seed), WORDS, np.random.default_rng(seed))
    joined = ConcatenatedLM(objective=objective)
    made = joined.prepare_example(framed(length, seed), WORDS, np.random.default_rng(seed))
    source, target = apart.streams["source"].ids, apart.tokens.ids[1:]
    assert made.streams.keys() == {"tokens"}
    assert made.tokens.ids.tolist() == [*source, *target]
    index, label = made.targets[joined.target]
    assert index.tolist() == list(range(len(source) - 1, len(source) + len(target) - 1))
    assert label.tolist() == target.tolist()
    assert made.tokens.prefix == len(source)
    told = joined.lengths({"tokens": np.array([length + 1])}, WORDS)["tokens"][0]
    both = objective.lengths({"tokens": np.array([length + 1])}, WORDS)
    assert len(made.tokens.ids) <= told == both["source"][0] + both["tokens"][0] - 1


@given(objective=OBJECTIVES, limit=st.integers(8, 120))
def test_the_longest_text_that_fits(objective: TextToText, limit: int) -> None:
    joined = ConcatenatedLM(objective=objective)
    raw = joined.raw_limits({"tokens": limit}, WORDS)["tokens"]
    made = joined.lengths({"tokens": np.arange(1, raw + 2)}, WORDS)["tokens"]
    assert (made <= limit).tolist() == [True] * raw + [False]


def test_all_tokens_but_the_first_can_be_learned() -> None:
    joined = ConcatenatedLM(learned="all")
    made = joined.prepare_example(framed(20, 0), WORDS, np.random.default_rng(0))
    index, label = made.targets["denoising"]
    assert index.tolist() == list(range(len(made.tokens.ids) - 1))
    assert label.tolist() == made.tokens.ids[1:].tolist()


def test_prefixes_are_packed() -> None:
    """0 in padding, and in examples without one."""
    one = Sequence(np.arange(5), np.zeros(5, np.int64), np.zeros(5, np.bool_), prefix=3)
    other = Sequence(np.arange(4), np.zeros(4, np.int64), np.zeros(4, np.bool_))
    packed = pack([[Example({"tokens": one}, {}), Example({"tokens": other}, {})]], 12, pad=0).tokens
    assert packed.facts["prefix"].tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    assert "prefix" not in pack([[Example({"tokens": other}, {})]], 12, pad=0).tokens.facts


def test_who_may_learn_so() -> None:
    for row, changes, words in (
        (t5.PREFIX, {"model": {"attention": {"mask": "Full"}}}, "take a causal one, or model.attention.mask=Prefix"),
        (t5.PREFIX, {"objectives": [{"kind": "ConcatenatedLM", "learned": "all"}]}, "take a causal mask"),
        (t5.PREFIX, {"objectives": [{"kind": "CausalLM"}]}, "CausalLM predicts the next token"),
        (t5.BASE, {"objectives": ["ConcatenatedLM"]}, "which none of FullSentences, ConcatenatedLM gives"),
        (t5.DECODER, {"objectives": ["ConcatenatedLM", "CausalLM"]}, "ConcatenatedLM makes a text of its own"),
        (t5.DECODER, {"stages": {"0": {"max_length": 4000}}}, "need 182 sentinels, and the vocabulary has 100"),
    ):
        with pytest.raises(UsageError, match=words):
            row.overlay(changes)
    assert not t5.STACK.causal_after_prefix
    assert t5.PREFIX.model.causal_after_prefix
    assert not t5.PREFIX.model.causal


def test_the_output_layer_costs_what_it_is_asked_for() -> None:
    """114 tokens of 626 (span.gin), or all."""
    lengths = {"tokens": 626}
    without = t5.PREFIX.model.cost(t5.PREFIX.vocab_rows, lengths).flops
    some, every = (component_cost(row, lengths).flops - without for row in (t5.PREFIX, t5.DECODER))
    assert some / every == pytest.approx(114 / 626, abs=0.005)


@pytest.fixture(scope="module")
def prefix_lm() -> tuple[Recipe, Learner, Tokenizer]:
    """Return a small prefix decoder of random weights in float64, with its tokenizer."""
    row = t5.PREFIX.overlay({"tokens": {"vocab_size": 300}, "model": {"layers": 2, "hidden": 32}})
    tokenizer = row.tokens.train(documents())
    torch.manual_seed(0)
    recipe, learner = pipeline.new_learner(row, tokenizer)
    return recipe, learner.double().eval(), tokenizer


def states(learner: Learner, ids: torch.Tensor, prefix: int) -> torch.Tensor:
    given = equal_rows(ids[None], {"prefix": (torch.arange(len(ids)) < prefix).long()})
    with torch.no_grad():
        return learner.network(Batch({"tokens": given}, {}))["tokens"]


def test_what_sees_what(prefix_lm: tuple[Recipe, Learner, Tokenizer]) -> None:
    """Every token of the source sees all of it, and no token of the target a later one."""
    learner, ids = prefix_lm[1], torch.arange(110, 119)
    before = states(learner, ids, 5)
    for changed in range(9):
        other = ids.clone()
        other[changed] = 150
        moved = (states(learner, other, 5) != before).any(-1).tolist()
        assert moved == ([True] * 9 if changed < 5 else [False] * changed + [True] * (9 - changed))


def test_without_prefixes_it_is_causal(prefix_lm: tuple[Recipe, Learner, Tokenizer]) -> None:
    learner, ids = prefix_lm[1], torch.arange(110, 119)
    with torch.no_grad():
        bare = learner.network(Batch({"tokens": equal_rows(ids[None])}, {}))["tokens"]
    torch.testing.assert_close(bare, states(learner, ids, 0), rtol=DOUBLE, atol=DOUBLE)


@pytest.mark.parametrize("cached", [True, False])
def test_prompts_are_prefixes(
    prefix_lm: tuple[Recipe, Learner, Tokenizer], cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy ids are those of reading prompt and text anew for each token, the prompt as prefix; several at once."""
    recipe, learner, tokenizer = prefix_lm
    if not cached:
        monkeypatch.setattr(type(learner.network), "cache", lambda *_, **__: None)
    prompts = [[*range(110, 110 + number), 1] for number in (3, 9, 1, 6)]
    requests = [Request(prompt, max_tokens=6, ignore_end=True) for prompt in prompts]
    found = Engine(learner, recipe.model, tokenizer, slots=3).generate(requests, Greedy())
    head = learner.heads["denoising"].lm_head
    for prompt, [result] in zip(prompts, found, strict=True):
        ids = [*prompt]
        for _ in range(6):
            logits = head(states(learner, torch.tensor(ids), len(prompt))[-1:])  # type: ignore[operator]
            ids.append(int(logits[0, : tokenizer.vocabulary.size].argmax()))
        assert list(result.ids) == ids[len(prompt) :]


def test_the_head_is_that_of_the_objective() -> None:
    joined = ConcatenatedLM(objective=Denoising(label="spans"))
    assert (joined.name, joined.losses, joined.token_losses) == ("spans", ("spans",), {"spans"})
    assert joined.in_words == "denoising, source and target in one sequence"
