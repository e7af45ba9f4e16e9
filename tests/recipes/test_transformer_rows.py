"""The Transformer's rows: the paper's learning rate, its sizes, and one model folder that is read back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from genus import catalog, pipeline
from genus.cost import cost
from genus.export.folder import load, save
from genus.export.verify import verify
from genus.generate import Request
from genus.generate.beam import BeamSearch
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy
from genus.model.encoder_decoder import EncoderDecoder
from small import documents

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe

WARMUP = 4_000
ROUNDED = 1e-4
"""Relative: rates and shares are written with five or six digits."""


@pytest.mark.parametrize("name", ["transformer/base", "transformer/big"])
def test_the_learning_rate_is_the_papers_formula(name: str) -> None:
    """Equation 3: d^-0.5 min(n^-0.5, n warmup^-1.5), here of the steps before an update, as everywhere in the house."""
    recipe = catalog.load(name)
    size, steps = recipe.model.width, recipe.budget.amount
    for n in [1, 10, WARMUP // 2, WARMUP, 2 * WARMUP, 25 * WARMUP]:
        expected = size**-0.5 * min(n**-0.5, n * WARMUP**-1.5)
        assert recipe.optimizer.lr * recipe.schedule.factor(n / steps) == pytest.approx(expected, rel=ROUNDED)


def by_hand(layers: int, size: int, inner: int, pieces: int) -> int:
    """Return the parameters: matrices without biases in attention, two biases in feed-forward, norms of two vectors."""
    feedforward, norm = 2 * size * inner + inner + size, 2 * size
    encoder = 4 * size * size + feedforward + 2 * norm
    decoder = 8 * size * size + feedforward + 3 * norm
    return pieces * size + layers * (encoder + decoder)


@pytest.mark.parametrize(
    ("name", "sizes"), [("transformer/base", (6, 512, 2048)), ("transformer/big", (6, 1024, 4096))]
)
def test_parameters_are_those_of_the_papers_sizes(name: str, sizes: tuple[int, int, int]) -> None:
    recipe = catalog.load(name)
    assert cost(recipe).parameters == by_hand(*sizes, 37_000)
    assert isinstance(recipe.model, EncoderDecoder)
    choices = recipe.model.encoder.to_json()["attention"]
    assert sizes[1] / choices["heads"] == 64
    (stage,) = recipe.stages
    assert stage.batch * stage.max_length == stage.batch * (stage.source_length or 0) == pytest.approx(25_000, rel=0.03)


@pytest.mark.parametrize("name", ["transformer/mini", "transformer/tiny"])
def test_a_small_row_trains_on_a_laptop(name: str) -> None:
    """4 million target tokens: 20 minutes on one CPU core, which takes 3,500 a second for `transformer/mini`."""
    recipe = catalog.load(name)
    (stage,) = recipe.stages
    assert recipe.budget.unit == "steps"
    assert recipe.budget.amount * stage.batch * stage.max_length <= 4_200_000


def test_logits_begin_with_variance_one() -> None:
    """As embeddings are drawn with 1 / sqrt(d) and states end with a norm: tensor2tensor's reason for sqrt(d)."""
    recipe = catalog.load("transformer/tiny", ["tokens.vocab_size=2000"])
    torch.manual_seed(0)
    table = recipe.model.build(2_000).token_embedding.weight.detach()
    assert float(table.std()) == pytest.approx(128**-0.5, rel=0.02)
    states = torch.nn.functional.layer_norm(torch.randn(50, 128), (128,))
    assert float((states @ table.T).std()) == pytest.approx(1.0, rel=0.05)
    assert math.sqrt(128) * float(table.std()) == pytest.approx(1.0, rel=0.02)


@pytest.fixture(scope="module")
def row() -> Recipe:
    small = {"layers": 2, "hidden": 32}
    return catalog.load("transformer/tiny").overlay(
        {"tokens": {"vocab_size": 200}, "model": {"encoder": small, "decoder": small}}
    )


def test_a_native_folder_is_read_back(row: Recipe, tmp_path: Path) -> None:
    """The same weights, the same logits, and the same translations."""
    tokenizer = row.tokens.train(documents())
    torch.manual_seed(0)
    recipe, learner = pipeline.new_learner(row, tokenizer)
    save(tmp_path / "model", recipe, learner, tokenizer)
    verify(tmp_path / "model", learner)
    again = load(tmp_path / "model")
    assert again.recipe == recipe
    assert all(torch.equal(tensor, again.learner.tensors()[name]) for name, tensor in learner.tensors().items())
    requests = [Request(text, max_tokens=9) for text in ("the old river", "seven stones", "")]
    search = BeamSearch(beams=4, length_penalty=0.6, penalty_form="gnmt")
    for decoding in (Greedy(), search):
        engines = [Engine(one, recipe.model, tokenizer) for one in (learner, again.learner)]
        ids = [[[result.ids for result in found] for found in one.generate(requests, decoding)] for one in engines]
        assert ids[0] == ids[1]
