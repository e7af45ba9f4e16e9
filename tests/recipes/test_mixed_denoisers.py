"""Several denoisings and a prefix language model in one batch: told apart by name, with one output layer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from genus import pipeline
from genus.cost import cost
from genus.errors import UsageError
from genus.export.folder import load
from genus.export.native import is_native
from genus.export.verify import verify
from genus.files import read_json
from genus.recipes import t5
from genus.train.data import MicroBatch
from small import RUN, rows

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe

NAMES = ("denoising", "long", "prefix_lm")


def mixed(stage: str = "MixtureStage", **changes: object) -> Recipe:
    """Return a row of version 1.1 with short spans, long ones and a prefix language model, each with a task step."""
    output = t5.APART.output.to_json()
    objectives = [
        {"kind": "Denoising", "output": output},
        {
            "kind": "Denoising",
            "label": "long",
            "noise": {"kind": "SpanNoise", "rate": 0.5, "span": 8},
            "output": output,
        },
        {"kind": "PrefixLM", "output": output},
    ]
    tasks = [{"objectives": [name]} for name in NAMES]
    stages = [{"kind": stage, "max_length": 34, "source_length": 40, "batch": 16, "micro_batch": 8, "tasks": tasks}]
    small = {"layers": 2, "hidden": 32}
    return t5.TINY.overlay(
        {
            "tokens": {"vocab_size": 400},
            "model": {"encoder": small, "decoder": small},
            "objectives": objectives,
            "stages": stages,
            "optimizer": {"lr": 1e-3},
            "budget": {"amount": 6, "unit": "steps"},
            **changes,
        }
    )


@pytest.mark.parametrize("stage", ["MixtureStage", "MultiTaskStage"])
def test_each_part_has_its_metrics_by_name(stage: str, corpus: Path, tmp_path: Path) -> None:
    """In training and on held-out text; a folder has the layer that is one, in transformers' class."""
    recipe = mixed(stage)
    pipeline.pretrain(recipe, [corpus], tmp_path / "run", RUN)
    told = {name for row in rows(tmp_path / "run") for name in row}
    for name in NAMES:
        assert told >= {name, f"{name}/correct", f"held_out/{name}", f"held_out/{name}/perplexity"}
    model = tmp_path / "run" / "model"
    assert not is_native(config := read_json(model / "config.json"))
    assert config["architectures"] == ["T5ForConditionalGeneration"]
    again = load(model)
    assert [one.name for one in again.recipe.objectives] == list(NAMES)
    assert verify(model, again.learner).keys() >= {"denoising", "transformers/denoising"}


def test_parts_differ_by_their_noise(corpus: Path, tmp_path: Path) -> None:
    """In every batch of a mixture; targets of one part are none of another's."""
    from genus.tokens.store import prepare

    recipe = mixed()
    tokenizer = recipe.tokens.train(corpus.read_text(encoding="utf-8").splitlines())
    store = prepare([corpus], tokenizer, tmp_path / "store", workers=1)
    feed = pipeline.training_feed(recipe, store, tokenizer, stage=0)
    counts = dict.fromkeys(NAMES, 0)
    for number in range(8):
        batch = feed[number]
        places = {name: set(batch.targets[name].index[batch.targets[name].counted()].tolist()) for name in NAMES}
        assert sum(map(len, places.values())) == len(set().union(*places.values()))
        counts = {name: counts[name] + len(found) for name, found in places.items()}
    assert min(counts.values()) > 0
    assert MicroBatch(batch, 0.0).batch.heads == set(NAMES)


def test_one_output_matrix_is_counted_and_learns_from_all() -> None:
    recipe = mixed()
    torch.manual_seed(0)
    learner = recipe.learner()
    alone = replace(recipe, objectives=recipe.objectives[:1], stages=(recipe.stages[0].whole(),))
    assert cost(recipe).parameters == cost(alone).parameters == sum(one.numel() for one in learner.parameters())
    assert len({id(head.lm_head) for head in learner.heads.values()}) == 1
    assert [name for name in learner.tensors() if "lm_head" in name] == ["heads.denoising.lm_head.weight"]
    apart = recipe.overlay({"objectives": {"2": {"output": {"scaled": True}}}})
    assert apart.joined == {"long": "denoising"}
    assert cost(apart).parameters == cost(recipe).parameters + 400 * 32


def test_it_goes_on_from_one_objective(corpus: Path, tmp_path: Path) -> None:
    """As T5's models were adapted to language modeling: the output matrix is taken over, whatever learns from it."""
    first = replace(mixed(), objectives=mixed().objectives[:1], stages=(mixed().stages[0].whole(),))
    pipeline.pretrain(first, [corpus], tmp_path / "first", RUN)
    source = load(tmp_path / "first" / "model")
    recipe, learner = pipeline.from_pretrained(mixed(), source.tokenizer, tmp_path / "first" / "model")
    assert torch.equal(learner.heads["prefix_lm"].lm_head.weight, source.learner.heads["denoising"].lm_head.weight)
    assert recipe.joined == {"long": "denoising", "prefix_lm": "denoising"}


def test_a_lone_labeled_objective_keeps_its_layer(corpus: Path, tmp_path: Path) -> None:
    """No layout knows its name, so it is a folder of ours, whole."""
    recipe = replace(mixed(), objectives=mixed().objectives[1:2], stages=(mixed().stages[0].whole(),))
    pipeline.pretrain(recipe, [corpus], tmp_path / "run", RUN)
    assert is_native(read_json(tmp_path / "run" / "model" / "config.json"))
    assert load(tmp_path / "run" / "model").learner.heads.keys() == {"long"}


def test_what_does_not_fit_is_one_line() -> None:
    empty = [{**mixed().stages[0].to_json(), "tasks": []}]
    nobody = [{**mixed().stages[0].to_json(), "tasks": [{"objectives": []}]}]
    for changes, words in (
        ({"objectives": {"1": {"label": None}}}, "objectives: two are named 'denoising'; give one a label of its own"),
        ({"objectives": {"1": {"label": "prefix_lm"}}}, "objectives: two are named 'prefix_lm'"),
        ({"objectives": {"1": {"label": ""}}}, "label: expected a name of letters, digits and underscores"),
        ({"objectives": {"1": {"label": "a/b"}}}, "label: expected a name of letters, digits and underscores"),
        ({"objectives": {"1": {"label": "keys"}}}, "that PyTorch does not use, got 'keys'"),
        ({"stages": empty}, "stages.0: tasks is empty; name the objectives"),
        ({"stages": nobody}, "stages.0: a task step needs an objective"),
        ({"stages": [mixed().stages[0].whole().to_json()]}, "Denoising makes a text of its own of each example"),
    ):
        with pytest.raises(UsageError, match=words) as error:
            mixed().overlay(changes)
        assert "\n" not in str(error.value)
