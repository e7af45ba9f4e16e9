"""The form of a checkpoint on disk."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file
from toy_run import MODEL, RUN, Joined, ToyFeed, toy_learner, toy_train

from genus.train.checkpoint import Checkpoints
from genus.train.held_out import evaluate

if TYPE_CHECKING:
    from pathlib import Path

    from genus.batch import Batch

SUMMATION = 1e-6
"""Relative; float32 losses are summed in another order."""


def test_files(tmp_path: Path) -> None:
    learner = toy_learner()
    toy_train(tmp_path, learner=learner, choices=MODEL)
    folder = tmp_path / "checkpoints" / "checkpoint-10"
    names = {"model.safetensors", "optimizer.safetensors", "state.json", "recipe.json", "manifest.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # whoever may read one may read all
    model = load_file(folder / "model.safetensors")
    assert all(torch.equal(model[name], tensor) for name, tensor in learner.tensors().items())
    assert type(MODEL).from_json(json.loads((folder / "recipe.json").read_text())) == MODEL
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest.keys() == names - {"manifest.json"}
    moments = load_file(folder / "optimizer.safetensors")
    assert len([name for name in moments if name.endswith(".exp_avg")]) == len(list(learner.parameters()))


def test_the_oldest_are_pruned(tmp_path: Path) -> None:
    run = RUN.overlay({"checkpoint_every": 1, "keep": 2})
    toy_train(tmp_path, run=run)
    assert Checkpoints(tmp_path, 2, None).steps() == [9, 10]


def test_what_a_kill_left_to_prune_is_pruned_on_resuming(tmp_path: Path) -> None:
    """Killed after the last checkpoint was whole, while the oldest was being removed."""
    toy_train(tmp_path)
    half = tmp_path / "checkpoints" / "checkpoint-2"
    shutil.copytree(tmp_path / "checkpoints" / "checkpoint-4", half)
    (half / "model.safetensors").unlink()
    toy_train(tmp_path, resume=True)
    assert Checkpoints(tmp_path, 3, None).steps() == [4, 8, 10]


def test_shared_tensors_are_kept_once(tmp_path: Path) -> None:
    """Layers that share their weights, as ALBERT's, have several names in a state dict."""
    learner = toy_learner()
    learner.network.layers[1] = learner.network.layers[0]
    names = learner.tensors()
    assert not [name for name in names if name.startswith("network.layers.1.")]
    toy_train(tmp_path, learner=learner)
    fresh = toy_learner(seed=1)
    fresh.network.layers[1] = fresh.network.layers[0]
    toy_train(tmp_path, learner=fresh, resume=True)
    assert all(torch.equal(a, b) for a, b in zip(learner.parameters(), fresh.parameters(), strict=True))


def counted(batch: Batch) -> int:
    return int(batch.targets["masked_lm"].counted().sum())


def test_held_out_sums_stream() -> None:
    """Four batches with different numbers of targets weigh as one joined batch does."""
    learner = toy_learner()
    batches = (ToyFeed()[number] for number in range(100))
    run = RUN.override("evaluate_batches", 4)
    found = evaluate(learner, batches, run, bytes_of=lambda batch: {"masked_lm": 4.0 * counted(batch)})
    assert learner.training
    joined = Joined(4)[0]
    learner.eval()
    with torch.no_grad():
        targets = joined.targets["masked_lm"]
        states = learner.network(joined)["tokens"][targets.index]
        logits = learner.heads["masked_lm"].lm_head(states)
        wanted = torch.nn.functional.cross_entropy(logits, targets.label)
        correct = (logits.argmax(-1) == targets.label)[targets.label >= 0].float().mean()
    assert found["loss"] == found["masked_lm"] == pytest.approx(wanted.item(), rel=SUMMATION)
    assert found["masked_lm/correct"] == pytest.approx(correct.item())
    assert found["masked_lm/perplexity"] == pytest.approx(wanted.exp().item(), rel=1e-5)
    assert found["masked_lm/bits_per_byte"] == pytest.approx(torch.log2(wanted.exp()).item() / 4.0, rel=1e-5)
    assert next(batches) is not None, "no more than it needs is taken"
    assert len(list(batches)) == 95
