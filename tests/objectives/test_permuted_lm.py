"""The permuted language model: which tokens are asked for, what each sees, and that no token sees its own answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_text_to_text import WORDS

from genus.batch import Batch
from genus.catalog import load
from genus.errors import UsageError
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.model.attention.masks import OrderedQueries
from genus.model.transformer import Transformer
from genus.objectives.masking.targets import RandomTokens
from genus.objectives.pretraining.permuted_lm import PermutedLM

MASK = 7
TOKENS = replace(WORDS, roles=WORDS.roles | {"mask": MASK})


def made(length: int, seed: int, objective: PermutedLM | None = None) -> Example:
    """Return an example of so many tokens and the end token."""
    text = 100 + np.random.default_rng(seed).permutation(400)[:length]
    framed = Example({"tokens": Sequence(*TOKENS.frame(text))}, {})
    return (objective or PermutedLM()).prepare_example(framed, TOKENS, np.random.default_rng(seed))


@given(length=st.integers(0, 90), seed=st.integers(0, 20), one_in=st.integers(1, 9))
def test_one_token_in_six_is_asked_for_at_its_place(length: int, seed: int, one_in: int) -> None:
    objective = PermutedLM(selection=RandomTokens(one_in=one_in))
    example = made(length, seed, objective)
    tokens, (index, label) = example.tokens, example.targets["permuted_lm"]
    assert len(index) == min(max((length + 1) // one_in, 1), length)
    assert index.tolist() == [*range(length + 1, len(tokens.ids))]
    assert (tokens.ids[index] == MASK).all()
    assert tokens.positions is not None
    assert tokens.order is not None
    places = tokens.positions[index]
    assert label.tolist() == tokens.ids[places].tolist()
    assert tokens.positions[: length + 1].tolist() == [*range(length + 1)]
    assert (tokens.order[index] == tokens.order[places] - 1).all()
    assert sorted(tokens.order[places].tolist()) == [2 * (1 + n) for n in range(len(index))]
    context = np.setdiff1d(np.arange(length + 1), places)
    assert not tokens.order[context].any()
    assert len(tokens.ids) <= objective.lengths({"tokens": np.array([length + 1])}, TOKENS)["tokens"][0]
    assert len(index) <= objective.max_targets(len(tokens.ids), 1)["permuted_lm"]


@given(limit=st.integers(4, 200), one_in=st.integers(1, 9))
def test_the_longest_text_that_fits(limit: int, one_in: int) -> None:
    objective = PermutedLM(selection=RandomTokens(one_in=one_in))
    raw = objective.raw_limits({"tokens": limit}, TOKENS)["tokens"]
    lengths = objective.lengths({"tokens": np.arange(1, raw + 2)}, TOKENS)["tokens"]
    assert (lengths <= limit).tolist() == [True] * raw + [False]


def test_orders_are_drawn_evenly() -> None:
    """Each of six orders of three tokens has its share of 1/6."""
    orders = [tuple(np.argsort(made(17, seed).tokens.order[-3:])) for seed in range(3000)]  # type: ignore[index]
    counts = np.unique(np.array(orders), axis=0, return_counts=True)[1]
    assert len(counts) == 6
    np.testing.assert_allclose(counts / 3000, 1 / 6, atol=0.03)


def test_what_each_token_sees() -> None:
    """Change one token: states move that come later in the order, the context's of a token of the context, and a mask
    token's own only, which tells nobody."""
    row = load("roberta/tiny").overlay({"tokens": {"vocab_size": 500}})
    assert isinstance(row.model, Transformer)
    model = replace(row.model, attention=replace(row.model.attention, mask=OrderedQueries()), dropout=0.0)  # type: ignore[call-arg]
    torch.manual_seed(0)
    network, example = model.build(500).eval(), made(17, 3)
    tokens = example.tokens
    assert tokens.order is not None

    def states(ids: np.ndarray) -> torch.Tensor:
        batch = pack([[Example({"tokens": replace(tokens, ids=ids)}, {})]], len(ids), pad=0)
        with torch.no_grad():
            return network(Batch({"tokens": batch.tokens}, {}))["tokens"]

    before, order = states(tokens.ids), tokens.order
    for place in range(len(tokens.ids)):
        ids = tokens.ids.copy()
        ids[place] = 99
        moved = (states(ids) != before).any(-1).numpy()
        asking = order[place] % 2 == 1
        seen_by = np.arange(len(ids)) == place if asking else order >= order[place]
        assert moved.tolist() == seen_by.tolist()


def test_who_may_learn_so() -> None:
    row = load("roberta/tiny")
    with pytest.raises(UsageError, match=r"take model\.attention\.mask=OrderedQueries"):
        row.overlay({"objectives": ["PermutedLM"]})
    found = row.overlay({"objectives": ["PermutedLM"], "model": {"attention": {"mask": "OrderedQueries"}}})
    assert found.objectives[0].in_words == "permuted LM (one token in 6)"
