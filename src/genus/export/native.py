"""Folders that only genus reads: of an architecture, or heads, for which Hugging Face has no class.

`recipe.json` says what the weights are of, and they keep our names, so there is nothing to translate: `config.json`
tells those who look for a model here whose it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from genus.errors import GenusError, near
from genus.export.translate import shorten
from genus.export.weights import converted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

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


def tensors(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    """Return the learner's tensors on the CPU, each once, under the first of its names."""
    for name, tensor in learner.tensors().items():
        yield name, tensor.detach().cpu().contiguous()


def rebuild(config: Json, weights: Mapping[str, Tensor], recipe: Recipe, dtype: torch.dtype) -> Learner:
    """Return the learner of a recipe with these weights, read one by one and converted to a type.

    Raises:
        GenusError: configuration, recipe and weights do not belong together; without the folder's name.
    """
    if (named := config.get("architectures")) != [recipe.name]:
        other = ", ".join(map(str, named)) if isinstance(named, list) else str(named)
        raise GenusError(f"recipe.json is of {recipe.name}, config.json of {other}: they do not belong together")
    with torch.device("meta"):  # no time is spent on weights that are replaced
        learner = recipe.exported.learner()
    _keep(learner, config.get("heads"))
    learner.load(dict(_read(learner.tensors(), weights, dtype)))
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


def _read(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], dtype: torch.dtype
) -> Iterator[tuple[str, Tensor]]:
    """Read the expected tensors one by one; refuse weights that are missing, too many, or of other shapes."""
    for problem, names in (
        ("lack", expected.keys() - weights.keys()),
        ("have no place for", weights.keys() - expected),
    ):
        if names:
            raise GenusError(f"the weights {problem} {shorten(sorted(names))}")
    for name, place in expected.items():
        tensor = weights[name]
        if tensor.shape != place.shape:
            shapes = f"{tuple(tensor.shape)}, which is {tuple(place.shape)} here"
            raise GenusError(f"the weights do not fit {name} {shapes}")
        yield name, converted(tensor, dtype, name)
