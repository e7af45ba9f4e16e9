"""Rows of a length that no block and no chunk divides: every member trains on them and is exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from test_losses import RUN, teacher, words

from genus import catalog, pipeline
from genus.export.folder import load
from genus.export.verify import verify
from small import fields, losses, shrunk

if TYPE_CHECKING:
    from pathlib import Path

LENGTH, STEPS = 29, 2.0
"""A prime; blocks have 4 tokens and chunks 8."""


@pytest.mark.parametrize("member", catalog.members())
def test_rows_that_no_block_divides(member: str, corpus: Path, tmp_path: Path) -> None:
    recipe = shrunk(catalog.load(member)).overlay({"budget": {"amount": STEPS}})
    if recipe.examples.reads_codes:
        pytest.skip("its examples are all as long as its rows")
    tokenizer = words(recipe)
    stage = recipe.stages[0].to_json() | {"max_length": LENGTH}
    given = {"words": tokenizer, "teacher": teacher(recipe, tokenizer, tmp_path / "teacher"), "fields": fields(recipe)}
    pipeline.pretrain(recipe.overlay({"stages": [stage]}), [corpus], tmp_path / "run", RUN, **given)
    assert len(losses(tmp_path / "run")) == STEPS
    model = tmp_path / "run" / "model"
    assert verify(model, load(model).learner)
