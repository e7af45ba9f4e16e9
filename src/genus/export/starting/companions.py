"""Auxiliary models (whole models within heads, such as ELECTRA's generator), loaded from subfolders of a model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from genus.errors import GenusError, UsageError
from genus.model.skeleton import skeleton

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genus.export.folder import LoadedModel
    from genus.objectives import AuxiliaryModel, Head, Learner, Objective


def as_model(learner: Learner) -> set[str]:
    """Return the names of the heads that consist of auxiliary models."""
    heads = cast("dict[str, Head]", dict(learner.heads.items()))
    return {name for name, head in heads.items() if head.auxiliary_models(learner.network)}


def with_auxiliary_models(
    folder: Path, found: LoadedModel, load: Callable[[Path], LoadedModel], known: bool
) -> LoadedModel:
    """Return a loaded model with the heads whose auxiliary models are in subfolders of its folder.

    Args:
        folder: the model folder.
        found: the loaded model; heads that it lacks are looked for.
        load: loads a model folder.
        known: whether the folder has its own recipe, which defines the architectures of the auxiliary models.

    Raises:
        GenusError: a subfolder cannot be read, or does not belong to the model.
    """
    heads: dict[str, nn.Module] = dict(found.learner.heads.items())
    objectives = []
    for objective in found.recipe.objectives:
        if objective.name not in heads:
            objective, head = _sought(folder, found, objective, load, known)
            if head is not None:
                heads[objective.name] = head
        objectives.append(objective)
    found.learner.heads = nn.ModuleDict({one.name: heads[one.name] for one in objectives if one.name in heads})
    found.learner.tie()
    return replace(found, recipe=replace(found.recipe, objectives=tuple(objectives)))


def _sought(
    folder: Path, found: LoadedModel, objective: Objective, load: Callable[[Path], LoadedModel], known: bool
) -> tuple[Objective, Head | None]:
    """Return the objective fitted to its auxiliary models, and its head; None where not all models are there."""
    model, network = found.recipe.model, found.learner.network
    names = _built(objective, found).auxiliary_models(network).keys()
    if not names or not all((folder / name / "config.json").is_file() for name in names):
        return objective, None
    beside = {name: load(folder / name) for name in names}
    if not known:
        try:
            objective = objective.fitted(model, {name: one.recipe.model for name, one in beside.items()})
        except UsageError as error:
            raise GenusError(f"{folder / next(iter(names))}: {error}") from None
    head = _built(objective, found)
    for name, companion in head.auxiliary_models(network).items():
        try:
            _fill(companion, beside[name], found)
        except GenusError as error:
            raise GenusError(f"{folder / name}: {error}") from None
    return objective, head


def _built(objective: Objective, found: LoadedModel) -> Head:
    """Return the objective's head without weights, on the meta device."""
    with skeleton():
        return objective.build(found.recipe.model, found.learner.network.token_embedding.num_embeddings)


def _fill(companion: AuxiliaryModel, given: LoadedModel, found: LoadedModel) -> None:
    """Load a folder's weights into an auxiliary model; weights shared with the main model must be equal to its own."""
    if given.recipe.model != companion.model:
        raise GenusError("is of another architecture than recipe.json beside it says; take both from one run")
    if given.tokenizer.hash() != found.tokenizer.hash():
        raise GenusError("has another tokenizer than the model beside it; take both from one run")
    own, theirs = companion.learner.state_dict(), given.learner.state_dict()
    if missing := own.keys() ^ theirs.keys():
        raise GenusError(
            f"{min(missing)} is in one alone of the folder and the recipe beside it; take both from one run"
        )
    for name, tensor in own.items():
        if not tensor.is_meta and not torch.equal(tensor, theirs[name]):
            raise GenusError(
                f"its {name} differs from the model's, of which it shares this tensor; take both from one run"
            )
    fresh = {name: tensor for name, tensor in theirs.items() if own[name].is_meta}
    companion.learner.load_state_dict(fresh, strict=False, assign=True)
