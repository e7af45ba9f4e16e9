"""Model folders, written and read: in the Hugging Face layout, or in ours where no class of theirs fits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from genus.errors import GenusError, UsageError
from genus.export import native
from genus.export.card import card
from genus.export.companions import housed, with_companions
from genus.export.layouts import Layout, layout_for, layout_of, theirs
from genus.export.translate import clean, heads_in, serving, to_foreign, to_ours
from genus.export.weights import read_json, read_weights
from genus.files import beside, write_json, write_tensors
from genus.objectives.fine_tuned import FineTuned
from genus.part import diff
from genus.recipe import Recipe
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from torch import Tensor

    from genus.model import Model
    from genus.objectives import Learner, Objective
    from genus.part import Json

FIXED = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
"""Keys of a configuration that stand for architectures which are not read here, and the one value that is."""


@dataclass(frozen=True)
class Imported:
    """A model folder that has been read."""

    recipe: Recipe
    """The folder's own `recipe.json`; where it has none, its architecture with our settings for further training."""
    learner: Learner
    """The network with every head that the folder holds, in float32 on the CPU."""
    tokenizer: Tokenizer


def save(folder: Path, recipe: Recipe, learner: Learner, tokenizer: Tokenizer, notes: str = "") -> None:
    """Write a model folder: configuration, weights, tokenizer, recipe, model card.

    Where no Hugging Face class has the architecture with these heads, it is a folder that only genus reads
    (`native.py`). All files are written beside the folder and moved into place, so that it is a whole one at any time.

    Args:
        folder: where to write; files of an older model there are replaced.
        recipe: what the learner was built from.
        learner: the network and its heads.
        tokenizer: its ids are the rows of the token embedding.
        notes: Markdown for the model card, on how the model came about.

    Raises:
        GenusError: tokenizer and learner do not belong together, or the disk is full.
    """
    vocabulary = tokenizer.vocabulary
    rows = learner.network.token_embedding.num_embeddings
    _match(tokenizer, rows)
    config, tensors, kept = _written(recipe, learner, vocabulary.pad)
    config |= {"vocab_size": rows, "pad_token_id": vocabulary.pad, "bos_token_id": vocabulary.cls}
    config |= {"eos_token_id": vocabulary.sep, "dtype": str(next(iter(tensors.values())).dtype).removeprefix("torch.")}
    if "id2label" in config:
        config["label2id"] = {label: int(number) for number, label in config["id2label"].items()}
    recipe = replace(recipe, tokens=tokenizer.tokens)
    with beside(folder) as work:
        tokenizer.save(work, recipe.model.max_length, segments=config.get("type_vocab_size", 2) > 1)
        write_tensors(work / "model.safetensors", tensors)
        write_json(work / "recipe.json", recipe.to_json())
        notes = _save_companions(work, recipe, learner, tokenizer) + notes
        page = card(recipe, config, tensors, {*kept, *housed(learner)}, notes)
        (work / "README.md").write_text(page, encoding="utf-8")
        write_json(work / "config.json", config)


def load(folder: Path) -> Imported:
    """Read a model folder, ours or anyone's of a known architecture.

    Raises:
        GenusError: a file is missing, damaged or unknown; weights, configuration and tokenizer do not belong together.
    """
    if not folder.is_dir():
        raise GenusError(f"{folder}: there is no such folder")
    config = read_json(folder / "config.json")
    tokenizer, weights, own = Tokenizer.load(folder), read_weights(folder), _recipe(folder)
    read = _rebuild if native.is_native(config) else assemble
    try:
        found = read(config, weights, tokenizer, own)
    except GenusError as error:
        raise GenusError(f"{folder}: {error}") from None
    return with_companions(folder, found, load, own is not None)


def assemble(config: Json, weights: dict[str, Tensor], tokenizer: Tokenizer, own: Recipe | None = None) -> Imported:
    """Make a recipe and its learner of a foreign configuration and its tensors.

    Args:
        config: what `config.json` holds.
        weights: tensors by foreign names.
        tokenizer: its ids are the rows of the token embedding.
        own: the recipe that the weights were trained with, where it is known.

    Raises:
        GenusError: something is missing, contradictory or unknown; without the folder's name.
    """
    layout = layout_of(config, weights)
    _check(config, layout)
    tensors = clean(weights, layout)
    heads = [head for head in heads_in(tensors, layout, config) if layout.heads[head].fits(config)]
    tensors = serving(tensors, layout, heads)
    absent = [choice for choice, module in layout.optional.items() if not _has(tensors, layout, heads, module)]
    try:
        model, found = layout.parts(config, heads, absent)
    except LookupError as error:
        raise GenusError(f"config.json: {error.args[0]} has no counterpart here") from None
    for name, objective in found.items():
        if isinstance(objective, FineTuned):
            (weight,) = theirs(f"heads.{name}.classes.weight", layout.table(heads))
            found[name] = objective.sized(len(tensors[weight]))
    if own is not None and model != own.model:
        path, ours, foreign = diff(own.model, model)[0]
        raise GenusError(f"recipe.json has model.{path} = {ours}, config.json {foreign}: they do not belong together")
    _match(tokenizer, _rows(tensors, layout))
    recipe = own or _continued(layout, model, list(found.values()), tokenizer)
    with torch.device("meta"):  # no time is spent on weights that are replaced
        learner = recipe.exported.learner()
    for name in [name for name in learner.heads if name not in heads]:
        del learner.heads[name]
    learner.load(to_ours(tensors, layout, learner))
    return Imported(recipe, learner, tokenizer)


