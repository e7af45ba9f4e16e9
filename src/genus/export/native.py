"""Native model folders, which only genus reads: for architectures or heads without a Hugging Face class.

`recipe.json` defines the architecture and the weights keep their genus names, so that nothing is translated;
`config.json` tells other tools that the model is one of genus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.errors import GenusError, near
from genus.export.translate import shorten
from genus.export.weights import converted
from genus.model.skeleton import skeleton

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch
    from torch import Tensor

    from genus.objectives import Learner
    from genus.part import Json
    from genus.recipe import Recipe

MODEL_TYPE = "genus"
"""`model_type` in the configuration; transformers rejects it."""


def is_native(config: Json) -> bool:
    """Return whether a configuration is that of a native folder."""
    return config.get("model_type") == MODEL_TYPE


def describe(recipe: Recipe, learner: Learner) -> Json:
    """Return the configuration of a native folder: the recipe's name, and the names of the heads that it holds."""
    return {"architectures": [recipe.name], "model_type": MODEL_TYPE, "heads": sorted(learner.heads)}


def tensors(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    """Yield the learner's tensors on the CPU; a shared tensor comes once, under the first of its names."""
    for name, tensor in learner.tensors().items():
        yield name, tensor.detach().cpu().contiguous()


def rebuild(config: Json, weights: Mapping[str, Tensor], recipe: Recipe, dtype: torch.dtype) -> Learner:
    """Build the learner of a recipe from the weights of a native folder, read and converted to `dtype` one by one.

    Raises:
        GenusError: configuration, recipe and weights do not belong together; the message does not name the folder.
    """
    if (named := config.get("architectures")) != [recipe.name]:
        other = ", ".join(map(str, named)) if isinstance(named, list) else str(named)
        raise GenusError(f"recipe.json is of {recipe.name}, config.json of {other}: they do not belong together")
    with skeleton():  # skips the initialization of weights that are loaded next
        learner = recipe.exported.learner()
    _keep(learner, config.get("heads"))
    learner.load(dict(_read(learner.tensors(), weights, dtype)))
    return learner


def _keep(learner: Learner, heads: object) -> None:
    """Remove the learner's heads that the configuration does not list."""
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
    """Yield the expected tensors one by one; raise a GenusError for missing or extra tensors and for other shapes."""
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
