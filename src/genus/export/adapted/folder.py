"""Saving and loading of adapter folders: `adapter_config.json` and `adapter_model.safetensors`, as peft has them.

The base is not in the folder. It is found by the path in the configuration, or given, and recognized by its
fingerprint.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import safe_open

from genus.adapt import trained
from genus.errors import GenusError, UsageError
from genus.export import folder as models
from genus.export.adapted import peft
from genus.export.adapted.architecture import TASKS, Architecture
from genus.export.folder import LoadedModel
from genus.export.layouts import layout_of
from genus.export.native import is_native
from genus.export.translate import clean, shorten
from genus.export.usage import FILES as USAGE
from genus.export.usage import read_usage, write_usage
from genus.export.weights import converted, fingerprint, read_tensors, read_weights
from genus.files import beside, read_json, write_json, write_tensors
from genus.model.skeleton import skeleton
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from genus.adapt import Adaptation
    from genus.objectives import Learner
    from genus.part import Json
    from genus.recipe import Recipe

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
OWN = "GENUS_"
"""Prefix of the `peft_type` of adaptations that peft does not know."""
BASE = "base_sha256"
"""Key in the metadata of the weights: the fingerprint of the base's network."""
FILES = (Path("README.md"), Path("recipe.json"), *USAGE)
"""What lies beside configuration and weights."""


@dataclass(frozen=True)
class Base:
    """The model that an adapter was trained on."""

    path: Path | None
    """Its folder; None: unknown, and given wherever the adapter is read."""
    fingerprint: str
    """Hash of its network's weights."""


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter, and no model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").exists()


def save(
    folder: Path,
    recipe: Recipe,
    learner: Learner,
    base: Base,
    notes: str = "",
    *,
    generation: Json | None = None,
    task: Json | None = None,
) -> None:
    """Save what was trained of an adapted learner. The learner is settled in place (`Adaptation.settle`).

    Args:
        folder: where to write; an older adapter there is replaced.
        recipe: the recipe of fine-tuning, with its adaptation.
        learner: the adapted learner.
        base: the model that it was made of.
        notes: Markdown for the model card.
        generation: how the model writes texts where nothing else is said.
        task: the task that it was fine-tuned for.

    Raises:
        GenusError: weights are not finite, or the disk is full.
    """
    adaptation = recipe.finetuning.adaptation
    assert adaptation is not None, "nothing is adapted"
    adaptation.settle(learner)
    recipe = replace(recipe, finetuning=replace(recipe.finetuning, adaptation=adaptation.settled))
    config, tensors = _written(adaptation.settled, recipe, learner)
    config |= {"base_model_name_or_path": base.path and str(base.path.resolve()), "inference_mode": True}
    tensors = {name: converted(tensor.cpu(), tensor.dtype, name) for name, tensor in tensors.items()}
    with beside(folder, {Path(CONFIG), Path(WEIGHTS), *FILES}) as work:
        write_tensors(work / WEIGHTS, tensors, {BASE: base.fingerprint})
        write_json(work / "recipe.json", recipe.written())
        write_usage(work, generation, task)
        count = sum(tensor.numel() for tensor in tensors.values())
        (work / "README.md").write_text(_card(recipe, config, count, notes), encoding="utf-8")
        write_json(work / CONFIG, config)


def base_of(folder: Path, base: Path | None = None) -> Path | None:
    """Return the folder of an adapter's base: `base`, or else where the adapter says; None of what is no adapter.

    Raises:
        GenusError: the adapter says nothing, or its base is not there.
    """
    return (base or _named(folder, read_json(folder / CONFIG))) if is_adapter(folder) else None


def load(
    folder: Path,
    base: Path | None = None,
    dtype: torch.dtype = torch.float32,
    source: LoadedModel | None = None,
) -> LoadedModel:
    """Load a model folder, or an adapter folder on its base, whose weights it then shares.

    Args:
        folder: a model folder, or an adapter of genus or of peft.
        base: the folder of an adapter's base; None: where its configuration says.
        dtype: type of the weights, float32 for adapters.
        source: the base as it was loaded before, whose weights an adapter of genus then shares.

    Raises:
        GenusError: a file is missing or damaged, or the adapter is another base's.
        UsageError: a base is given for what is no adapter.
    """
    if not is_adapter(folder):
        if base is not None:
            raise UsageError(f"--base: {folder} is no adapter, and needs none")
        return models.load(folder, dtype)
    config = read_json(folder / CONFIG)
    where = base or _named(folder, config)
    if (folder / "recipe.json").exists():
        return load_adapter(folder, source or models.load(where), where)
    try:
        return _of_peft(folder, config, where)
    except UsageError as error:
        raise GenusError(f"{folder}: {error}") from None


