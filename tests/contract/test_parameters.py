"""The parameters of every row are Hugging Face's to the last one, by name and shape, where a class of theirs fits it.

The class and its configuration are those that an export names, so that a new member is covered without a line here.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from genus import catalog
from genus.export.layouts import layout_for
from genus.export.translate import foreign
from genus.model.skeleton import skeleton

if TYPE_CHECKING:
    from collections.abc import Collection

    from genus.export.layouts import Layout
    from genus.objectives import Learner
    from genus.recipe import Recipe

transformers = pytest.importorskip("transformers")

Shapes = dict[str, tuple[int, ...]]


@pytest.mark.parametrize("name", catalog.names())
def test_parameters_equal_hugging_faces(name: str) -> None:
    """Of the model and of those that an export puts beside it."""
    recipe = catalog.load(name)
    with skeleton():
        learner = recipe.learner()
        companions = learner.auxiliary_models().values()
    beside = [(replace(recipe, model=one.model, objectives=one.objectives), one.learner) for one in companions]
    checked = [same_parameters(*pair) for pair in [(recipe, learner), *beside]]
    if not any(checked):
        pytest.skip("no Hugging Face class has this architecture")


def same_parameters(recipe: Recipe, learner: Learner) -> bool:
    """Ask for the same tensors, but for a pooler that one side has no need of; say whether there is a class to ask."""
    fitting = layout_for(recipe, learner.heads)
    if fitting is None:
        return False
    layout, config = fitting
    ours = placed(learner, layout, config)
    official = official_shapes(config, recipe.vocab_rows, constants=ours.keys())
    free = tuple(f"{row}." for module in layout.optional.values() for row in layout.tensors[module])
    for name in [name for name in ours.keys() ^ official.keys() if name.startswith(free)]:
        (ours if name in ours else official).pop(name)
    assert ours == official
    return True


def official_shapes(config: dict[str, Any], vocab_size: int, constants: Collection[str] = ()) -> Shapes:
    """Return the shape of every parameter of the class that an exported configuration names, and of these constants."""
    (architecture,) = config["architectures"]
    settings = transformers.AutoConfig.for_model(**config, vocab_size=vocab_size, pad_token_id=0)
    if hasattr(settings, "text_config"):
        settings.text_config.vocab_size = vocab_size
    with skeleton():
        model = getattr(transformers, architecture)(settings)
    if not config.get("tie_word_embeddings", True) and model.get_output_embeddings() is not None:
        model.set_output_embeddings(copy.deepcopy(model.get_output_embeddings()))  # T5's classes tie it at first
    kept = {name: buffer for name, buffer in model.named_buffers() if name in constants}
    return {name: tuple(tensor.shape) for name, tensor in [*model.named_parameters(), *kept.items()]}


def placed(learner: Learner, layout: Layout, config: dict[str, Any]) -> Shapes:
    """Return the shape of every tensor by its foreign name, without heads that the layout has no place for."""
    out = tuple(f"heads.{head}." for head in learner.heads.keys() - layout.kept(learner.heads))
    tensors = {name: tensor for name, tensor in learner.tensors().items() if not name.startswith(out)}
    return {name: tuple(tensor.shape) for name, tensor in foreign(tensors, layout, learner.heads, config)}
