"""Numbers out of their range are refused as a row is read, by their path, before anything is built of them."""

from __future__ import annotations

import timeit
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from genus import catalog, pipeline
from genus.errors import MOST_SHOWN, UsageError
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.feedforward.mlp import MLP
from genus.model.transformer import Transformer
from genus.optim.adamw import AdamW
from genus.part import Part
from genus.recipe import Budget
from genus.stages import Stage
from genus.train.run import Run

if TYPE_CHECKING:
    from pathlib import Path

COUNT, NATURAL = "expected at least 1", "expected at least 0"
FRACTION = "expected a fraction from 0 to below 1"


@pytest.mark.parametrize(
    ("member", "setting", "path", "reason"),
    [
        ("bert/mini", "budget.amount=-5", "budget.amount", "expected more than 0, got -5"),
        ("bert/mini", "budget.amount=0", "budget.amount", "expected more than 0, got 0"),
        ("bert/mini", "budget.amount=nan", "budget.amount", "expected a finite number, got nan"),
        ("bert/mini", "budget.amount=inf", "budget.amount", "expected a finite number, got inf"),
        ("bert/mini", "seed=-5", "seed", f"{NATURAL}, got -5"),
        ("bert/mini", "stages.0.batch=0", "stages.0.batch", f"{COUNT}, got 0"),
        ("bert/mini", "stages.0.batch=-4", "stages.0.batch", f"{COUNT}, got -4"),
        ("bert/mini", "stages.0.micro_batch=0", "stages.0.micro_batch", f"{COUNT}, got 0"),
        ("bert/mini", "stages.0.max_length=0", "stages.0.max_length", f"{COUNT}, got 0"),
        ("bert/mini", "stages.0.share=1.5", "stages.0.share", "expected a share from 0 to 1, got 1.5"),
        ("bert/mini", "finetuning.batch=0", "finetuning.batch", f"{COUNT}, got 0"),
        ("bert/mini", "finetuning.epochs=-1", "finetuning.epochs", "expected more than 0, got -1"),
        ("bert/mini", "optimizer.lr=-1", "optimizer.lr", f"{NATURAL}, got -1"),
        ("bert/mini", "optimizer.clip_norm=-1", "optimizer.clip_norm", "expected more than 0, got -1"),
        ("bert/mini", "optimizer.betas=[0.9, 1.5]", "optimizer.betas.1", f"{FRACTION}, got 1.5"),
        ("bert/mini", "schedule.warmup=2", "schedule.warmup", f"{FRACTION}, got 2"),
        ("bert/mini", "schedule.warmup=-1", "schedule.warmup", f"{FRACTION}, got -1"),
        ("bert/mini", "tokens.vocab_size=0", "tokens.vocab_size", f"{COUNT}, got 0"),
        ("bert/mini", "tokens.vocab_size=20000000", "tokens.vocab_size", "expected at most 16,777,216, got 2e+07"),
        ("bert/mini", "model.layers=10001", "model.layers", "expected at most 10,000, got 10001"),
        ("bert/mini", f"seed={2**63}", "seed", "expected a number of at most 9.22e+18"),
        ("bert/mini", f"budget.amount={10**400}", "budget.amount", "expected a number of at most 1.8e+308"),
        ("roberta", "tokens.vocab_size=-1", "tokens.vocab_size", f"{COUNT}, got -1"),
        ("bert/mini", "model.layers=0", "model.layers", f"{COUNT}, got 0"),
        ("bert/mini", "model.dropout=1.5", "model.dropout", f"{FRACTION}, got 1.5"),
        ("bert/mini", "model.attention.heads=0", "model.attention.heads", f"{COUNT}, got 0"),
        ("bert/mini", "model.embedding.dropout=-0.1", "model.embedding.dropout", f"{FRACTION}, got -0.1"),
        ("bert/mini", "examples.dupe_factor=0", "examples.dupe_factor", f"{COUNT}, got 0"),
        ("albert", "examples.swapped=2", "examples.swapped", "expected a share from 0 to 1, got 2"),
        ("xlnet", "model.memory=-1", "model.memory", f"{NATURAL}, got -1"),
        ("electra", "objectives.1.weight=-50", "objectives.1.weight", f"{NATURAL}, got -50"),
    ],
)
def test_a_number_out_of_its_range_is_refused_by_its_path(member: str, setting: str, path: str, reason: str) -> None:
    with pytest.raises(UsageError) as error:
        catalog.load(member, [setting])
    told = setting if len(setting) <= MOST_SHOWN else f"{setting[:MOST_SHOWN]}..."
    assert str(error.value) == f"--set {told}: {path}: {reason}"


