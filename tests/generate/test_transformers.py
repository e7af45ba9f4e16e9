"""Greedy decoding, beam search and penalties beside `generate` of transformers, on folders that it reads."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch

from generate.writers import TEXTS
from genus import catalog
from genus.export.folder import LoadedModel, load, save
from genus.generate import Request
from genus.generate.beam import BeamSearch
from genus.generate.engine import Engine
from genus.generate.penalties import NoRepeatedNgrams, RepetitionPenalty
from genus.generate.sampling import Greedy
from genus.tokens.algorithms.byte_bpe import GPT2, ByteBPE
from small import shrunk

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.generate import Decoding, Penalty
    from genus.objectives import Learner
    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer

PROMPTS = {"gpt2/tiny": 200, "llama/tiny": 200, "gpt/tiny": 40, "gpt-j/tiny": 40, "ctrl/tiny": 40}
TOKENS = 12


def prompts_of(name: str, size: int) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(1, size, rng.integers(1, 20)).tolist() for _ in range(PROMPTS[name])]


def often_ending(learner: Learner, recipe: Recipe, tokenizer: Tokenizer, prompts: list[list[int]]) -> None:
    """Let the end token take the place of the one that follows most often, so that many texts end."""
    engine = Engine(learner, recipe.model, tokenizer)
    found = engine.generate([Request(ids, max_tokens=TOKENS) for ids in prompts], Greedy())
    often = int(np.bincount([number for [result] in found for number in result.ids]).argmax())
    end, size = tokenizer.vocabulary.id("eos"), recipe.vocab_rows
    with torch.no_grad():
        for weight in learner.parameters():
            if len(weight) == size:
                weight[[often, end]] = weight[[end, often]]


@pytest.fixture(scope="module", params=PROMPTS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of random weights, large enough for continuations to differ and for some of them to end."""
    tokenizer = ByteBPE(vocab_size=280, special_tokens=GPT2).train(TEXTS)
    recipe = shrunk(catalog.load(request.param)).overlay(
        {"tokens": tokenizer.tokens.to_json(), "model": {"feedforward": {"size": 128}}}  # OpenAI's class: 4 times 32
    )
    wild = replace(recipe.model, initialization=replace(recipe.model.initialization, std=0.4))  # type: ignore[call-arg]
    torch.manual_seed(3)
    recipe = replace(recipe, model=wild)
    learner = recipe.learner()
    often_ending(learner, recipe, tokenizer, prompts_of(recipe.name, tokenizer.vocabulary.size))
    where = tmp_path_factory.mktemp("model")
    save(where, recipe, learner, tokenizer)
    return where


@pytest.fixture(scope="module")
def ours(folder: Path) -> LoadedModel:
    model = load(folder)
    model.learner.double().eval()
    return model


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()


@pytest.fixture(scope="module")
def prompts(ours: LoadedModel) -> list[list[int]]:
    return prompts_of(ours.recipe.name, ours.tokenizer.vocabulary.size)


def continued(
    ours: LoadedModel, prompts: list[list[int]], decoding: Decoding, penalties: Sequence[Penalty] = (), samples: int = 1
) -> list[list[tuple[int, ...]]]:
    engine = Engine(ours.learner, ours.recipe.model, ours.tokenizer, penalties=penalties)
    found = engine.generate([Request(ids, max_tokens=TOKENS, samples=samples) for ids in prompts], decoding)
    return [[result.ids for result in results] for results in found]


def expected(
    ours: LoadedModel, theirs: Any, prompts: list[list[int]], samples: int = 1, **choices: Any
) -> list[list[tuple[int, ...]]]:
    """Return what transformers generates for each prompt, up to the end token and with it.

    Prompts of one length are a batch, so that nothing is padded.
    """
    end = ours.tokenizer.vocabulary.id("eos")
    found: dict[int, list[tuple[int, ...]]] = {}
    for length in {len(ids) for ids in prompts}:
        alike = [number for number, ids in enumerate(prompts) if len(ids) == length]
        given = torch.tensor([prompts[number] for number in alike])
        made = theirs.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=TOKENS, do_sample=False, eos_token_id=end,
            pad_token_id=end, num_return_sequences=samples, **choices,
        )  # fmt: skip
        texts = [row[length:] for row in made.tolist()]
        texts = [tuple(text[: text.index(end) + 1] if end in text else text) for text in texts]
        found |= {number: texts[n * samples : (n + 1) * samples] for n, number in enumerate(alike)}
    return [found[number] for number in range(len(prompts))]


PENALTIES: dict[str, tuple[list[Penalty], dict[str, Any]]] = {
    "plain": ([], {}),
    "repetition": ([RepetitionPenalty(value=1.3)], {"repetition_penalty": 1.3}),
    "n-grams": ([NoRepeatedNgrams(size=2)], {"no_repeat_ngram_size": 2}),
    "both": (
        [RepetitionPenalty(value=1.3), NoRepeatedNgrams(size=2)],
        {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    ),
}
Stopping = Literal["no", "yes", "never"]
STOPPING: dict[Stopping, bool | str] = {"no": False, "yes": True, "never": "never"}
"""`early_stopping`: in ours, and in theirs."""
FEW: list[tuple[str, float, Stopping]] = [("plain", 1.0, "no"), ("both", 0.5, "yes"), ("both", 2.0, "never")]
ALL = [*itertools.product(PENALTIES, (-1.0, 0.0, 0.5, 1.0, 2.0), STOPPING)]


@pytest.mark.parametrize("kind", PENALTIES)
def test_greedy_decoding(ours: LoadedModel, theirs: Any, prompts: list[list[int]], kind: str) -> None:
    penalties, choices = PENALTIES[kind]
    wanted = expected(ours, theirs, prompts, **choices)
    assert continued(ours, prompts, Greedy(), penalties) == wanted
    assert len({len(ids) for [ids] in wanted}) > 2  # some end


def same_beams(
    ours: LoadedModel, theirs: Any, prompts: list[list[int]], kind: str, penalty: float, stopping: Stopping
) -> list[list[tuple[int, ...]]]:
    """Search with four beams, and return the best two texts of each prompt, which are theirs."""
    penalties, choices = PENALTIES[kind]
    wanted = expected(
        ours, theirs, prompts, 2, num_beams=4, length_penalty=penalty, early_stopping=STOPPING[stopping], **choices
    )  # fmt: skip
    search = BeamSearch(beams=4, length_penalty=penalty, early_stopping=stopping)
    assert continued(ours, prompts, search, penalties, 2) == wanted
    return wanted


@pytest.mark.parametrize(("kind", "penalty", "stopping"), FEW)
def test_beam_search(
    ours: LoadedModel, theirs: Any, prompts: list[list[int]], kind: str, penalty: float, stopping: Stopping
) -> None:
    wanted = same_beams(ours, theirs, prompts, kind, penalty, stopping)
    assert penalty > 1 or len({len(ids) for texts in wanted for ids in texts}) > 2  # a penalty above 1 wants long ones


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "penalty", "stopping"), [one for one in ALL if one not in FEW])
def test_every_beam_search(
    ours: LoadedModel, theirs: Any, prompts: list[list[int]], kind: str, penalty: float, stopping: Stopping
) -> None:
    same_beams(ours, theirs, prompts, kind, penalty, stopping)
