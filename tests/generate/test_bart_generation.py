"""What BART writes for a source is what transformers' class writes, token for token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from genus import pipeline
from genus.export.folder import save
from genus.generate import Request
from genus.generate.beam import BeamSearch
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy
from genus.recipes import bart
from small import documents

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner
    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")

TOKENS = 12
ROWS = [bart.TINY, bart.BASE]


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: row.name)
def writer(request: pytest.FixtureRequest) -> tuple[Recipe, Learner, Tokenizer]:
    """Return a narrow model of random weights in float64, with its tokenizer; it tells texts apart."""
    own = {"layers": 2, "hidden": 32, "attention": {"heads": 4}}
    changes = {"tokens": {"vocab_size": 300}, "model": {"encoder": own, "decoder": own | {"cross": {"heads": 4}}}}
    recipe = request.param.overlay(changes)
    tokenizer = recipe.tokens.train(documents())
    torch.manual_seed(0)
    recipe, learner = pipeline.new_learner(recipe, tokenizer)
    for weight in learner.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.4)
    return recipe, learner.double().eval(), tokenizer


@pytest.mark.parametrize("beams", [1, 4])
def test_generation_equals_transformers(writer: tuple[Recipe, Learner, Tokenizer], beams: int, tmp_path: Path) -> None:
    """Greedy and beam 4, after the tokens with which the decoder begins; theirs would also force an end at the end."""
    recipe, learner, tokenizer = writer
    save(tmp_path / "model", recipe, learner, tokenizer)
    theirs = transformers.BartForConditionalGeneration.from_pretrained(tmp_path / "model").double().eval()
    words = [word for text in documents(40) for word in text.split()]
    sources = [" ".join(words[first : first + 6]) for first in range(0, 240, 6)]
    one = Engine(learner, recipe.model, tokenizer)
    requests = [Request(source, max_tokens=TOKENS) for source in sources]
    decoding = Greedy() if beams == 1 else BeamSearch(beams=beams)
    written = set()
    for request, [result] in zip(requests, one.generate(requests, decoding), strict=True):
        ids = torch.tensor([one.prompts.source(request)])
        asked = {"max_new_tokens": TOKENS, "num_beams": beams, "do_sample": False, "forced_eos_token_id": None}
        begins = torch.tensor([[2, 0]])
        found = theirs.generate(ids, **asked, decoder_input_ids=begins, forced_bos_token_id=None)[0, 2:].tolist()
        assert list(result.ids) == found[: len(result.ids)]
        assert not {*found[len(result.ids) :]} - {1}
        written.add(tuple(result.ids))
    assert len(written) > len(sources) // 2


def test_the_first_token_is_the_one_that_their_configuration_forces(
    writer: tuple[Recipe, Learner, Tokenizer], tmp_path: Path
) -> None:
    """So that `generate` without further settings writes the same, greedily."""
    recipe, learner, tokenizer = writer
    save(tmp_path / "model", recipe, learner, tokenizer)
    theirs = transformers.BartForConditionalGeneration.from_pretrained(tmp_path / "model").double().eval()
    one, request = Engine(learner, recipe.model, tokenizer), Request("The old river carries", max_tokens=TOKENS)
    [[result]] = one.generate([request], Greedy())
    ids = torch.tensor([one.prompts.source(request)])
    found = theirs.generate(ids, max_new_tokens=TOKENS + 1, do_sample=False, num_beams=1)[0].tolist()
    assert found[:2] == [2, 0]
    assert found[2 : 2 + len(result.ids) - 1] == list(result.ids)[:-1]
