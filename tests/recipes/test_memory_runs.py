"""Runs of members that remember: resumed in the middle of an epoch bit for bit, and not on another text."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from genus import catalog, pipeline
from genus.batch import Batch, Flow, Targets
from genus.errors import UsageError
from genus.export.folder import load
from genus.tokens.store import prepare
from genus.tokens.tokenizer import Tokenizer
from genus.train.memory import Memories
from hand import equal_rows
from small import RUN as SHORT
from small import documents, losses, rows, shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe

RUN = replace(SHORT, keep=9, evaluate_every=6)
MEMBERS = ["xlnet/tiny", "transformer-xl/tiny"]


def small(name: str) -> Recipe:
    """Return the row made small, with dropout, and two micro-batches a step, each with a memory of its own."""
    recipe = shrunk(catalog.load(name)).overlay({"budget": {"amount": 12.0}, "model": {"dropout": 0.1, "memory": 24}})
    return recipe.override("stages.0.micro_batch", 8)


@pytest.fixture(scope="module", params=MEMBERS)
def trained(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twelve steps with checkpoints at 4, 8 and 12."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    pipeline.pretrain(small(request.param), [corpus], folder, RUN)
    return folder


def cut(trained: Path, folder: Path, step: int) -> Path:
    """Return a copy of a run as a kill would leave it right after a checkpoint."""
    shutil.copytree(trained, folder)
    for path in (folder / "checkpoints").iterdir():
        if int(path.name.removeprefix("checkpoint-")) > step:
            shutil.rmtree(path)
    return folder


@pytest.mark.parametrize("step", [4])
def test_a_killed_run_is_bit_for_bit_the_run_that_was_not(
    trained: Path, corpus: Path, tmp_path: Path, step: int
) -> None:
    folder = cut(trained, tmp_path / "run", step)
    recipe = load(trained / "model").recipe
    pipeline.pretrain(recipe, [corpus], folder, RUN, resume=True)
    assert losses(folder) == losses(trained)
    assert [row["held_out/loss"] for row in rows(folder) if "held_out/loss" in row] == [
        row["held_out/loss"] for row in rows(trained) if "held_out/loss" in row
    ]
    before, after = (load(one / "model").learner.state_dict() for one in (trained, folder))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_the_middle_of_an_epoch_has_a_memory(trained: Path) -> None:
    """What is saved is of two micro-batches, and some of it is of texts that go on."""
    saved = load_file(trained / "checkpoints" / "checkpoint-4" / "memory.safetensors")
    (objective,) = load(trained / "model").recipe.objectives
    assert {name.rsplit(".", 1)[0] for name in saved} == {f"{objective.name}.0", f"{objective.name}.1"}
    assert any(bool(tensor.any()) for name, tensor in saved.items() if name.endswith("remembered"))
    assert rows(trained)[3]["epochs"] % 1 > 0


def test_without_its_memory_a_run_is_another(trained: Path, corpus: Path, tmp_path: Path) -> None:
    """The memory matters: forgetting at a checkpoint changes the losses after it."""
    from genus.train import memory

    folder = cut(trained, tmp_path / "run", 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory.Memories, "restore", lambda *_: None)
        pipeline.pretrain(load(trained / "model").recipe, [corpus], folder, RUN, resume=True)
    assert losses(folder)[:4] == losses(trained)[:4]
    assert losses(folder)[4:] != losses(trained)[4:]


def test_turns_that_begin_with_the_same_objective_remember_apart() -> None:
    """Each has streams of its own, so what one has read is no text before the other's."""
    recipe = shrunk(catalog.load("xlnet/tiny")).overlay({"model": {"memory": 24}})
    learner = recipe.learner().eval()
    ids = torch.arange(5, 69)
    flow = Flow(torch.ones(2, dtype=torch.bool), torch.full((2,), 32))
    packed = replace(equal_rows(ids.view(2, 32), {"order": torch.arange(64)}), flow=flow)
    alone = Batch({"tokens": packed}, {"permutation_lm": Targets(torch.tensor([3, 40]), torch.tensor([9, 9]))})
    first, other = (
        replace(alone, heads=frozenset(heads)) for heads in ({"permutation_lm"}, {"permutation_lm", "next_sentence"})
    )
    memories = Memories()
    found = []
    for batch in (first, other, first):
        step = learner(memories.given(batch, learner.network, 0))
        memories.keep(batch, 0, step.memory)
        found.append(step.sums["permutation_lm"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert len(memories.slots) == 2


def test_memory_of_another_corpus_is_refused(trained: Path, tmp_path: Path) -> None:
    folder = cut(trained, tmp_path / "run", 4)
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents()[::-1]))
    tokenizer = Tokenizer.load(folder / "tokenizer")
    prepare([other], tokenizer, tmp_path / "store", workers=1)
    with pytest.raises(UsageError, match="checkpoint-4: made on other text; resume with what it began with") as error:
        pipeline.pretrain(load(trained / "model").recipe, [tmp_path / "store"], folder, RUN, resume=True)
    assert "\n" not in str(error.value)
