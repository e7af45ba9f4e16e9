"""Reformer trained from text: resumed bit for bit, though every step draws rotations; started from another model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from genus import catalog, pipeline
from genus.export.folder import load
from genus.export.starting.transplant import init_from
from genus.train.run import Run
from small import documents, shrunk, write_corpus

if TYPE_CHECKING:
    from genus.recipe import Recipe

RUN = Run(device="cpu", precision="float32", workers=0, held_out=0.1, checkpoint_every=2, keep=9, tracker="none")
WEIGHTS = Path("model") / "model.safetensors"


def small(name: str) -> Recipe:
    """Return the row made small, with dropout everywhere, two micro-batches a step, and a feed-forward in chunks."""
    recipe = shrunk(catalog.load(name)).overlay({"budget": {"amount": 4.0}, "model": {"dropout": 0.1}})
    changes = {"dropout": 0.1, "chunk": 100}
    return recipe.overlay({"model": {"feedforward": changes}, "stages": {"0": {"micro_batch": 8}}})


@pytest.mark.parametrize("name", ["reformer/enwik8", "reformer/mini"])
def test_a_killed_run_is_bit_for_bit_the_run_that_was_not(name: str, tmp_path: Path) -> None:
    corpus, whole, cut = write_corpus(tmp_path), tmp_path / "whole", tmp_path / "cut"
    pipeline.pretrain(small(name), [corpus], whole, RUN)
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoints" / "checkpoint-4")
    shutil.rmtree(cut / "model")
    pipeline.pretrain(small(name), [corpus], cut, RUN, resume=True)
    expected, found = load_file(whole / WEIGHTS), load_file(cut / WEIGHTS)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def test_another_vocabulary_takes_the_rows_of_the_output_matrix_along(tmp_path: Path) -> None:
    pipeline.pretrain(small("reformer/mini"), [write_corpus(tmp_path)], tmp_path / "run", RUN)
    source = load(tmp_path / "run" / "model")
    recipe = source.recipe.override("tokens.vocab_size", 120)
    tokenizer = recipe.tokens.train(documents()[:50])
    recipe, learner = pipeline.new_learner(recipe, tokenizer)
    assert not init_from(source, learner, tokenizer)
    old, new = (one.heads["masked_lm"].lm_head.weight for one in (source.learner, learner))
    shared = [piece for piece in tokenizer.pieces if piece in source.tokenizer.pieces]
    assert len(shared) > 20
    for piece in shared:
        assert torch.equal(new[tokenizer.pieces.index(piece)], old[source.tokenizer.pieces.index(piece)])
