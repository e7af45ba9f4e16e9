"""Greedy decoding, beam search and penalties beside `generate` of transformers, on folders that it reads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.generate import Decoding, Penalty

PROMPTS, TOKENS = 200, 12


@pytest.fixture(scope="module", params=["gpt2/tiny", "llama/tiny"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of random weights, large enough for continuations to differ and for some of them to end."""
    tokenizer = ByteBPE(vocab_size=280, special_tokens=GPT2).train(TEXTS)
    recipe = catalog.load(request.param).overlay({"tokens": tokenizer.tokens.to_json()})
    wild = replace(recipe.model, initialization=replace(recipe.model.initialization, std=0.4))  # type: ignore[call-arg]
    torch.manual_seed(3)
    recipe = replace(recipe, model=wild)
    where = tmp_path_factory.mktemp("model")
    save(where, recipe, recipe.learner(), tokenizer)
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
    rng = np.random.default_rng(0)
    size = ours.tokenizer.vocabulary.size
    return [rng.integers(1, size, rng.integers(1, 20)).tolist() for _ in range(PROMPTS)]


def continued(
    ours: LoadedModel, prompts: list[list[int]], decoding: Decoding, penalties: Sequence[Penalty] = (), samples: int = 1
) -> list[list[tuple[int, ...]]]:
    engine = Engine(ours.learner, ours.recipe.model, ours.tokenizer, penalties=penalties)
    found = engine.generate([Request(ids, max_tokens=TOKENS, samples=samples) for ids in prompts], decoding)
    return [[result.ids for result in results] for results in found]


def expected(
    ours: LoadedModel, theirs: Any, prompts: list[list[int]], samples: int = 1, **choices: Any
) -> list[list[tuple[int, ...]]]:
    """Return what transformers generates, prompt by prompt, up to the end token and with it."""
    end = ours.tokenizer.vocabulary.id("eos")
    found = []
    for ids in prompts:
        given = torch.tensor([ids])
        made = theirs.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=TOKENS, do_sample=False, eos_token_id=end,
            pad_token_id=end, num_return_sequences=samples, **choices,
        )  # fmt: skip
        texts = [row[len(ids) :] for row in made.tolist()]
        found.append([tuple(text[: text.index(end) + 1] if end in text else text) for text in texts])
    return found


PENALTIES: dict[str, tuple[list[Penalty], dict[str, Any]]] = {
    "plain": ([], {}),
    "penalties": (
        [RepetitionPenalty(value=1.3), NoRepeatedNgrams(size=2)],
        {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    ),
}


@pytest.mark.parametrize("kind", PENALTIES)
def test_greedy_decoding(ours: LoadedModel, theirs: Any, prompts: list[list[int]], kind: str) -> None:
    penalties, choices = PENALTIES[kind]
    wanted = expected(ours, theirs, prompts, **choices)
    assert continued(ours, prompts, Greedy(), penalties) == wanted
    assert len({len(ids) for [ids] in wanted}) > 2  # some end


@pytest.mark.parametrize("kind", PENALTIES)
@pytest.mark.parametrize(("beams", "penalty", "stopping"), [(4, 1.0, "no"), (4, 0.5, "yes"), (3, 2.0, "never")])
def test_beam_search(
    ours: LoadedModel, theirs: Any, prompts: list[list[int]], kind: str, beams: int, penalty: float, stopping: str
) -> None:
    penalties, choices = PENALTIES[kind]
    given = prompts[:70]
    early = {"no": False, "yes": True, "never": "never"}[stopping]
    wanted = expected(
        ours, theirs, given, 2, num_beams=beams, length_penalty=penalty, early_stopping=early, **choices
    )  # fmt: skip
    search = BeamSearch(beams=beams, length_penalty=penalty, early_stopping=stopping)  # type: ignore[arg-type]
    assert continued(ours, given, search, penalties, 2) == wanted
