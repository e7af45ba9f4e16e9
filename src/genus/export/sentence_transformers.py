"""The modules of sentence-transformers that lie beside a model: pooling, dense layer, normalization, prompts.

`modules.json` lists them, each with a folder of its own; `sentence_bert_config.json` has the longest text in tokens,
`config_sentence_transformers.json` the prompts. They are written so that every release since 2.0 reads them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from genus.errors import GenusError, say
from genus.export.weights import converted, read_weights
from genus.files import expecting, read_json, write_json, write_tensors
from genus.model.activation import Activation, Gelu, Relu, Silu, Tanh
from genus.objectives.pooling import First, Last, Mean, Pooling
from genus.objectives.supervised import FineTuned
from genus.objectives.supervised.embedding import Projection, Prompt, SentenceEmbedder

if TYPE_CHECKING:
    import torch

    from genus.export.folder import LoadedModel
    from genus.objectives import Learner
    from genus.part import Json
    from genus.recipe import Recipe

MODULES, LENGTH, PROMPTS = "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"
POOLING, DENSE = Path("1_Pooling/config.json"), ("config.json", "model.safetensors")
MODES: dict[str, Pooling] = {"cls": First(), "mean": Mean(), "lasttoken": Last()}
KEYS = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "lasttoken": "pooling_mode_lasttoken"}
OTHER_KEYS = ("pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens")
"""Keys of a pooling's configuration, those of poolings that cannot be read last; newer releases name one mode."""
IDENTITY = "torch.nn.modules.linear.Identity"
ACTIVATIONS: dict[str, Activation | None] = {
    "torch.nn.modules.activation.Tanh": Tanh(),
    "torch.nn.modules.activation.GELU": Gelu(),
    "torch.nn.modules.activation.ReLU": Relu(),
    "torch.nn.modules.activation.SiLU": Silu(),
    IDENTITY: None,
}


class NotReadError(Exception):
    """Modules that compute something else than an embedder here."""


def embedder_of(recipe: Recipe) -> SentenceEmbedder | None:
    """Return the recipe's embedder; None where it is of another task."""
    found = (one for one in recipe.objectives if isinstance(one, FineTuned) and one.embeds)
    return cast("SentenceEmbedder | None", next(found, None))


def module_files(folder: Path) -> set[Path]:
    """Return the files of modules in a model folder that genus wrote, relative to it."""
    named = [Path(MODULES), Path(LENGTH), Path(PROMPTS), POOLING, *(Path("2_Dense", one) for one in DENSE)]
    return {path for path in named if (folder / path).is_file()}


def write_modules(folder: Path, recipe: Recipe, learner: Learner) -> set[str]:
    """Write the modules of the recipe's embedder into a folder in the Hugging Face layout, where it has one.

    Returns:
        The name of its head, if it is written.
    """
    embedder = embedder_of(recipe)
    if embedder is None or embedder.name not in learner.heads:
        return set()
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    chosen, width = embedder.pooling or Mean(), recipe.model.width
    modes = {key: MODES[mode] == chosen for mode, key in KEYS.items()} | dict.fromkeys(OTHER_KEYS, False)
    (folder / POOLING).parent.mkdir()
    write_json(folder / POOLING, {"word_embedding_dimension": width, **modes, "include_prompt": True})
    if embedder.projection is not None:
        modules.append(("2_Dense", "Dense"))
        _write_dense(folder / "2_Dense", width, embedder.projection, learner.heads[embedder.name].state_dict())
    if embedder.normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
    listed = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(modules)
    ]
    write_json(folder / MODULES, listed)
    write_json(folder / LENGTH, {"max_seq_length": recipe.finetuning.max_length, "do_lower_case": False})
    told = {"prompts": embedder.named_prompts, "default_prompt_name": embedder.default_prompt}
    write_json(folder / PROMPTS, {"__version__": {}, **told, "similarity_fn_name": "cosine"})
    return {embedder.name}


def _write_dense(folder: Path, width: int, choice: Projection, tensors: dict[str, torch.Tensor]) -> None:
    folder.mkdir()
    names = {str(value): name for name, value in ACTIVATIONS.items()}
    sizes = {"in_features": width, "out_features": choice.size, "bias": choice.bias}
    write_json(folder / DENSE[0], {**sizes, "activation_function": names[str(choice.activation)]})
    named = {name.replace("projection.0.", "linear."): tensor.cpu().contiguous() for name, tensor in tensors.items()}
    write_tensors(folder / DENSE[1], named)


