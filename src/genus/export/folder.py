"""Saving and loading of model folders: in the Hugging Face layout, or in genus's own where no class of theirs fits."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from genus.errors import GenusError, UsageError, say
from genus.export import gguf, native
from genus.export.card import card
from genus.export.layouts import ROLES, Layout, hf_names, layout_for, layout_of
from genus.export.onnx import folder as graphs
from genus.export.open_clip import folder as open_clip
from genus.export.sentence_transformers import module_files, with_modules, write_modules
from genus.export.shards import SHARD_BYTES, write_weights
from genus.export.starting.companions import as_model, with_auxiliary_models
from genus.export.supported import check_config, check_rows, padded_rows
from genus.export.translate import clean, heads_in, serving, to_foreign, to_ours
from genus.export.usage import FILES, read_usage, write_usage
from genus.export.weights import read_weights, weight_files
from genus.files import beside, read_json, write_json
from genus.model.skeleton import skeleton
from genus.objectives.supervised import FineTuned
from genus.part import diff
from genus.recipe import Recipe
from genus.tokens import steps
from genus.tokens.tokenizer import CHOICES, Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from torch import Tensor

    from genus.model import Model
    from genus.objectives import Learner, Objective
    from genus.part import Json
    from genus.tokens.vocabulary import Vocabulary


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model folder: recipe, learner and tokenizer."""

    recipe: Recipe
    """The folder's `recipe.json`, or else its architecture with the layout's settings for further training."""
    learner: Learner
    """The network with all heads of the folder, on the CPU."""
    tokenizer: Tokenizer
    generation: Json | None = None
    """Its `generation_config.json`: how it writes texts where nothing else is said."""
    task: Json | None = None
    """Its `task.json`: the task that it was fine-tuned for; of other folders the prefix in `config.json`, if any."""


def save(
    folder: Path,
    recipe: Recipe,
    learner: Learner,
    tokenizer: Tokenizer,
    notes: str = "",
    *,
    shard_bytes: int = SHARD_BYTES,
    replaced: Collection[Path] = (),
    generation: Json | None = None,
    task: Json | None = None,
) -> None:
    """Save a model folder: configuration, weights, tokenizer, recipe, model card.

    Where no Hugging Face class has the architecture with these heads, the folder can be read by genus only
    (`native.py`). All files are written beside the folder, which then changes in one step (see `files.beside`).

    Args:
        folder: where to write; files of an older model there are replaced.
        recipe: the recipe that the learner was built from.
        learner: the network and its heads.
        tokenizer: its ids are the rows of the token embedding, unless `padded_vocab_size` of the recipe adds rows.
        notes: Markdown for the model card, on the model's training.
        shard_bytes: the largest size in bytes of a weight file; a larger model is written in shards.
        replaced: further files of an older model there, relative to the folder, that do not stay.
        generation: how the model writes texts where nothing else is said, for `generation_config.json`.
        task: the task that it was fine-tuned for, for `task.json`.

    Raises:
        GenusError: the vocabulary sizes of tokenizer and learner differ, weights are not finite, or the disk is full.
    """
    names = ("", *learner.auxiliary_models())
    weights = {Path(name, file) for name in names for file in weight_files(folder / name)}
    graph = map(Path, graphs.graph_files(folder))
    with beside(folder, {*weights, *graph, *module_files(folder), *FILES, *replaced}) as work:
        _write(work, folder, recipe, learner, tokenizer, notes, shard_bytes)
        write_usage(work, generation, task)