def load_adapter(folder: Path, source: LoadedModel, where: object = "the base") -> LoadedModel:
    """Load an adapter of genus on a base that is there, whose weights it shares: several adapters take little memory.

    Args:
        folder: the adapter folder.
        source: the base.
        where: what error messages call it.

    Raises:
        GenusError: a file is missing or damaged, or the adapter is another base's.
    """
    recipe = models.recipe_of(folder)
    if recipe is None or (adaptation := recipe.finetuning.adaptation) is None:
        raise GenusError(f"{folder / 'recipe.json'}: is missing, or tells of no adaptation")
    _check_base(folder, source, where)
    with skeleton():  # weights are loaded next
        learner = recipe.exported.learner()
    config, tensors = read_json(folder / CONFIG), read_tensors(folder / WEIGHTS)
    found = _read(config, tensors, recipe, learner, adaptation)
    kept = tuple(f"heads.{one.name}." for one in recipe.objectives if one.token_losses)
    own, state = learner.state_dict(), source.learner.state_dict()
    given = {name: state[name] for name in own if name in state and name.startswith(("network.", *kept))}
    try:
        adaptation.apply(learner, given.keys())
    except UsageError as error:
        raise GenusError(f"{folder}: {error}") from None
    for name, parameter in learner.named_parameters():  # also layers that fine-tuning drew anew
        parameter.requires_grad_(parameter.requires_grad or name in found)
    _fill(folder, learner, given, found)
    tokenizer = models.fitting_tokenizer(source.tokenizer, recipe.model, recipe.objectives)
    generation, task = read_usage(folder)
    return LoadedModel(recipe, learner, tokenizer, generation or source.generation, task or source.task)


def merged(model: LoadedModel) -> LoadedModel:
    """Return an adapted model as a plain one, with what was trained folded into weights of its own.

    Raises:
        UsageError: the model is not adapted, or its adaptation cannot be folded in.
    """
    settings = model.recipe.finetuning
    if settings.adaptation is None:
        raise UsageError("--merge: this model is no adapter, and whole as it is")
    for parameter in model.learner.parameters():
        parameter.data = parameter.data.clone()  # frozen ones are the base's
    settings.adaptation.merge(model.learner)
    model.learner.requires_grad_(True)
    return replace(model, recipe=replace(model.recipe, finetuning=replace(settings, adaptation=None)))


def _named(folder: Path, config: Json) -> Path:
    """Return the folder of the base that a configuration names."""
    named = config.get("base_model_name_or_path")
    found = [path for path in (Path(str(named)), folder / str(named)) if named and path.is_dir()]
    if not found:
        told = f"its base {named!r} is not there" if named else "it does not say what its base is"
        raise GenusError(f"{folder}: {told}; name the folder of the base with --base")
    return found[0]


def _check_base(folder: Path, source: LoadedModel, where: object) -> None:
    """Refuse a base with other weights than those that an adapter was trained on."""
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            known = (file.metadata() or {}).get(BASE)
    except Exception as error:  # the library raises errors of its own
        raise GenusError(f"{folder / WEIGHTS}: cannot be read: {str(error).splitlines()[0]}") from None
    if known is not None and known != fingerprint(source.learner.network.state_dict()):
        raise GenusError(f"{folder}: was trained on another base than {where}, whose weights differ; name its own "
                         "with --base")  # fmt: skip


def _written(adaptation: Adaptation, recipe: Recipe, learner: Learner) -> tuple[Json, dict[str, Tensor]]:
    """Return the configuration and the tensors of an adapter, in peft's terms where it has such."""
    tensors, where = trained(learner), Architecture.of(recipe, learner)
    found = None if where is None else peft.write(adaptation, learner, where)
    if where is None or found is None:
        return {"peft_type": f"{OWN}{type(adaptation).__name__.upper()}", "task_type": where and where.task}, tensors
    config, added = found
    plain = where.theirs({name: tensors[name] for name in tensors if _is_plain(name)})
    prefix = peft.IN_FRONT if peft.in_front(config) else peft.WRAPPED
    config |= {"task_type": where.task, "modules_to_save": where.modules(plain) or None}
    return config, added | {f"{prefix}{name}": tensor for name, tensor in plain.items()}


ADDED = (".lora.", ".ia3.", ".adapter.", ".prefix.", ".prompt.")
"""What the names of tensors have that adaptations add."""


def _is_plain(name: str) -> bool:
    """Return whether a tensor is one of the network's or a head's own."""
    return not any(part in name for part in ADDED)