def with_modules(folder: Path, found: LoadedModel, dtype: torch.dtype) -> LoadedModel:
    """Return a loaded model with the embedder that its folder's modules describe; the model itself without modules.

    Raises:
        GenusError: they are damaged, or do not belong to the recipe beside them.
    """
    if not (folder / MODULES).is_file():
        return found
    known = embedder_of(found.recipe)
    try:
        with expecting(folder / MODULES, "take another copy"):
            embedder, dense = _read(folder)
    except NotReadError as error:
        say(f"{folder / MODULES}: {error}, which is not read; the model is read without its pooling")
        return found
    if known is None:
        longest = _longest(folder, found)
        settings = replace(found.recipe.finetuning, max_length=longest)
        recipe = replace(found.recipe, objectives=(embedder,), finetuning=settings)
        found = replace(found, recipe=recipe)
        known = embedder
    same = (known.pooling or Mean(), bool(known.normalize), known.projection)
    if same != (embedder.pooling, embedder.normalize, embedder.projection):
        raise GenusError(f"{folder}: recipe.json and {MODULES} have different poolings, or layers after them: they do "
                         "not belong together")  # fmt: skip
    head = known.build(found.recipe.model, 0).to(dtype)
    if dense is not None:
        weights = read_weights(dense)
        taken = {
            f"projection.0.{name}": converted(weights[f"linear.{name}"], dtype, name) for name in _parameters(known)
        }
        head.load_state_dict(taken)
    found.learner.heads[known.name] = head
    return found


def _parameters(embedder: SentenceEmbedder) -> list[str]:
    assert embedder.projection is not None
    return ["weight", *(["bias"] if embedder.projection.bias else [])]


def _longest(folder: Path, found: LoadedModel) -> int:
    """Return the longest text in tokens: as the modules say, else as the tokenizer, at most as many as positions."""
    told: list[Any] = [found.recipe.model.max_length]
    for name, key in ((LENGTH, "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        if (folder / name).is_file():
            told.append(read_json(folder / name).get(key))
            if told[-1]:
                break
    return min((int(one) for one in told if one), default=found.recipe.finetuning.max_length)


def _read(folder: Path) -> tuple[SentenceEmbedder, Path | None]:
    """Return the embedder of a folder's modules, and the folder of its dense layer, if it has one."""
    import json

    modules = json.loads((folder / MODULES).read_text(encoding="utf-8"))
    kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    rest = kinds[2:]
    if kinds[:2] != ["Transformer", "Pooling"] or modules[0]["path"] or rest not in (
        [], ["Normalize"], ["Dense"], ["Dense", "Normalize"],
    ):  # fmt: skip
        raise NotReadError(f"has the modules {', '.join(kinds)}")
    at = {kind: folder / str(module["path"]) for kind, module in zip(kinds, modules, strict=True)}
    prompts, default = _read_prompts(folder)
    embedder = SentenceEmbedder(
        pooling=_pooling(read_json(at["Pooling"] / "config.json")),
        normalize="Normalize" in rest,
        projection=_projection(read_json(at["Dense"] / "config.json")) if "Dense" in at else None,
        prompts=prompts,
        default_prompt=default,
    )
    return embedder, at.get("Dense")


def _pooling(config: Json) -> Pooling:
    """Return the pooling of a module's configuration."""
    mode = config.get("pooling_mode")
    if mode is None:
        several = [mode for mode, key in KEYS.items() if config.get(key)] + [k for k in OTHER_KEYS if config.get(k)]
        mode = several[0] if len(several) == 1 else several
    if not isinstance(mode, str) or mode not in MODES:
        raise NotReadError(f"pools by {mode}")
    return MODES[mode]


def _projection(config: Json) -> Projection:
    """Return the dense layer of a module's configuration."""
    name = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if name not in ACTIVATIONS or config.get("use_residual"):
        raise NotReadError(f"has a dense layer with {name if name not in ACTIVATIONS else 'a residual connection'}")
    return Projection(size=config["out_features"], activation=ACTIVATIONS[name], bias=bool(config.get("bias", True)))


def _read_prompts(folder: Path) -> tuple[tuple[Prompt, ...] | None, str | None]:
    """Return the prompts of a folder, none where they are all empty, and the name of the usual one."""
    config = read_json(folder / PROMPTS) if (folder / PROMPTS).is_file() else {}
    named = {name: text for name, text in (config.get("prompts") or {}).items() if text}
    default = config.get("default_prompt_name")
    made = tuple(Prompt(name=name, text=text) for name, text in named.items())
    return made or None, default if default in named else None
