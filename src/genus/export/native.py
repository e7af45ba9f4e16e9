"""Folders that only genus reads: of an architecture, or heads, for which Hugging Face has no class.

`recipe.json` says what the weights are of, and they keep our names, so there is nothing to translate: `config.json`
tells those who look for a model here whose it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genus.errors import GenusError, near
from genus.export.translate import few

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from genus.objectives import Learner
    from genus.part import Json
    from genus.recipe import Recipe

MODEL_TYPE = "genus"
"""What a configuration calls it; transformers refuses the name."""


def is_native(config: Json) -> bool:
    """Say whether a configuration is that of such a folder."""
    return config.get("model_type") == MODEL_TYPE


def describe(recipe: Recipe, learner: Learner) -> Json:
    """Return the configuration: which row it is, and which of its heads are there."""
    return {"architectures": [recipe.name], "model_type": MODEL_TYPE, "heads": sorted(learner.heads)}


def tensors(learner: Learner) -> dict[str, Tensor]:
    """Return the learner's tensors on the CPU, each once, under the first of its names."""
    return {name: tensor.cpu().contiguous() for name, tensor in learner.tensors().items()}


def rebuild(config: Json, weights: Mapping[str, Tensor], recipe: Recipe) -> Learner:
    """Return the learner of a recipe with these weights, in float32.

    Raises:
        GenusError: configuration, recipe and weights do not belong together; without the folder's name.
    """
    if (named := config.get("architectures")) != [recipe.name]:
        other = ", ".join(map(str, named)) if isinstance(named, list) else str(named)
        raise GenusError(f"recipe.json is of {recipe.name}, config.json of {other}: they do not belong together")
    with torch.device("meta"):  # no time is spent on weights that are replaced
        learner = recipe.exported.learner()
    _keep(learner, config.get("heads"))
    _check(learner, weights, learner.tensors().keys())
    learner.load({name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()})
    return learner


def _keep(learner: Learner, heads: object) -> None:
    """Take away the heads that are not there."""
    if not isinstance(heads, list):
        raise GenusError(f"config.json: heads: expected a list of names, got {heads!r}")
    for name in heads:
        if name not in learner.heads:
            raise GenusError(f"config.json: recipe.json has no head {name!r}.{near(str(name), list(learner.heads))}")
    for name in learner.heads.keys() - set(heads):
        del learner.heads[name]


def _check(learner: Learner, weights: Mapping[str, Tensor], names: AbstractSet[str]) -> None:
    """Refuse weights that are missing, too many, or of other shapes."""
    state = learner.state_dict()
    both = sorted(names & weights.keys())
    wrong = [f"{name} {tuple(weights[name].shape)}, which is {tuple(state[name].shape)} here" for name in both
             if weights[name].shape != state[name].shape]  # fmt: skip
    problems = {"lack": names - weights.keys(), "have no place for": weights.keys() - names, "do not fit": wrong}
    for problem, which in problems.items():
        if which:
            raise GenusError(f"the weights {problem} {few(sorted(which))}")
