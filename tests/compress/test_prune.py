"""A pruned model computes what the whole one does without the outputs of the units that are gone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional as F

from genus.cli import main
from genus.compress.importance import gated, importances, only
from genus.compress.measure import Table, batches_of
from genus.compress.prune import prune, without
from genus.compress.units import units_of
from genus.errors import GenusError, UsageError
from genus.export.folder import LoadedModel, load, save
from genus.export.verify import verify
from genus.objectives import answering
from genus.tasks.start import Start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

FLOAT32 = 1e-6
"""Float32 sums in another order, relative to the largest output."""
SLOPES = 1e-4
"""A difference quotient in float64 with steps of 1e-4."""
PRUNABLE = ("albert", "bert", "distilbert", "electra", "ernie2", "genus", "gpt", "gpt2", "gpt3", "gpt-j", "llama",
            "megatron-bert", "roberta", "spanbert", "wangchanberta", "codex", "ctrl", "turing-nlg", "bart", "mass",
            "transformer")  # fmt: skip
OTHERS = ("xlnet", "transformer-xl", "linformer", "bigbird", "reformer", "chinchilla", "t5")
SAME_CLASS = ("bert", "distilbert", "electra", "roberta")
"""Those of which a class of transformers holds fewer feed-forward units in every layer."""


def with_four_heads(member: Callable[..., LoadedModel], name: str) -> LoadedModel:
    """Return a small member with 4 heads, of which llama's share keys in pairs."""
    values: dict[str, object] = {"model.attention.heads": 4}
    return member(name, **values | ({"model.attention.key_heads": 2} if name == "llama" else {}))


def table_of(tables: Path, model: LoadedModel) -> Table:
    return Table.of(tables / "validation.jsonl", model)


def logits(model: LoadedModel, table: Table) -> torch.Tensor:
    (batch,) = batches_of(table.encoded(model), 64)
    with answering(model.learner):
        return model.learner.outputs(batch)["sequence_classification"]["logits"]


@pytest.mark.parametrize("name", PRUNABLE)
def test_pruned_is_gates_at_zero(
    name: str, member: Callable[..., LoadedModel], tables: Path, run: Run, tmp_path: Path
) -> None:
    model = with_four_heads(member, name)
    table = table_of(tables, model)
    network = model.learner.network
    units = [*units_of(network, "heads"), *units_of(network, "feedforward")]
    numbers = [one.kept("0.5") for one in units]
    whole = logits(model, table)
    smaller, kept = without(model, units, numbers, table, run)
    with gated(units, kept):
        expected = logits(model, table)
    assert (expected - whole).abs().max() > FLOAT32  # gates close something
    found = logits(smaller, table)
    assert (found - expected).abs().max() <= FLOAT32 * max(1.0, float(expected.abs().max()))
    assert torch.equal(logits(model, table), whole)  # the model stays as it is
    save(tmp_path / "model", smaller.recipe, smaller.learner, smaller.tokenizer)
    verify(tmp_path / "model", smaller.learner)
    assert torch.equal(logits(load(tmp_path / "model"), table), found)


@pytest.mark.parametrize("name", SAME_CLASS)
def test_fewer_units_stay_in_their_class(
    name: str, member: Callable[..., LoadedModel], tables: Path, run: Run, tmp_path: Path
) -> None:
    """transformers reads the folder, which `verify` compares; fewer heads than divide the width make a native one."""
    model = with_four_heads(member, name)
    units = units_of(model.learner.network, "feedforward")
    smaller, _ = without(model, units, [16] * len(units), table_of(tables, model), run)
    save(tmp_path / "model", smaller.recipe, smaller.learner, smaller.tokenizer)
    assert "transformers/hidden" in verify(tmp_path / "model", smaller.learner)


def test_heads_that_do_not_divide_the_width(
    member: Callable[..., LoadedModel], tables: Path, run: Run, tmp_path: Path
) -> None:
    """Three heads of 8 in a width of 32, which no configuration of BERT can say."""
    model = with_four_heads(member, "bert")
    units = units_of(model.learner.network, "heads")
    smaller, _ = without(model, units, [3] * len(units), table_of(tables, model), run)
    save(tmp_path / "model", smaller.recipe, smaller.learner, smaller.tokenizer)
    verify(tmp_path / "model", smaller.learner)
    assert load(tmp_path / "model").recipe.model.attention.heads == 3


