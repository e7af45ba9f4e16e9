"""Heads that no Hugging Face class has a place for stay out of a folder; everything else is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import oracle
import pytest
import torch
from folders import SIZE
from safetensors.torch import load_file

from genus import catalog
from genus.export.folder import load, save
from genus.export.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner
    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer


def tiny(folder: Path) -> tuple[Recipe, Learner, Tokenizer]:
    words = oracle.tokenizer(folder / "tokenizer", "bert", SIZE["bert"])
    changes = ["model.hidden=16", "model.feedforward.size=24", f"tokens.vocab_size={SIZE['bert']}"]
    recipe = catalog.load("spanbert/tiny", changes)
    torch.manual_seed(0)
    return recipe, recipe.learner(), words


def test_what_is_left_out_is_named_and_the_rest_is_the_same(tmp_path: Path) -> None:
    recipe, learner, words = tiny(tmp_path)
    save(tmp_path / "model", recipe, learner, words)
    again = load(tmp_path / "model")
    assert list(again.learner.heads) == ["masked_lm"]
    expected = {name: t for name, t in learner.state_dict().items() if not name.startswith("heads.span_boundary.")}
    assert again.learner.state_dict().keys() == expected.keys()
    assert all(torch.equal(t, expected[name]) for name, t in again.learner.state_dict().items())
    assert [objective.name for objective in again.recipe.objectives] == ["masked_lm", "span_boundary"]
    page = (tmp_path / "model" / "README.md").read_text()
    assert "masked_lm, span_boundary (its head is not in this folder)" in page
    parameters = sum(tensor.numel() for tensor in load_file(tmp_path / "model" / "model.safetensors").values())
    assert f"A `BertForMaskedLM` with {parameters:,} parameters" in page


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_the_folder_gives_what_the_learner_gives(tmp_path: Path) -> None:
    recipe, learner, words = tiny(tmp_path)
    save(tmp_path / "model", recipe, learner, words)
    differences = verify(tmp_path / "model", learner)
    assert {"hidden", "masked_lm"} <= differences.keys()
