"""The decoders' rows: what their papers count in tokens, steps and parameters."""

from __future__ import annotations

import pytest

from genus import catalog
from genus.cost import cost
from genus.model.transformer import Transformer

NEAR = 0.02
"""Authors round to two or three digits."""
MEMBERS = ["gpt", "gpt2", "gpt3", "gpt-j", "ctrl", "turing-nlg", "codex", "llama", "chinchilla"]
ROWS = [name for name in catalog.names() if name.split("/")[0] in MEMBERS]
PUBLISHED = [name for name in ROWS if catalog.load(name).published.parameters is not None]


def layers(name: str) -> int:
    """Return the number of parameters without embeddings."""
    recipe = catalog.load(name)
    assert isinstance(recipe.model, Transformer)
    return (
        cost(recipe).network
        - recipe.model.embedding.cost(recipe.vocab_rows, recipe.model.hidden, {"tokens": 1}).parameters
    )


def tokens(name: str, share: float) -> float:
    """Return a share of a row's budget in tokens."""
    recipe = catalog.load(name)
    return share * recipe.budget.amount


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_about_what_the_authors_report(name: str) -> None:
    recipe = catalog.load(name)
    found = layers(name) if name.startswith("codex/") else cost(recipe).parameters
    assert recipe.published.parameters is not None
    assert abs(found / recipe.published.parameters - 1) < (0.05 if name == "codex/12b" else NEAR)


@pytest.mark.parametrize("name", [name for name in ROWS if catalog.load(name).published.parameters is None])
def test_rows_of_ours_train_on_a_laptop(name: str) -> None:
    """4 million tokens at length 128."""
    recipe = catalog.load(name)
    rows = max(stage.batch for stage in recipe.stages)
    assert {stage.max_length for stage in recipe.stages} == {128}
    spent = recipe.budget.amount * (rows * 128 if recipe.budget.unit == "steps" else 1)
    assert spent <= 4_200_000
    assert 8_000 <= recipe.tokens.vocab_size <= 16_000
    assert cost(recipe).parameters < 12_000_000


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith("gpt3/") and name in PUBLISHED])
def test_gpt3_s_batch_grows_over_four_to_twelve_billion_tokens(name: str) -> None:
    """From 32 thousand tokens, to the batch of the table; the warm-up is 375 million tokens, the decay 260 billion."""
    recipe = catalog.load(name)
    *growing, last = recipe.stages
    assert growing[0].batch * growing[0].max_length == 32_768
    assert [stage.batch for stage in recipe.stages] == sorted({stage.batch for stage in recipe.stages})
    assert all(later.batch <= 2 * stage.batch for stage, later in zip(recipe.stages, recipe.stages[1:], strict=False))
    assert 3.9e9 <= tokens(name, sum(stage.share for stage in growing)) <= 12.1e9
    rounded = {256: 0.5e6, 512: 1e6, 1024: 2e6, 1536: 3.2e6}[last.batch]
    assert last.batch * last.max_length == pytest.approx(rounded, rel=0.05)
    schedule = recipe.schedule.to_json()
    assert tokens(name, schedule["warmup"]) == pytest.approx(375e6)
    assert tokens(name, schedule["end"]) == pytest.approx(260e9, rel=1e-5)


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith("codex/") and name in PUBLISHED])
def test_codex_warms_up_in_175_steps(name: str) -> None:
    (stage,) = catalog.load(name).stages
    spent = tokens(name, catalog.load(name).schedule.to_json()["warmup"])
    assert spent / (stage.batch * stage.max_length) == pytest.approx(175, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "steps"),
    [("llama/7b", 2_000), ("llama/65b", 2_000), ("llama/2-70b", 2_000), ("gpt-j/6b", 3_000), ("ctrl/1.6b", 25_000)],
)
def test_warmup_is_the_published_number_of_steps(name: str, steps: int) -> None:
    recipe = catalog.load(name)
    (stage,) = recipe.stages
    whole = recipe.budget.amount / (1 if recipe.budget.unit == "steps" else stage.batch * stage.max_length)
    assert recipe.schedule.to_json()["warmup"] * whole == pytest.approx(steps, rel=0.01)


def test_chinchilla_s_batch_doubles_midway() -> None:
    first, second = catalog.load("chinchilla").stages
    assert (first.share, second.batch) == (0.5, 2 * first.batch)
    assert first.batch * first.max_length == pytest.approx(1.5e6, rel=1e-3)


def test_layers_of_gpt3_take_turns() -> None:
    model = catalog.load("gpt3/175b").model
    assert isinstance(model, Transformer)
    masks = [model.attention.of_layer(number).to_json()["mask"]["kind"] for number in range(4)]
    assert masks == ["Causal", "Banded", "Causal", "Banded"]
    assert model.causal


@pytest.mark.parametrize(("name", "inner"), [("llama/7b", 11_008), ("llama/13b", 13_824), ("llama/65b", 22_016)])
def test_llama_s_inner_size_is_two_thirds_up_to_a_multiple_of_256(name: str, inner: int) -> None:
    choices = catalog.load(name).model.to_json()
    assert choices["feedforward"]["size"] == inner == -(-(8 * choices["hidden"] // 3) // 256) * 256


def test_bare_names_are_the_first_published_rows() -> None:
    first = {"gpt3": "gpt3/125m", "llama": "llama/7b", "codex": "codex/300m", "ctrl": "ctrl/1.6b", "gpt-j": "gpt-j/6b"}
    assert {member: catalog.load(member).name for member in first} == first