def test_importance_is_the_slope_of_a_gate(tables: Path, member: Callable[..., LoadedModel]) -> None:
    """Michel et al. 2019, equation 2, and Molchanov et al. 2017, equation 8, by difference quotients of each text."""
    model = with_four_heads(member, "bert")
    learner = model.learner.double()
    table = table_of(tables, model)
    rows = table.rows[:5]
    units = [*units_of(learner.network, "heads"), *units_of(learner.network, "feedforward")]
    name = "sequence_classification"
    found = importances(learner, name, [only(one, name) for one in batches_of(table.encoded(model, rows), 3)], units)
    step = 1e-4
    for one, importance in zip(units, found, strict=True):
        for unit in (0, one.count - 1):
            slopes = []
            for row in rows:
                (batch,) = batches_of(table.encoded(model, [row]), 1)
                losses = []
                for gate in (1 + step, 1 - step):
                    scale = torch.ones(one.count, dtype=torch.float64)
                    scale[unit] = gate
                    factor = scale.repeat_interleave(one.width)
                    handle = one.module.out.register_forward_pre_hook(lambda m, x, factor=factor: (x[0] * factor,))
                    with answering(learner):
                        found_1V = learner.outputs(only(batch, name))[name]["logits"]
                    losses.append(float(F.cross_entropy(found_1V, batch.targets[name].label)))
                    handle.remove()
                slopes.append(abs(losses[0] - losses[1]) / (2 * step))
            assert float(importance[unit]) == pytest.approx(sum(slopes) / len(slopes), rel=SLOPES, abs=1e-9)


def test_the_least_important_go(tables: Path, member: Callable[..., LoadedModel], run: Run) -> None:
    """A head whose output map is zero has no importance, and is the first to go, as is a unit."""
    model = with_four_heads(member, "bert")
    network = model.learner.network
    with torch.no_grad():
        for layer, head, unit in ((0, 2, 5), (1, 1, 7)):
            network.layers[layer].attention.out.weight[:, 8 * head : 8 * head + 8] = 0
            network.layers[layer].feedforward.out.weight[:, unit] = 0
    table = table_of(tables, model)
    units = [*units_of(network, "heads"), *units_of(network, "feedforward")]
    smaller, kept = without(model, units, [one.count - 1 for one in units], table, run)
    assert [sorted({*range(one.count)} - {*index.tolist()}) for one, index in zip(units, kept, strict=True)] == [
        [2], [1], [5], [7]
    ]  # fmt: skip
    assert torch.allclose(logits(smaller, table), logits(model, table), atol=FLOAT32)


def test_a_folder_is_pruned_by_a_command(
    tuned: Path, tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pruned"
    asked = ["prune", tuned, "--data", tables, "--out", out, "--heads", "2", "--feedforward", "0.25", "--json"]
    assert main(list(map(str, asked))) == 0
    told = json.loads(capsys.readouterr().out)
    before, after = told["before"], told["after"]
    assert after["parameters"] < before["parameters"]
    assert after["megabytes"] < before["megabytes"]
    assert before["scores"]["accuracy"] > 0.9
    assert {len(kept) for name, kept in told["kept"].items() if "attention" in name} == {2}
    assert {len(kept) for name, kept in told["kept"].items() if "feedforward" in name} == {16}
    model = load(out)
    assert (model.recipe.model.attention.heads, model.recipe.model.attention.size) == (2, 8)
    assert model.recipe.model.feedforward.size == 16
    again = tmp_path / "again"
    assert main(["finetune", str(out), str(tables), "--out", str(again), "--seeds", "1"]) == 0
    assert json.loads((again / "report.json").read_text())["summary"]["validation"]["accuracy"]["mean"] > 0.9


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        (["--heads", "0"], "--heads 0: leaves nothing of the 4"),
        (["--heads", "0.1"], "--heads 0.1: leaves nothing"),
        (["--heads", "5"], "has 4, and pruning adds none"),
        (["--heads", "1.5"], "expected a fraction above 0"),
        (["--heads", "many"], "expected a fraction such as 0.5"),
        (["--feedforward", "0.0"], "expected a fraction above 0"),
        ([], "nothing is pruned"),
    ],
)
def test_nothing_is_written_for_what_cannot_be(
    asked: list[str], match: str, tuned: Path, tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["prune", str(tuned), "--data", str(tables), "--out", str(out), *asked]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert match in told[-1]
    assert not (out / "config.json").exists()


@pytest.mark.parametrize("name", OTHERS)
def test_maps_of_other_roles_are_refused(name: str, member: Callable[..., LoadedModel]) -> None:
    model = with_four_heads(member, name)
    with pytest.raises(UsageError, match="cannot be pruned") as told:
        units_of(model.learner.network, "heads")
    assert "\n" not in str(told.value)


def test_heads_that_share_keys_go_together(member: Callable[..., LoadedModel]) -> None:
    model = with_four_heads(member, "llama")
    units = units_of(model.learner.network, "heads")[0]
    assert (units.count, units.heads) == (2, 2)
    assert units.kept("0.5") == 1
    with pytest.raises(UsageError, match="keep a multiple of 2"):
        units.kept("3")


def test_a_folder_without_a_head_of_a_task(
    tables: Path, recipe, tokenizer: Tokenizer, run: Run, tmp_path: Path
) -> None:
    start = Start(recipe, tokenizer)
    made = replace(start.recipe, tokens=tokenizer.tokens)
    save(tmp_path / "plain", made, made.learner(), tokenizer)
    with pytest.raises(GenusError, match="was not fine-tuned"):
        prune(tmp_path / "plain", tmp_path / "out", tables / "train.jsonl", run=run, heads="0.5")
    assert not (tmp_path / "out").exists()
