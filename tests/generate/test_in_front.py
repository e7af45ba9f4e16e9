"""Texts are written after a prefix or a prompt as the network says that reads all anew, one text alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from genus import catalog
from genus.adapt.prefix_tuning import PrefixTuning
from genus.adapt.prompt_tuning import PromptTuning
from genus.batch import IGNORE, Batch, Packed, Targets
from genus.generate import Request
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy
from genus.objectives import answering
from small import documents, shrunk

if TYPE_CHECKING:
    from genus.objectives import Learner

STEPS = 6
KINDS = {"prefix": PrefixTuning(length=4, projection=None), "prompt": PromptTuning(length=3)}
PROMPTS = ["Every teacher carries the long letter", "The old river"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_greedy_texts_are_the_most_probable_tokens(name: str, kind: str) -> None:
    recipe = replace(shrunk(catalog.load(name)), padded_vocab_size=None)
    tokenizer = recipe.tokens.train(documents())
    recipe = replace(recipe, tokens=tokenizer.tokens)
    torch.manual_seed(0)
    learner = recipe.learner()
    KINDS[kind].apply(learner, learner.state_dict().keys())
    with torch.no_grad():
        for weight in learner.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    engine = Engine(learner, recipe.model, tokenizer)
    requests = [Request(prompt, STEPS) for prompt in PROMPTS]
    for request, (result,) in zip(requests, engine.generate(requests, Greedy()), strict=True):
        prompt, source = engine.prompts.ids(request)[0], engine.prompts.source(request)
        expected = list(prompt)
        for token in result.ids:
            expected.append(best(learner, expected, source))
            assert token == expected[-1]
        assert result.ids


def best(learner: Learner, ids: list[int], source: list[int]) -> int:
    """Return the most probable next token of one text, alone in its batch."""
    streams = {"tokens": one(ids)} | ({"source": one(source)} if source else {})
    index = torch.tensor([len(ids) - 1])
    head: Any = next(iter(learner.heads.values()))
    batch = Batch(streams, {head.target: Targets(index, torch.full_like(index, IGNORE))})
    with answering(learner):
        ((_, found),) = learner.outputs(batch).items()
    return int(found["logits"][0].argmax())


def one(ids: list[int]) -> Packed:
    return Packed.laid(torch.tensor(ids), [[len(ids)]], len(ids))


def test_prompts_leave_room_for_what_stands_in_front() -> None:
    recipe = replace(shrunk(catalog.load("gpt2")), padded_vocab_size=None)
    tokenizer = recipe.tokens.train(documents())
    recipe = replace(recipe, tokens=tokenizer.tokens)
    learner = recipe.learner()
    PrefixTuning(length=10).apply(learner, learner.state_dict().keys())
    (result,) = Engine(learner, recipe.model, tokenizer).generate([Request("The", 10_000)], Greedy())[0]
    prompt = Engine(learner, recipe.model, tokenizer).prompts.ids(Request("The", 1))[0]
    assert len(prompt) + len(result.ids) <= (recipe.model.max_length or 0) - 10