def load(folder: Path, dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Load a model folder, of genus, of others with a known architecture or of OpenCLIP, or a GGUF file.

    Tensors are read and converted one by one, so that peak memory is that of the model in `dtype` and of one tensor
    (one row of the layout's table).

    Args:
        folder: the model folder, or a file `.gguf` (see `gguf.py`).
        dtype: type that the weights are converted to; float32 by default, in which recipes train.

    Raises:
        GenusError: a file is missing, damaged or unknown; weights, configuration and tokenizer do not belong together.
    """
    read: Callable[..., LoadedModel]
    weights: Mapping[str, Tensor]
    if _is_gguf(folder):
        own, read = None, assemble
        config, weights, tokenizer = gguf.read(folder)
    elif not folder.is_dir():
        raise GenusError(f"{folder}: there is no such folder")
    elif graphs.is_graph(folder):
        recipe, tokenizer = recipe_of(folder), Tokenizer.load(folder)
        learner = graphs.read(folder, recipe)
        assert recipe is not None
        return LoadedModel(recipe, learner, tokenizer, *read_usage(folder))
    elif open_clip.is_open_clip(folder):
        return LoadedModel(*open_clip.read(folder, dtype))
    else:
        config = read_json(folder / "config.json")
        tokenizer, weights, own = Tokenizer.load(folder), read_weights(folder), recipe_of(folder)
        read = _rebuild if native.is_native(config) else assemble
        if own is None and read is assemble and (folder / CHOICES).exists():
            say(f"{folder / 'recipe.json'}: is missing, which genus writes beside {CHOICES}; the model is read by its "
                "config.json alone, and may be measured on other sequences than it was trained on")  # fmt: skip
    try:
        found = read(config, weights, tokenizer, own, dtype)
    except GenusError as error:
        raise GenusError(f"{folder}: {error}") from None
    if folder.is_dir():
        generation, task = read_usage(folder)
        found = replace(found, generation=generation, task=task)
        found = with_modules(folder, found, dtype) if read is assemble else found
    return with_auxiliary_models(folder, found, functools.partial(load, dtype=dtype), own is not None)


def load_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer of a folder, or of a GGUF file.

    Raises:
        GenusError: there is none that can be read.
    """
    return gguf.read(path)[2] if _is_gguf(path) else Tokenizer.load(path)


def assemble(
    config: Json,
    weights: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    own: Recipe | None = None,
    dtype: torch.dtype = torch.float32,
) -> LoadedModel:
    """Build a recipe and its learner from a Hugging Face configuration and its tensors.

    Args:
        config: the content of `config.json`.
        weights: tensors by Hugging Face names.
        tokenizer: its ids are the rows of the token embedding.
        own: the recipe that the weights were trained with, where it is known.
        dtype: type of the learner's weights.

    Raises:
        GenusError: something is missing, contradictory or unknown; the message does not name the folder.
    """
    layout = layout_of(config, weights)
    check_config(config, layout)
    tokenizer = _with_target(tokenizer, layout)
    tensors = clean(weights, layout)
    heads = heads_in(tensors, layout, config, () if own is None else [one.name for one in own.exported.objectives])
    tensors = serving(tensors, layout, heads)
    absent = [choice for choice, module in layout.optional.items() if not _has(tensors, layout, heads, module)]
    try:
        model, found = layout.parts(config, heads, absent)
    except LookupError as error:
        raise GenusError(f"config.json: {error.args[0]} has no counterpart here") from None
    for name, objective in found.items():
        if isinstance(objective, FineTuned):
            (weight,) = hf_names(f"heads.{name}.classes.weight", layout.table(heads))
            found[name] = objective.sized(len(tensors[weight]))
    if own is not None and model != own.model:
        path, ours, foreign = diff(own.model, model)[0]
        raise GenusError(f"recipe.json has model.{path} = {ours}, config.json {foreign}: they do not belong together")
    tokenizer = fitting_tokenizer(tokenizer, model, found.values() if own is None else own.exported.objectives)
    padded = padded_rows(config, tokenizer, _rows(tensors, layout, heads), own)
    try:
        started = own or _continued(layout, model, list(found.values()), tokenizer, config)
        recipe = replace(started, padded_vocab_size=padded)
    except ValueError as error:
        raise GenusError(str(error)) from None
    with skeleton():  # skips the initialization of weights that are loaded next
        learner = recipe.exported.learner()
    for name in [name for name in learner.heads if name not in heads]:
        del learner.heads[name]
    learner.load(to_ours(tensors, layout, learner, config, dtype))
    return LoadedModel(recipe, learner, tokenizer)


def _is_gguf(path: Path) -> bool:
    return path.suffix == gguf.SUFFIX and not path.is_dir()


def _write(
    work: Path, target: Path, recipe: Recipe, learner: Learner, tokenizer: Tokenizer, notes: str, shard_bytes: int
) -> None:
    """Write all files of a model into the folder `work`, which will replace `target`."""
    tokenizer = fitting_tokenizer(tokenizer, recipe.model, recipe.objectives)
    vocabulary = tokenizer.vocabulary
    rows = learner.network.vocabulary_rows or recipe.vocab_rows
    recipe = replace(recipe, tokens=tokenizer.tokens)
    check_rows(tokenizer, rows, recipe.vocab_rows)
    config, tensors, kept, segmented = _written(recipe, learner, vocabulary)
    config |= {"vocab_size": rows, "dtype": str(next(learner.parameters()).dtype).removeprefix("torch.")}
    if "id2label" in config:
        config["label2id"] = {label: int(number) for number, label in config["id2label"].items()}
    tokenizer.save(work, recipe.model.max_length, segments=segmented)
    parameters = write_weights(work, tensors, target, shard_bytes)
    if not native.is_native(config):
        kept = {*kept, *write_modules(work, recipe, learner)}
        for name, content in layout_of(config, ()).derived.files.items():
            write_json(work / name, content(config))
    write_json(work / "recipe.json", recipe.written())
    for name, one in learner.auxiliary_models().items():
        stages = tuple(stage.whole() for stage in recipe.stages)
        own = replace(recipe, name=f"{recipe.name}-{name}", model=one.model, objectives=one.objectives, stages=stages)
        (work / name).mkdir()
        _write(work / name, target / name, own, one.learner, tokenizer, "", shard_bytes)
        notes = f"Trained with a model that lies beside it, in `{name}/`.\n\n{notes}"
    page = card(recipe, config, parameters, {*kept, *as_model(learner)}, notes)
    (work / "README.md").write_text(page, encoding="utf-8")
    write_json(work / "config.json", config)


def fitting_tokenizer(tokenizer: Tokenizer, model: Model, objectives: Iterable[Objective]) -> Tokenizer:
    """Return the tokenizer, for texts that are given as words if an objective reads such.

    If one reads whole sequences of a causal model, their state is that of the last token.
    """
    tasks = [one for one in objectives if isinstance(one, FineTuned)]
    if any(one.of_words for one in tasks):
        return tokenizer.of_words()
    return tokenizer.read_by(causal=model.causal and any(one.pooled for one in tasks))


def _with_target(tokenizer: Tokenizer, layout: Layout) -> Tokenizer:
    """Return the tokenizer with the layout's template of what a decoder writes, where tokenizer files tell none."""
    own, usual = tokenizer.tokens.special_tokens, layout.template.tokens.special_tokens
    told = {step for step, _ in steps(usual.target or "")} - {"$A"}
    if own.target is not None or not told or not told <= {*own.names()}:
        return tokenizer
    specials = replace(own, target=usual.target, summary=usual.summary)
    return replace(tokenizer, tokens=replace(tokenizer.tokens, special_tokens=specials))


def _written(
    recipe: Recipe, learner: Learner, vocabulary: Vocabulary
) -> tuple[Json, Iterable[tuple[str, Tensor]], Collection[str], bool]:
    """Return configuration, tensors, the names of the heads that they include, and whether segments are an input."""
    fitting, ids = layout_for(recipe, learner.heads), vocabulary.roles
    if fitting is None:
        config = native.describe(recipe, learner) | {key: ids.get(role) for key, role in ROLES.items()}
        return config, native.tensors(learner), learner.heads.keys(), True
    layout, config = fitting
    named = {key: ids.get(role) for key, role in layout.roles.items()}
    if layout.derived.text is None:
        config |= named
    else:
        config[layout.derived.text] |= named | {"vocab_size": learner.network.token_embedding.num_embeddings}
    if layout.pad not in (None, pad := ids.get("pad")):
        raise GenusError(f"{layout.model_type} counts positions from the padding id {layout.pad}, not {pad}")
    segmented = layout.segmented and config.get("type_vocab_size", 2) > 1
    return config, to_foreign(learner, layout, config), layout.kept(learner.heads), segmented


def _rebuild(
    config: Json, weights: Mapping[str, Tensor], tokenizer: Tokenizer, own: Recipe | None, dtype: torch.dtype
) -> LoadedModel:
    """Build the learner of a native folder, which only genus reads."""
    if own is None:
        raise GenusError("recipe.json is missing, which says what this model is")
    check_rows(tokenizer, own.tokens.vocab_size)
    return LoadedModel(own, native.rebuild(config, weights, own, dtype), tokenizer)


def _has(tensors: Mapping[str, Tensor], layout: Layout, heads: Sequence[str], module: str) -> bool:
    """Return whether the tensors include the weights of a module, given by its name in genus."""
    return all(name in tensors for name in hf_names(f"{module}.weight", layout.table(heads)))


def _rows(tensors: Mapping[str, Tensor], layout: Layout, heads: Sequence[str]) -> int:
    """Return the number of rows of the token embedding."""
    ours = next(name for name in layout.tensors if name.endswith("embed.tokens"))
    (name,) = hf_names(f"{ours}.weight", layout.table(heads))
    if name not in tensors:
        raise GenusError(f"the weights lack {name}")
    return len(tensors[name])


def _continued(layout: Layout, model: Model, objectives: list[Objective], tokenizer: Tokenizer, config: Json) -> Recipe:
    """Return a recipe for a folder without one: its architecture, and the layout's settings for further training.

    Where positions have no end, stages are as long as the configuration says. Objectives of the layout that the
    folder's own require, such as a discriminator's generator, are included.
    """
    template = layout.template
    needs: frozenset[str] = frozenset().union(*(objective.requires for objective in objectives))
    objectives = [*(one for one in template.objectives if one.provides & needs), *objectives]
    longest, told = model.max_length, None if layout.positions is None else config.get(layout.positions)
    source = model.max_length_of("source")
    stages = tuple(
        replace(
            stage,
            max_length=told or min(stage.max_length, longest or stage.max_length),
            source_length=stage.source_length and min(stage.source_length, source or stage.source_length),
        ).fitted(model)
        for stage in template.stages
    )
    length = min(template.finetuning.max_length, longest or template.finetuning.max_length)
    return replace(
        template,
        tokens=tokenizer.tokens,
        model=model,
        examples=template.examples.for_model(model),
        objectives=tuple(objectives) or _fitting(layout, model),
        stages=stages,
        finetuning=replace(template.finetuning, max_length=length),
    )


def _fitting(layout: Layout, model: Model) -> tuple[Objective, ...]:
    """Return the layout's objectives for further training; if they do not suit the model, that of one of its heads."""
    heads = [(head.objective,) for head in layout.heads.values()]
    for objectives in (layout.template.objectives, *heads):
        try:
            for one in objectives:
                one.check(model)
        except ValueError:
            continue
        return objectives
    return layout.template.objectives


def recipe_of(folder: Path) -> Recipe | None:
    """Return the recipe in a folder's `recipe.json`, None where there is no such file."""
    path = folder / "recipe.json"
    if not path.exists():
        return None
    try:
        return Recipe.from_json(read_json(path))
    except UsageError as error:
        raise GenusError(f"{path}: {error}") from None
