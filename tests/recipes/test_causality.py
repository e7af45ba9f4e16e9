"""Objectives and models that contradict each other are refused when a recipe is read, in one line."""

from __future__ import annotations

import pytest

from genus import catalog
from genus.errors import UsageError

NEXT = "objectives=[{kind='CausalLM'}]"


@pytest.mark.parametrize(
    ("row", "settings", "message"),
    [
        ("bert/tiny", [NEXT], r"CausalLM predicts the next token.*model\.attention\.mask=Causal"),
        ("transformer-xl/tiny", ["model.attention.mask=Full"], "CausalLM predicts the next token"),
        ("bert/tiny", ["model.attention.mask=Causal"], r"MaskedLM restores.*model\.attention\.mask=Full"),
        (
            "bert/tiny",
            ["objectives=[{kind='PermutationLM'}]"],
            r"PermutationLM predicts.*model\.attention=TwoStreamAttention",
        ),
        (
            "roberta/tiny",
            ["model.attention.mask=Prefix"],
            "model: it reads prefix of every token, which FullSentences",
        ),
    ],
)
def test_what_gives_the_answer_away_is_refused(row: str, settings: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        catalog.load(row, settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("visibility", ["Causal", "{kind='Banded', width=4}"])
def test_a_causal_model_learns_the_next_token(visibility: str) -> None:
    recipe = catalog.load("roberta/tiny", [NEXT, f"model.attention.mask={visibility}"])
    assert recipe.model.causal
    assert recipe.model.in_words.startswith("decoder")
