"""Reading and writing of OpenCLIP's folders."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from genus.errors import GenusError, UsageError
from genus.export.layouts.clip import HEAD
from genus.export.open_clip.layout import VISION_TRANSFORMER, residual_network
from genus.export.translate import Renamed, to_foreign, to_ours
from genus.export.weights import open_weights
from genus.files import beside, read_json, write_json, write_tensors
from genus.model.skeleton import skeleton
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from genus.export.layouts import Layout
    from genus.objectives import Learner
    from genus.part import Json
    from genus.recipe import Recipe

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
"""Names of weight files, in order of preference (factory.py, `_find_checkpoint_in_dir`)."""
COUNTED = ".num_batches_tracked"
"""Suffix of counts of batches that batch normalization saw, on which no output depends."""
HERE = "."
"""Name of the tokenizer: where any is named, OpenCLIP takes the one in the folder (factory.py, `get_tokenizer`)."""


def is_open_clip(folder: Path) -> bool:
    """Return whether a folder is OpenCLIP's; one with a `config.json` beside it is read by that."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").exists()


def read(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Recipe, Learner, Tokenizer]:
    """Return recipe, learner and tokenizer of an OpenCLIP folder.

    Args:
        folder: with `open_clip_config.json`, safetensors and the files of the tokenizer.
        dtype: type of the learner's weights.

    Raises:
        GenusError: a file is missing or damaged, weights are no safetensors, or the architecture is not known here.
    """
    config, path = read_json(folder / CONFIG), folder / CONFIG
    try:
        layout = _layout(config)
        model, objectives = layout.parts(config, [HEAD], ())
    except (LookupError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise GenusError(f"{path}: {error.args[0]} has no counterpart here") from None
    except UsageError as error:
        raise GenusError(f"{path}: {error}") from None
    weights, tokenizer = _weights(folder), _tokenizer(folder)
    template = layout.template
    length = min(template.finetuning.max_length, model.max_length or template.finetuning.max_length)
    stages = (replace(stage, max_length=model.max_length or stage.max_length) for stage in template.stages)
    rows = len(weights["token_embedding.weight"]) if "token_embedding.weight" in weights else 0
    recipe = replace(
        template,
        tokens=tokenizer.tokens,
        model=model,
        examples=template.examples.for_model(model),
        objectives=tuple(objectives.values()),
        stages=tuple(stage.fitted(model) for stage in stages),
        finetuning=replace(template.finetuning, max_length=length),
        padded_vocab_size=rows if rows > tokenizer.vocabulary.size else None,
    )
    with skeleton():  # skips the initialization of weights that are loaded next
        learner = recipe.exported.learner()
    try:
        learner.load(to_ours(weights, layout, learner, config, dtype))
    except GenusError as error:
        raise GenusError(f"{folder}: {error}") from None
    return recipe, learner, tokenizer


def write(
    folder: Path, recipe: Recipe, learner: Learner, tokenizer: Tokenizer, replaced: Collection[Path] = ()
) -> dict[str, float]:
    """Write an OpenCLIP folder, read it again, and return the largest difference of a weight, which is 0.

    Args:
        folder: where to write.
        recipe: that the learner was built from.
        learner: the network and its head.
        tokenizer: its ids are the rows of the token embedding.
        replaced: files of an older one there, relative to the folder, that do not stay.

    Raises:
        UsageError: OpenCLIP has no such architecture.
        GenusError: weights are not finite, the disk is full, or another model is read.
    """
    recipe, layout, config = _written(recipe, learner)
    eos = tokenizer.vocabulary.roles.get("eos")
    texts = {"vocab_size": learner.network.token_embedding.num_embeddings, "hf_tokenizer_name": HERE}
    if eos != tokenizer.vocabulary.size - 1:  # else the largest id of a text tells its last token
        texts |= {"pool_type": "eos", "eos_id": eos}
    config["model_cfg"]["text_cfg"] |= texts
    with beside(folder, replaced) as work:
        tokenizer.save(work, recipe.model.max_length, segments=False)
        tensors = dict(to_foreign(learner, layout, config))
        norms = [name.removesuffix(".running_var") for name in tensors if name.endswith(".running_var")]
        write_tensors(work / WEIGHTS[0], tensors | {f"{name}{COUNTED}": torch.tensor(0) for name in norms})
        write_json(work / CONFIG, config)
        _check(work, recipe, learner)
    return {"weights": 0.0}


def _check(folder: Path, recipe: Recipe, learner: Learner) -> None:
    """Check that a folder is read as the same model (GenusError)."""
    again, found, _ = read(folder, next(learner.parameters()).dtype)
    ours, theirs = learner.tensors(), found.tensors()
    other = [name for name, tensor in ours.items() if not torch.equal(tensor.cpu(), theirs[name])]
    if again.model != recipe.model or other or ours.keys() != theirs.keys():
        raise GenusError(f"{folder}: is read as another model ({', '.join(other[:3])}); nothing is exported")


def _layout(config: Json) -> Layout:
    """Return the layout of a configuration, by the layers of its image tower."""
    layers = config["model_cfg"]["vision_cfg"]["layers"]
    return residual_network(tuple(map(int, layers))) if isinstance(layers, list) else VISION_TRANSFORMER


def _written(recipe: Recipe, learner: Learner) -> tuple[Recipe, Layout, Json]:
    """Return a recipe without what only training asks, its layout and its configuration.

    Raises:
        UsageError: OpenCLIP has no such architecture.
    """
    image = recipe.model.to_json().get("image", {})
    layout = residual_network(tuple(image["blocks"])) if "blocks" in image else VISION_TRANSFORMER
    if "residual_gain" in image:
        recipe = recipe.overlay({"model": {"image": {"residual_gain": 0.0}}})
    config = layout.config(recipe, learner.heads)
    if config is None:
        raise UsageError(f"{recipe.name}: is none of the architectures of OpenCLIP that are known here: a text tower "
                         "beside a vision Transformer or a residual network of four groups, as clip's")  # fmt: skip
    return recipe, layout, config


def _weights(folder: Path) -> Renamed:
    """Return the tensors of a folder's safetensors, but for those on which no output depends."""
    name = next((one for one in WEIGHTS if (folder / one).is_file()), None)
    if name is None:
        raise GenusError(f"{folder}: there are no weights here; expected {WEIGHTS[0]}, as pickled ones are not read")
    found = open_weights(folder / name)
    return Renamed(found, {one: one for one in found if not one.endswith(COUNTED) and one != "attn_mask"})


def _tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer of a folder; OpenCLIP's own lies in its package, and not in every folder."""
    try:
        return Tokenizer.load(folder)
    except GenusError as error:
        raise GenusError(f"{error}; lay the tokenizer's files beside {CONFIG}, for CLIP's vocabulary its vocab.json "
                         "and merges.txt") from None  # fmt: skip
