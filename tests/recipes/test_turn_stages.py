"""Schedules of tasks: what a stage may say, what is refused, and that a run in stages resumes as if never stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from genus import catalog, pipeline
from genus.cost import cost
from genus.errors import UsageError
from genus.export.folder import load
from genus.stages import MultiTaskStage
from small import RUN as SHORT
from small import losses, rows, shrunk

if TYPE_CHECKING:
    from pathlib import Path

    from genus.recipe import Recipe

RUN = replace(SHORT, keep=4, checkpoint_every=5, evaluate_every=10)


@pytest.mark.parametrize("name", ["base", "large", "base-continual", "base-multi-task", "base-continual-multi-task"])
def test_each_schedule_gives_each_task_its_steps(name: str) -> None:
    """50 thousand of each task (ERNIE 2.0, comparison of ways of training), whatever their number."""
    recipe = catalog.load(f"ernie2/{name}")
    given = {objective.name: 0.0 for objective in recipe.objectives}
    for stage in recipe.stages:
        turns = recipe.task_steps(stage)
        for turn in turns:
            (task,) = turn.objectives
            given[task] += stage.share * turn.steps / sum(one.steps for one in turns) * recipe.budget.amount / 1000
    assert given == pytest.approx(dict.fromkeys(given, 50), rel=1e-5)


def thousands(name: str) -> list[list[float]]:
    """Return the thousands of steps of each objective of a row (outer) in each of its stages (inner)."""
    recipe = catalog.load(name)
    table = [[0.0 for _ in recipe.stages] for _ in recipe.objectives]
    for number, stage in enumerate(recipe.stages):
        turns = recipe.task_steps(stage)
        for turn in turns:
            part = turn.steps / sum(one.steps for one in turns)
            table[recipe.task(turn)][number] += round(stage.share * part * recipe.budget.amount / 1000, 1)
    return table


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("continual", [[50, 0, 0, 0], [0, 50, 0, 0], [0, 0, 50, 0], [0, 0, 0, 50]]),
        ("multi-task", [[50], [50], [50], [50]]),
        ("continual-multi-task", [[20, 10, 10, 10], [0, 30, 10, 10], [0, 0, 40, 10], [0, 0, 0, 50]]),
    ],
)
def test_the_schedules_are_the_paper_s_table(name: str, table: list[list[float]]) -> None:
    """Training iterations in thousands, by task and stage (ERNIE 2.0, comparison of ways of training)."""
    recipe = catalog.load(f"ernie2/base-{name}")
    tasks = ["masked_lm", "capital_prediction", "token_document", "sentence_reordering"]
    assert [objective.name for objective in recipe.objectives] == tasks
    assert thousands(recipe.name) == table
    assert recipe.schedule.to_json()["warmup"] * recipe.budget.amount == 4_000


@pytest.mark.parametrize("name", ["base", "large"])
def test_tasks_join_kind_by_kind_and_stay(name: str) -> None:
    recipe = catalog.load(f"ernie2/{name}")
    tasks = [objective.name for objective in recipe.objectives]
    stages = [[turn.objectives[0] for turn in recipe.task_steps(stage)] for stage in recipe.stages]
    assert stages == [tasks[:3], tasks[:5], tasks]


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([{"objectives": ["maskd"]}], "there is no objective 'maskd' among objectives. Did you mean 'masked_lm'"),
        ([{"objectives": ["masked_lm"], "steps": 0}], "tasks.0.steps: expected at least 1"),
        ([{"objectives": []}], "needs an objective"),
        (
            [{"objectives": ["sentence_distance", "relevance"]}],
            "SequenceLabels learns from TitledParagraphs, not Dist",
        ),
    ],
)
def test_turns_that_cannot_be_taken(turns: list[dict[str, Any]], message: str) -> None:
    changes = {"stages": [{"kind": "MultiTaskStage", "max_length": 128, "batch": 8, "micro_batch": 8, "tasks": turns}]}
    with pytest.raises(UsageError, match=message):
        catalog.load("ernie2/tiny").overlay(changes)


def test_too_few_task_vectors_are_refused() -> None:
    with pytest.raises(UsageError, match="3 task vectors are too few for 7 objectives"):
        catalog.load("ernie2/tiny", ["model.embedding.tasks=3"])


IN_TURNS = {
    "bert/tiny": (["masked_lm"], ["masked_lm", "next_sentence"]),
    "xlnet/tiny": (["permutation_lm"], ["next_sentence"]),
    "electra/tiny": (["masked_lm_generator"], ["masked_lm_generator", "replaced_token_detection"]),
}
"""Objectives of two turns: of single sequences, of streams with a memory for each turn, of two networks."""
MORE = {"xlnet/tiny": [{"kind": "SequenceLabels", "label": "next_sentence"}]}
"""Objectives beside a member's own."""
LOSS = {"masked_lm_generator": "masked_lm"}
"""What an objective's loss is called, if not by its name."""


def in_turns(name: str) -> Recipe:
    """Return a small member that learns from its second turn in two steps of three."""
    small = shrunk(catalog.load(name))
    first, second = IN_TURNS[name]
    turns = [{"objectives": first}, {"objectives": second, "steps": 2}]
    stage = small.stages[0].to_json() | {"kind": "MultiTaskStage", "tasks": turns, "micro_batch": 8}
    heads = [*(objective.to_json() for objective in small.objectives), *MORE.get(name, [])]
    return small.overlay({"stages": [stage], "objectives": heads, "budget": {"amount": 4.0}})


