"""What must hold of every member of the catalog. A new member is covered without a line here.

Goldens are written anew with `GOLDEN=write ./test.sh tests/contract`; read the difference before committing it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from genus import catalog
from genus.cost import cost
from genus.model.skeleton import skeleton
from genus.objectives.pretraining.distillation import DistillationHead
from genus.optim.adamw import AdamW
from genus.recipe import Recipe
from kinds import members_by_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Small
    from genus.objectives import Learner

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "recipes"
OVERFIT_STEPS, OVERFIT = 36, AdamW(lr=6e-3)
"""One optimizer for all members, because a rate means something else to each."""
UNCALLED = (".lm_head", ".text_head", ".image_head", ".positions.tables")
"""Modules without a forward pass in training: an output layer's loss never makes the logits that its forward pass
returns; AxialPosition's tables are a list of parameters."""
LEFT = 0.5
"""Share of its first value under which the loss of one batch must fall; it starts near log of the vocabulary's size."""

members = pytest.mark.parametrize("name", catalog.names())


def plain(value: object) -> bool:
    """Say whether a value is made of JSON's own kinds only."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return value is None or type(value) in (bool, int, float, str)


@members
def test_it_is_data_and_reads_back_the_same(name: str) -> None:
    recipe = catalog.load(name)
    written = recipe.to_json()
    assert plain(written)
    again = Recipe.from_json(json.loads(json.dumps(written)))
    assert again == recipe
    assert again.hash() == recipe.hash()


@members
def test_it_equals_its_golden(name: str) -> None:
    path = GOLDEN / f"{name.replace('/', '-')}.json"
    resolved = catalog.load(name).to_json()
    if os.environ.get("GOLDEN") == "write":
        path.write_text(json.dumps(resolved, indent=1) + "\n", encoding="utf-8")
    assert resolved == json.loads(path.read_text(encoding="utf-8"))


def test_no_golden_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == {name.replace("/", "-") for name in catalog.names()}


@members
def test_its_parameters_are_counted_without_building_it(name: str) -> None:
    recipe = catalog.load(name)
    with skeleton():
        learner = recipe.learner()
    assert cost(recipe).parameters == sum(parameter.numel() for parameter in learner.parameters())
    assert cost(recipe).network == sum(parameter.numel() for parameter in learner.network.parameters())


@members
def test_small_its_losses_are_finite_and_reach_every_parameter(name: str, small: Callable[[str], Small]) -> None:
    """And the hooks of every module that has parameters run, but for `UNCALLED`."""
    it = small(name)
    learner, called = fresh(it.recipe), set()
    for module in learner.modules():
        module.register_forward_hook(lambda module, *_: called.add(module))
    for batch in it.batches:
        counts, sums = learner.counts(batch), learner(batch).sums
        assert counts.keys() == {loss for loss in sums if "/" not in loss}
        assert all(count > 0 for count in counts.values())
        assert all(bool(torch.isfinite(value)) for value in sums.values())
        learner.objective(sums, counts).backward()
    owners = {path: module for path, module in learner.named_modules() if {*module.parameters(recurse=False)}}
    assert not [path for path, module in owners.items() if module not in called and not path.endswith(UNCALLED)]
    gradients = {name: weight.grad for name, weight in learner.named_parameters()}
    assert not [name for name, gradient in gradients.items() if gradient is None or not bool(gradient.any())]
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients.values() if gradient is not None)


def test_the_example_of_the_documentation_keeps_the_contract(tmp_path: Path, small: Callable[[str], Small]) -> None:
    """The first block of the page on adding a member, as a recipe."""
    page = GOLDEN.parents[2] / "docs" / "adding-a-member.md"
    values: dict[str, Recipe] = {}
    exec(page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0], values)
    (tmp_path / "mine.json").write_text(json.dumps(values["BASE"].to_json()))
    name = str(tmp_path / "mine.json")
    test_its_parameters_are_counted_without_building_it(name)
    test_small_its_losses_are_finite_and_reach_every_parameter(name, small)


@members_by_kind
def test_small_it_learns_one_batch_by_heart(name: str, small: Callable[[str], Small]) -> None:
    """Who teaches learns it first: a fresh teacher's distributions contradict the labels."""
    it = small(name)
    learner = fresh(it.recipe)
    for head in learner.heads.values():
        if isinstance(head, DistillationHead):
            overfit(head.teacher.requires_grad_(True), it)
            head.set_teacher(head.teacher)
    losses = overfit(learner, it)
    assert losses[-1] < LEFT * losses[0]


def overfit(learner: Learner, it: Small) -> list[float]:
    """Train on the same batches over and over, with the same draws, and return the losses."""
    optimizer = OVERFIT.build(learner)
    losses = []
    for _ in range(OVERFIT_STEPS):
        torch.manual_seed(0)
        each = [learner.objective(learner(batch).sums, learner.counts(batch)) for batch in it.batches]
        loss = torch.stack(each).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def fresh(recipe: Recipe) -> Learner:
    """Build the recipe's learner from a fixed seed."""
    torch.manual_seed(0)
    return recipe.learner()