def _save_companions(work: Path, recipe: Recipe, learner: Learner, tokenizer: Tokenizer) -> str:
    """Write the whole models within the learner into folders of their own; return what the card says of them."""
    notes = ""
    for name, one in learner.companions().items():
        stages = tuple(stage.whole() for stage in recipe.stages)
        own = replace(recipe, name=f"{recipe.name}-{name}", model=one.model, objectives=one.objectives, stages=stages)
        save(work / name, own, one.learner, tokenizer)
        notes += f"Trained with a model that lies beside it, in `{name}/`.\n\n"
    return notes


def _written(recipe: Recipe, learner: Learner, pad: int) -> tuple[Json, dict[str, Tensor], Collection[str]]:
    """Return configuration and tensors as they are written, and the heads that are among them."""
    fitting = layout_for(recipe, learner.heads)
    if fitting is None:
        return native.describe(recipe, learner), native.tensors(learner), learner.heads.keys()
    layout, config = fitting
    if layout.pad not in (None, pad):
        raise GenusError(f"{layout.model_type} counts positions from the padding id {layout.pad}, not {pad}")
    return config, to_foreign(learner, layout), layout.kept(learner.heads)


def _rebuild(config: Json, weights: dict[str, Tensor], tokenizer: Tokenizer, own: Recipe | None) -> Imported:
    """Make a learner of a folder that only genus reads."""
    if own is None:
        raise GenusError("recipe.json is missing, which says what this model is")
    _match(tokenizer, own.tokens.vocab_size)
    return Imported(own, native.rebuild(config, weights, own), tokenizer)


def _check(config: Json, layout: Layout) -> None:
    """Refuse configurations whose mathematics is another."""
    known = sorted(set(layout.architectures.values()))
    for architecture in config.get("architectures") or ():
        if architecture not in known:
            raise GenusError(f"config.json: {architecture} cannot be read; known are {', '.join(known)}")
    for key, value in FIXED.items():
        if key in {setting.key for setting in layout.settings}:
            continue
        if config.get(key) not in (None, value):
            raise GenusError(f"config.json: {key} = {config[key]!r} cannot be read, only {value!r}")
    if config.get("problem_type") == "multi_label_classification":
        raise GenusError("config.json: a classifier with several labels at once cannot be read")
    if layout.pad is not None and config.get("pad_token_id", layout.pad) != layout.pad:
        raise GenusError(f"config.json: pad_token_id = {config['pad_token_id']}, from which positions are counted; "
                         f"only {layout.pad} can be read")  # fmt: skip


def _has(tensors: dict[str, Tensor], layout: Layout, heads: Sequence[str], module: str) -> bool:
    """Say whether there are tensors for a module of ours."""
    return all(name in tensors for name in theirs(f"{module}.weight", layout.table(heads)))


def _rows(tensors: dict[str, Tensor], layout: Layout) -> int:
    """Return the number of token vectors."""
    (name,) = theirs("network.embed.tokens.weight", layout.tensors)
    if name not in tensors:
        raise GenusError(f"the weights lack {name}")
    return len(tensors[name])


def _match(tokenizer: Tokenizer, rows: int) -> None:
    """Refuse a tokenizer whose ids are not the rows of the embedding."""
    size = tokenizer.vocabulary.size
    if size != rows:
        raise GenusError(f"the tokenizer has {size:,} pieces, the model {rows:,}: they do not belong together")


def _continued(layout: Layout, model: Model, objectives: list[Objective], tokenizer: Tokenizer) -> Recipe:
    """Return a recipe for what came without one: its architecture, and the layout's settings for further training.

    Where its objectives cannot do without another of the layout's, as a discriminator without a generator, that is in.
    """
    template = layout.template
    needs: frozenset[str] = frozenset().union(*(objective.needs for objective in objectives))
    objectives = [*(one for one in template.objectives if one.gives & needs), *objectives]
    longest = model.max_length
    stages = tuple(
        replace(stage, max_length=min(stage.max_length, longest or stage.max_length)) for stage in template.stages
    )
    length = min(template.finetuning.max_length, longest or template.finetuning.max_length)
    return replace(
        template,
        tokens=tokenizer.tokens,
        model=model,
        objectives=tuple(objectives) or template.objectives,
        stages=stages,
        finetuning=replace(template.finetuning, max_length=length),
    )


def _recipe(folder: Path) -> Recipe | None:
    """Return the folder's recipe, None where it has none."""
    path = folder / "recipe.json"
    if not path.exists():
        return None
    try:
        return Recipe.from_json(read_json(path))
    except UsageError as error:
        raise GenusError(f"{path}: {error}") from None