@pytest.mark.parametrize("name", IN_TURNS)
def test_any_member_takes_turns_and_resumes_as_if_it_never_stopped(name: str, corpus: Path, tmp_path: Path) -> None:
    """From step 2 of 4, in the middle of a round."""
    run = replace(RUN, checkpoint_every=2, evaluate_every=4)
    pipeline.pretrain(in_turns(name), [corpus], tmp_path / "whole", run)
    expected = [sorted(LOSS.get(one, one) for one in turn) for turn in IN_TURNS[name]]
    names = {one for turn in expected for one in turn}
    learned = [sorted(row.keys() & names) for row in rows(tmp_path / "whole") if "loss" in row]
    assert sorted(learned[:3]) == sorted([expected[0], expected[1], expected[1]])

    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "checkpoint-4")
    shutil.rmtree(tmp_path / "cut" / "model")
    pipeline.pretrain(in_turns(name), [corpus], tmp_path / "cut", run, resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    before, after = (load(tmp_path / which / "model").learner.state_dict() for which in ("whole", "cut"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[one], after[one]) for one in before)


def test_turns_of_a_member_cost_less_than_all_its_objectives() -> None:
    turns = [{"objectives": ["masked_lm"], "steps": 3}, {"objectives": ["masked_lm", "next_sentence"]}]
    recipe = catalog.load("bert/tiny").overlay({"stages": {"0": {"kind": "MultiTaskStage", "tasks": turns}}})
    (stage,) = recipe.stages
    assert isinstance(stage, MultiTaskStage)
    assert [recipe.task(turn) for turn in recipe.task_steps(stage)] == [0, 0]
    whole = recipe.overlay({"stages": {"0": "Stage"}})
    assert whole == catalog.load("bert/tiny")
    assert cost(whole).stages[0].flops_training > cost(recipe).stages[0].flops_training
    assert cost(whole).parameters == cost(recipe).parameters


def two_stages() -> Recipe:
    """Return a small ERNIE 2.0 whose second stage adds a task of each kind to the first's."""
    recipe = shrunk(catalog.load("ernie2/tiny"))
    stage = recipe.stages[0].to_json()
    turns = [
        {"objectives": ["masked_lm"], "steps": 2},
        {"objectives": ["token_document"]},
        {"objectives": ["sentence_reordering"]},
        {"objectives": ["discourse_relation"]},
    ]
    first = stage | {"share": 0.3, "tasks": turns[:1], "micro_batch": 8}
    second = stage | {"share": 0.7, "tasks": turns, "micro_batch": 8}
    names = {turn["objectives"][0] for turn in turns}
    kept = [objective.to_json() for objective in recipe.objectives if objective.name in names]
    return recipe.overlay({"stages": [first, second], "objectives": kept, "budget": {"amount": 20.0}})


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "ernie"
    pipeline.pretrain(two_stages(), [corpus], folder, RUN)
    return folder


LOSSES = {"masked_lm", "token_document", "sentence_reordering", "discourse_relation"}


def test_tasks_are_added_stage_by_stage(trained: Path) -> None:
    learned = [(row["stage"], next(iter(LOSSES & row.keys()))) for row in rows(trained) if "loss" in row]
    assert len(learned) == 20
    assert {task for stage, task in learned if stage == 0} == {"masked_lm"}
    first_round = sorted(task for stage, task in learned if stage == 1)[:5]
    assert {task for stage, task in learned if stage == 1} == LOSSES
    assert len(first_round) == 5
    tasks = [task for stage, task in learned if stage == 1]
    for begin in (0, 5):
        assert sorted(tasks[begin : begin + 5]) == sorted([*LOSSES, "masked_lm"])


def test_held_out_text_is_measured_for_every_task_from_the_first_stage_on(trained: Path) -> None:
    measured = [row for row in rows(trained) if "held_out/loss" in row]
    for row in measured:
        assert {f"held_out/{name}" for name in LOSSES} <= row.keys()
        assert row["held_out/loss"] == pytest.approx(sum(row[f"held_out/{name}"] for name in LOSSES), rel=1e-5)


def test_a_stopped_run_resumes_as_if_it_never_stopped(trained: Path, corpus: Path, tmp_path: Path) -> None:
    """From step 5 of 20, in the first stage."""
    shutil.copytree(trained, tmp_path / "run")
    for step in (10, 15, 20):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"checkpoint-{step}")
    pipeline.pretrain(two_stages(), [corpus], tmp_path / "run", RUN, resume=True)
    losses = [[row["loss"] for row in rows(folder) if "loss" in row] for folder in (trained, tmp_path / "run")]
    assert losses[0] == losses[1]
    before, after = (load(folder / "model").learner.state_dict() for folder in (trained, tmp_path / "run"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_model_folder_fine_tunes_and_holds_what_the_class_has_a_place_for(trained: Path) -> None:
    model = load(trained / "model")
    assert list(model.learner.heads) == ["masked_lm"]
    assert json.loads((trained / "model" / "config.json").read_text())["architectures"] == ["ErnieForMaskedLM"]
    assert all(not isinstance(stage.whole(), MultiTaskStage) for stage in model.recipe.stages)