@pytest.mark.parametrize(
    ("member", "setting", "reason"),
    [
        ("roberta", "model.embedding.segments=1", None),
        ("electra", "model.embedding.segments=1", "1 segment vectors are too few for the 2 segments of HalvedChunks"),
        ("xlnet", "model.embedding.segments=2", "2 segment vectors are too few for the 3 segments of CarriedPairs"),
        ("bert", "tokens.special_tokens.unk=null", "special_tokens: WordPiece needs an unknown token; name it as unk"),
        ("bert", f"seed={'9' * 5000}", "seed: expected int, got"),
        ("bert", f"seed={'[' * 5000}", "seed: expected int, got"),
    ],
)
def test_what_would_fail_in_the_middle_is_refused_at_once(member: str, setting: str, reason: str | None) -> None:
    if reason is None:
        catalog.load(member, [setting])
        return
    with pytest.raises(UsageError, match=reason) as caught:
        catalog.load(member, [setting])
    assert "\n" not in str(caught.value)


def test_weights_larger_than_the_memory_are_refused_before_anything_starts(tmp_path: Path) -> None:
    huge = catalog.load("bert/tiny", ["model.hidden=1000000", "model.feedforward.size=1000000000"])
    with pytest.raises(UsageError, match=r"parameters take .* GB, this machine has .* GB; take a smaller model"):
        pipeline.pretrain(huge, [tmp_path / "nowhere.txt"], tmp_path / "run", Run(device="cpu"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("setting", ["workers=-1", "keep=0", "checkpoint_every=0", "log_every=-1", "held_out=1"])
def test_a_run_is_carried_out_with_numbers_in_their_range(setting: str) -> None:
    with pytest.raises(UsageError, match=f"^--run {setting}: {setting.split('=')[0]}: expected "):
        catalog.overridden(Run(), [setting], "--run")


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(UsageError) as error:
        Stage.from_json({"max_length": 0, "batch": 8, "micro_batch": -1})
    assert str(error.value) == f"max_length: {COUNT}, got 0; micro_batch: {COUNT}, got -1"


@pytest.mark.parametrize(
    "setting",
    [
        "seed=0",
        "optimizer.lr=0",
        "optimizer.clip_norm=null",
        "schedule.warmup=0",
        "model.dropout=0",
        "stages.0.share=1",
    ],
)
def test_the_ends_of_ranges_are_taken(setting: str) -> None:
    catalog.load("bert/mini", [setting])


def test_a_range_changes_nothing_of_what_is_written() -> None:
    assert Budget(amount=5).to_json() == Budget.from_json({"amount": 5}).to_json()
    assert Budget(amount=5).hash() == Budget(amount=5.0).hash()


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        (Transformer, {"layers": 0}, "Transformer.layers: expected at least 1, got 0"),
        (Transformer, {"hidden": -8}, "Transformer.hidden: expected at least 1, got -8"),
        (MultiHeadAttention, {"dropout": 7.0}, f"MultiHeadAttention.dropout: {FRACTION}, got 7"),
        (MLP, {"size": -1}, "MLP.size: expected at least 1, got -1"),
        (Stage, {"share": 1.5}, "Stage.share: expected a share from 0 to 1, got 1.5"),
        (Budget, {"amount": float("inf")}, "Budget.amount: expected a finite number, got inf"),
        (AdamW, {"betas": (0.9, 1.5)}, f"AdamW.betas.1: {FRACTION}, got 1.5"),
        (Run, {"keep": 0}, "Run.keep: expected at least 1, got 0"),
    ],
)
def test_a_number_out_of_its_range_is_refused_in_python_too(
    part: type[Part], values: dict[str, object], message: str
) -> None:
    good: dict[type[Part], dict[str, object]] = {
        Transformer: {"layers": 1, "hidden": 8, "attention": MultiHeadAttention(heads=1), "feedforward": MLP(size=8)},
        MultiHeadAttention: {"heads": 1},
        Stage: {"max_length": 8, "batch": 8, "micro_batch": 8},
        AdamW: {"lr": 1e-3},
    }
    with pytest.raises(UsageError) as error:
        part(**{**good.get(part, {}), **values})
    assert str(error.value) == message


def test_making_a_part_is_cheap() -> None:
    """Reading all rows of the catalog takes a part of a second; a part that took 100 microseconds would be slow."""
    attention = MultiHeadAttention(heads=8)
    fastest = min(timeit.repeat(lambda: replace(attention, heads=4), number=200, repeat=5)) / 200
    assert fastest < 1e-4