def _read(
    config: Json, tensors: dict[str, Tensor], recipe: Recipe, learner: Learner, adaptation: Adaptation
) -> dict[str, Tensor]:
    """Return the tensors of an adapter by the names of genus."""
    if str(config.get("peft_type")).startswith(OWN):
        return tensors
    where = Architecture.of(recipe, learner)
    if where is None:
        raise GenusError(f"{CONFIG} is of a Hugging Face class, recipe.json of none: they do not belong together")
    added, plain = _parted(config, tensors)
    _, found = peft.read(config, added, learner, where, adaptation)
    return cast("dict[str, Tensor]", found) | where.ours(learner.tensors(), plain)


def _parted(config: Json, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return what peft added, and the base's own tensors by Hugging Face's names."""
    marks = (".lora_", ".ia3_l")
    added = {name: one for name, one in tensors.items() if name == peft.PROMPT or any(mark in name for mark in marks)}
    prefix = peft.IN_FRONT if peft.in_front(config) else peft.WRAPPED
    plain = {name.removeprefix(prefix): one for name, one in tensors.items() if name not in added}
    return added, plain


def _fill(folder: Path, learner: Learner, given: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Load the base's tensors, and what an adapter holds, into an adapted learner on the device `meta`."""
    expected = {name: place.shape for name, place in trained(learner).items()}
    frozen = {name: place.shape for name, place in learner.tensors().items() if name not in expected}
    problems = {
        "lacks": expected.keys() - found.keys() | frozen.keys() - given.keys(),
        "has no place for": found.keys() - expected.keys(),
        "has another shape of": {
            name
            for shapes, tensors in ((expected, found), (frozen, given))
            for name, shape in shapes.items()
            if name in tensors and tensors[name].shape != shape
        },
    }
    for problem, names in problems.items():
        if names:
            raise GenusError(f"{folder}: this adapter and its base do not belong together: one of them {problem} "
                             f"{shorten(sorted(names))}")  # fmt: skip
    learner.load({**given, **{name: tensor.to(torch.float32) for name, tensor in found.items()}})


def _of_peft(folder: Path, config: Json, where: Path) -> LoadedModel:
    """Load an adapter that peft wrote on its base: a Hugging Face folder, whose head may be the adapter's."""
    settings = read_json(where / "config.json")
    if is_native(settings):
        raise GenusError(f"{folder}: is peft's, and {where} is of no Hugging Face class, which peft could adapt")
    added, plain = _parted(config, read_tensors(folder / WEIGHTS))
    weights: dict[str, Any] = dict(read_weights(where))
    layout = layout_of(settings, weights)
    if heads := {name for name in plain if not (layout.prefix and name.startswith(layout.prefix))}:
        cleaned = clean(weights, layout)
        weights = {name: cleaned[name] for name in cleaned if name.startswith(layout.prefix) and name not in heads}
        ends = [end for end, task in TASKS.items() if task == config.get("task_type")]
        stem = layout.architectures[frozenset()].removesuffix("Model")
        settings = settings | {"architectures": [f"{stem}{end}" for end in ends[:1]]}
        settings |= {"id2label": _labels(settings, plain)}
    own = None if heads else models.recipe_of(where)
    model = models.assemble(settings, {**weights, **plain}, Tokenizer.load(where), own)
    found = Architecture(layout, settings, tuple(model.learner.heads))
    adaptation, tensors = peft.read(config, added, model.learner, found, None)
    adaptation.apply(model.learner, model.learner.state_dict().keys())
    missing = trained(model.learner).keys() ^ tensors.keys()
    if missing:
        raise GenusError(f"{folder}: the adapter and its base do not fit in {shorten(sorted(missing))}")
    try:
        model.learner.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise GenusError(
            f"{folder}: the adapter does not fit its base: {str(error).splitlines()[-1].strip()}"
        ) from None
    finetuning = replace(model.recipe.finetuning, adaptation=adaptation)
    return replace(model, recipe=replace(model.recipe, finetuning=finetuning))


def _labels(settings: Json, plain: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the names of the classes of a head, which peft does not keep: those of the base, or numbers."""
    outputs = len([tensor for name, tensor in plain.items() if name.endswith(".weight")][-1])
    known = settings.get("id2label") or {}
    return known if len(known) == outputs else {str(number): f"LABEL_{number}" for number in range(outputs)}


def _card(recipe: Recipe, config: Json, count: int, notes: str) -> str:
    """Return the card of an adapter."""
    library = "genus" if config["peft_type"].startswith(OWN) else "peft"
    adaptation = json.dumps(recipe.finetuning.adaptation and recipe.finetuning.adaptation.to_json())
    base = config["base_model_name_or_path"]
    return f"""---
library_name: {library}
base_model: {json.dumps(base)}
tags:
- genus
---

# {recipe.name}, adapted

{count:,} numbers that were trained on a frozen base, made with genus: `{adaptation}`.

{notes.strip()}
"""
