"""Beam search beside all texts of a tiny vocabulary, and the two forms of its length penalty."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch import nn

from genus import pipeline
from genus.batch import Batch
from genus.cli import main
from genus.cli.generate import _decoding
from genus.generate import Request
from genus.generate.beam import BeamSearch
from genus.generate.engine import Engine
from genus.recipes import transformer
from hand import equal_rows

if TYPE_CHECKING:
    from genus.objectives import Learner
    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer

TOKENS, BEST, SUMS = 4, 6, 1e-4
"""The most tokens of a text, how many texts are compared, and the tolerance of sums kept in float32."""
FORMS = {
    "length": lambda total, length, power: total / length**power,
    "gnmt": lambda total, length, power: total / ((5 + length) / (5 + 1)) ** power,
}


@dataclass(frozen=True)
class Tiny:
    """A model of a few pieces, so that all short texts can be looked at."""

    recipe: Recipe
    learner: Learner
    tokenizer: Tokenizer

    def engine(self) -> Engine:
        return Engine(self.learner, self.recipe.model, self.tokenizer)


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    small = {"layers": 1, "hidden": 16}
    recipe = transformer.TINY.overlay({"tokens": {"vocab_size": 8}, "model": {"encoder": small, "decoder": small}})
    tokenizer = recipe.tokens.train(["ab ba a b aab abb"] * 9)
    recipe, learner = pipeline.new_learner(recipe, tokenizer)
    with torch.no_grad():
        learner.network.token_embedding.weight.mul_(0.3)  # so that short texts are about as probable as long ones
    return Tiny(recipe, learner.double().eval(), tokenizer)


def every_text(tiny: Tiny, source: list[int]) -> list[tuple[float, tuple[int, ...]]]:
    """Return Σ log p and ids of every text that ends, or that has all tokens without an end."""
    words, head = tiny.tokenizer.vocabulary, cast("nn.Module", next(iter(tiny.learner.heads.values())).lm_head)
    found: list[tuple[float, tuple[int, ...]]] = []
    going: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for step in range(TOKENS):
        grown = []
        for total, ids in going:
            tokens = torch.tensor([[*words.target_begins, *ids]])
            streams = {"tokens": equal_rows(tokens), "source": equal_rows(torch.tensor([source]))}
            with torch.no_grad():
                states = tiny.learner.network(Batch(streams, {}))["tokens"][-1:]
                chances = head(states)[0].log_softmax(-1).tolist()
            grown += [(total + chance, (*ids, number)) for number, chance in enumerate(chances)]
        ends = [one for one in grown if one[1][-1] == words.end or step == TOKENS - 1]
        found, going = found + ends, [one for one in grown if one[1][-1] != words.end]
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("power", [0.0, 0.6, 1.0, 2.5])
@pytest.mark.parametrize("prompt", ["ab a", "b"])
def test_wide_beams_find_the_best_of_all_texts(tiny: Tiny, form: Any, power: float, prompt: str) -> None:
    engine, vocabulary = tiny.engine(), tiny.tokenizer.vocabulary.size
    beams = (vocabulary - 1) ** (TOKENS - 1) + 1
    texts = every_text(tiny, engine.prompts.source(Request(prompt)))
    assert len(texts) == sum((vocabulary - 1) ** step for step in range(TOKENS)) + (vocabulary - 1) ** TOKENS
    scored = sorted(((FORMS[form](total, len(ids), power), ids) for total, ids in texts), reverse=True)[:BEST]
    search = BeamSearch(beams=beams, length_penalty=power, penalty_form=form, early_stopping="never")
    [found] = engine.generate([Request(prompt, max_tokens=TOKENS, samples=BEST)], search)
    assert [result.ids for result in found] == [ids for _, ids in scored]
    assert [result.score for result in found] == pytest.approx([score for score, _ in scored], abs=SUMS)


def test_the_forms_differ_in_what_they_choose(tiny: Tiny) -> None:
    """Else the test above would tell nothing."""
    texts = every_text(tiny, tiny.engine().prompts.source(Request("ab a")))
    best = {form: max(texts, key=lambda one: score(one[0], len(one[1]), 1.0))[1] for form, score in FORMS.items()}
    assert best["length"] != best["gnmt"]
    assert len(best["length"]) > len(best["gnmt"])


@pytest.mark.parametrize(("length", "expected"), [(1, 1.0), (7, 2**0.6), (13, 3**0.6)])
def test_the_penalty_of_some_lengths(length: int, expected: float) -> None:
    search = BeamSearch(length_penalty=0.6, penalty_form="gnmt")
    assert search.score(-3.0, length) == pytest.approx(-3.0 / expected)


def test_a_hopeless_search_stops_before_all_tokens_are_read(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `never` waits for is the best score at the longest length, in the form that is chosen."""
    steps = itertools.count()
    engine, reader = tiny.engine(), Engine.reader

    def counted(*given: Any, **named: Any) -> Any:
        made = reader(*given, **named)
        read = made.read
        monkeypatch.setattr(made, "read", lambda new: (next(steps), read(new))[1])
        return made

    monkeypatch.setattr(Engine, "reader", counted)
    search = BeamSearch(beams=2, length_penalty=0.1, penalty_form="gnmt", early_stopping="never")
    engine.generate([Request("ab a", max_tokens=200)], search)
    assert next(steps) < 200


def test_the_command_takes_the_form(capsys: pytest.CaptureFixture[str]) -> None:
    made = _decoding(0.0, None, 1.0, 0.0, 4, 0.6, "gnmt", "no")
    assert made == BeamSearch(beams=4, length_penalty=0.6, penalty_form="gnmt")
    assert main(["generate", "nowhere", "x", "--beams", "4", "--penalty-form", "wu"]) == 2
    assert "--penalty-form: expected length or gnmt, got 'wu'" in capsys.readouterr().err
