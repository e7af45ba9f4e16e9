"""A step of two processes, replicated (DDP) and sharded (FSDP2), is the step of one, for every member."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import step_of_two
import torch

from genus import catalog, pipeline
from genus.train.world import World
from small import shrunk, stored

if TYPE_CHECKING:
    from genus.batch import Batch
    from genus.recipe import Recipe

MEMBERS = {member: next(iter(rows)) for member, rows in sorted(catalog.members().items())}
MEMBERS["t5, layers shared"] = "t5/base-shared"
"""The row of each member, and one whose encoder and decoder have the same layers."""
SUMMATION = 1e-5
"""Float32 losses and gradients of numbers near 1, summed in another order."""


def made(member: str, corpus: Path, folder: Path) -> tuple[Recipe, list[Batch]]:
    """Return a member made small, and the two micro-batches of its first step."""
    recipe = shrunk(catalog.load(MEMBERS[member])).override("stages.0.micro_batch", 8)
    tokenizer = recipe.tokens.train([line for line in corpus.read_text().splitlines()])
    store = stored(recipe, corpus, tokenizer, folder / f"store-{member}")
    recipe = replace(recipe, tokens=tokenizer.tokens)
    feed = pipeline.training_feed(recipe, store, tokenizer, stage=0)
    return recipe, [feed[0], feed[1]]


@pytest.fixture(scope="module")
def steps(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return the step of one process, and those of one pair of processes that goes through all members."""
    folder = tmp_path_factory.mktemp("steps")
    found: dict[str, dict[str, Any]] = {}
    for member in MEMBERS:
        recipe, batches = made(member, corpus, folder)
        torch.save({"recipe": recipe.to_json(), "batches": batches}, folder / f"{member}.pt")
        alone = World(0, 1, torch.device("cpu"))
        found[member] = {"alone": step_of_two.step(step_of_two.make(recipe), batches, alone)}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = [str(Path(step_of_two.__file__)), str(folder)]
    done = subprocess.run([*torchrun, *script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-6000:]
    for member in MEMBERS:
        found[member] |= torch.load(folder / f"{member}.found", weights_only=False)
    return found


@pytest.mark.parametrize("kind", ["replicated", "sharded"])
@pytest.mark.parametrize("member", MEMBERS)
def test_two_processes_make_the_step_of_one(member: str, kind: str, steps: dict[str, dict[str, Any]]) -> None:
    alone, found = steps[member]["alone"], steps[member][kind]
    if isinstance(found, str):
        assert (member, kind) == ("reformer", "sharded")
        assert "\n" not in found
        assert "sharded" in found
        return
    assert found["tokens"] == alone["tokens"]
    assert found["loss"] == pytest.approx(alone["loss"], rel=SUMMATION)
    assert found["norm"] == pytest.approx(alone["norm"], rel=SUMMATION)
    for name, value in alone["outputs"].items():
        torch.testing.assert_close(found["outputs"][name], value, rtol=10 * SUMMATION, atol=10 * SUMMATION, msg=name)
    for name, weight in alone["weights"].items():
        torch.testing.assert_close(found["weights"][name], weight, rtol=SUMMATION, atol=SUMMATION, msg=name)
