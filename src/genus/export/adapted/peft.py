"""Adapters in peft's own terms: its configuration, and its names of tensors, for the adaptations that it knows.

An adaptation that peft does not know, or cannot have in this architecture, has a `peft_type` of genus, and the names of
genus for its tensors.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch

from genus.adapt.ia3 import IA3
from genus.adapt.lora import LoRA
from genus.adapt.prefix_tuning import PrefixTuning
from genus.adapt.prompt_tuning import PromptTuning
from genus.errors import GenusError
from genus.export.adapted.updates import Update, keeps_order, rows_of, to_ours, to_theirs, transposes
from genus.export.layouts.maps import place
from genus.export.translate import shorten
from genus.model.roles import linear_maps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from genus.adapt import Adaptation
    from genus.export.adapted.architecture import Architecture
    from genus.objectives import Learner
    from genus.part import Json

Tensors = dict[str, "Tensor"]
Written = tuple["Json", Tensors]
WRAPPED, IN_FRONT = "base_model.model.", "base_model."
"""Prefixes of the names of a base's tensors, where its modules are wrapped, and where something stands before it."""
PROMPT = "prompt_embeddings"
"""Name of the tensor of vectors, or of keys and values."""
SIDES = 2
"""Of an encoder-decoder, peft lays the keys and values of all layers end to end twice, and gives each layer of the
decoder four tensors in turn: of the first two are its keys and values, the next two (of cross-attention) are not read.
So layer i has pair 2 i, and here as many pairs are written as that takes, every second one of zeros."""


def write(adaptation: Adaptation, learner: Learner, where: Architecture) -> Written | None:
    """Return configuration and tensors of what an adaptation added, in peft's terms; None where it has none for it."""
    for kind, (writer, _) in KINDS.items():
        if type(adaptation).__name__ == kind:
            return writer(adaptation, learner, where)
    return None


def read(config: Json, tensors: Tensors, learner: Learner, where: Architecture, known: Adaptation | None) -> Any:
    """Return the adaptation of a folder that peft wrote, and its tensors by the names of genus.

    Args:
        config: the content of `adapter_config.json`.
        tensors: what peft added, without the base's own tensors; all are to be used.
        learner: the base's learner, not adapted.
        where: its architecture.
        known: the adaptation, where the folder tells it.

    Raises:
        GenusError: peft's kind cannot be read, or its tensors do not fit.
    """
    kinds = {kind.upper().replace("TUNING", "_TUNING"): reader for kind, (_, reader) in KINDS.items()}
    kind = str(config.get("peft_type"))
    if kind not in kinds:
        raise GenusError(f"adapter_config.json: peft_type {kind!r} cannot be read; known are {', '.join(kinds)}")
    return kinds[kind](config, tensors, learner, where, known)


def in_front(config: Json) -> bool:
    """Return whether an adapter stands before the base's layers, and does not wrap them."""
    return str(config.get("peft_type")) in ("PREFIX_TUNING", "PROMPT_TUNING")


def write_lora(adaptation: LoRA, learner: Learner, where: Architecture) -> Written | None:
    """Return LoRA's configuration and tensors; maps that are one in Hugging Face's class share the ranks of all."""
    every = {f"network.{name}": module for name, _, module in linear_maps(learner.network)}
    own = {
        name: Update(module.get_parameter("lora.down.weight"), module.get_parameter("lora.up.weight"))
        for name, module in adaptation.maps(learner)
    }
    rows = rows_of(own, where.table)
    if rows is None:
        return None
    outputs, tensors, ranks = {name: module.out_features for name, module in every.items()}, {}, {}
    for row in rows.values():
        for name, update in to_theirs(row, own, outputs, where.config).items():
            ranks[name] = len(update.down)
            tensors[f"{WRAPPED}{name}.lora_A.weight"] = update.down
            tensors[f"{WRAPPED}{name}.lora_B.weight"] = update.up
    rank = min(ranks.values())
    other = {name: number for name, number in ranks.items() if number != rank}

    def alpha(number: int) -> float:
        return adaptation.scale * (math.sqrt(number) if adaptation.stabilized else number)

    config = {
        "peft_type": "LORA", "r": rank, "lora_alpha": alpha(rank), "lora_dropout": adaptation.dropout,
        "use_rslora": adaptation.stabilized, "bias": "none", "target_modules": sorted(ranks), "rank_pattern": other,
        "alpha_pattern": {name: alpha(number) for name, number in other.items()},
        "fan_in_fan_out": any(transposes(row.row.op(where.config)) for row in rows.values()),
    }  # fmt: skip
    return config, tensors


UNKNOWN = {"use_dora": False, "bias": "none", "lora_bias": False, "use_qalora": False, "trainable_token_indices": None}
"""Choices of peft's LoRA that change what it computes, with the only values that are read."""


def read_lora(
    config: Json, tensors: Tensors, learner: Learner, where: Architecture, known: LoRA | None
) -> tuple[LoRA, Tensors]:
    """Return LoRA and its tensors; without a known one, with as high a rank as any map has, and 0 where one has none.

    Raises:
        GenusError: a choice that cannot be read, or an update of what is no linear map of a layer.
    """
    for key, value in UNKNOWN.items():
        if config.get(key, value) not in (value, None):
            raise GenusError(f"adapter_config.json: {key} = {config[key]!r} cannot be read, only {value!r}")
    modules = {name.rpartition(".lora_")[0] for name in tensors if ".lora_" in name}
    theirs = {
        name.removeprefix(WRAPPED): Update(
            tensors.pop(f"{name}.lora_A.weight"),
            tensors.pop(f"{name}.lora_B.weight") * _scale(config, name.removeprefix(WRAPPED)),
        )
        for name in modules
    }
    roles = {f"network.{name}": role for name, role, _ in linear_maps(learner.network)}
    own: dict[str, Update] = {}
    left = set(theirs)
    for name in roles:
        row = place(f"{name}.weight", where.table)
        there = [one.removesuffix(".weight") for one in row.theirs]
        if name not in own and set(there) <= theirs.keys():
            found, left = to_ours(row, theirs, where.config), left - set(there)
            chosen = [one for one in found if known is None or roles[one] in known.targets]
            for one in chosen:
                whole = len(found[one].down) == (known.rank if known else 0)
                own[one] = found[one] if known is None or whole else found[one].at(chosen.index(one), len(chosen))
    if left or tensors:
        raise GenusError(
            f"the adapter changes what is no linear map of a layer here: {shorten(sorted(left | {*tensors}))}"
        )
    found_roles = tuple(dict.fromkeys(roles[name] for name in own))
    most = max((len(update.down) for update in own.values()), default=1)
    adaptation = known or LoRA(
        rank=most, alpha=float(most), dropout=config.get("lora_dropout", 0.0), targets=found_roles
    )
    return adaptation, _laid(adaptation, own, learner)


def _scale(config: Json, module: str) -> float:
    """Return the factor on the update of a module; patterns are matched at the end of its name, as peft does."""

    def of(key: str, default: float) -> float:
        found = [
            value for end, value in (config.get(f"{key}_pattern") or {}).items() if f".{module}".endswith(f".{end}")
        ]
        return float(found[0] if found else default)

    rank, alpha = of("rank", config["r"]), of("alpha", config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _laid(adaptation: LoRA, own: Mapping[str, Update], learner: Learner) -> Tensors:
    """Return the tensors of updates by the names of genus; maps without one get 0."""
    found = {}
    for name, module in adaptation.maps(learner):
        update = own.get(name) or Update(
            torch.zeros(adaptation.rank, module.in_features), torch.zeros(module.out_features, adaptation.rank)
        )
        full = update.ranked(adaptation.rank)
        found[f"{name}.lora.down.weight"] = full.down
        found[f"{name}.lora.up.weight"] = full.up / adaptation.scale
    return found


def write_ia3(adaptation: IA3, learner: Learner, where: Architecture) -> Written | None:
    """Return the configuration and tensors of (IA)³; None where a map is one with others in Hugging Face's class."""
    of_input = {name: before for name, _, before in adaptation.maps(learner)}
    rows = rows_of(of_input, where.table)
    if rows is None or any(
        len(row.ours) > 1 or len(row.theirs) > 1 or not keeps_order(row.row.op(where.config)) for row in rows.values()
    ):
        return None
    factors = {name: module.get_parameter("ia3.factors") for name, module, _ in adaptation.maps(learner)}
    tensors, inputs = {}, []
    for (theirs,), row in rows.items():
        name, own = theirs.removesuffix(".weight"), row.ours[0].removesuffix(".weight")
        tensors[f"{WRAPPED}{name}.ia3_l"] = factors[own][None] if of_input[own] else factors[own][:, None]
        inputs += [name] * of_input[own]
    every = sorted(theirs.removesuffix(".weight") for (theirs,) in rows)
    wide = any(transposes(row.row.op(where.config)) for row in rows.values())
    return {
        "peft_type": "IA3", "target_modules": every, "feedforward_modules": sorted(inputs), "fan_in_fan_out": wide,
    }, tensors  # fmt: skip


def read_ia3(
    config: Json, tensors: Tensors, learner: Learner, where: Architecture, known: IA3 | None
) -> tuple[IA3, Tensors]:
    """Return (IA)³ and its tensors.

    Raises:
        GenusError: it has factors of other maps than keys, values and the last of feed-forward networks.
    """
    found, adaptation = {}, known or IA3()
    for name, module, of_input in adaptation.maps(learner):
        (theirs,) = place(f"{name}.weight", where.table).theirs
        size = module.in_features if of_input else module.out_features
        factors = tensors.pop(f"{WRAPPED}{theirs.removesuffix('.weight')}.ia3_l", torch.ones(size))
        found[f"{name}.ia3.factors"] = factors.flatten()
    if tensors:
        raise GenusError(f"the adapter has factors of what has none here: {shorten(sorted(tensors))}")
    return adaptation, found


def _sizes(host: Any) -> Json:
    """Return peft's sizes of a network's keys: those of one head times the number of heads, and both."""
    shapes = host.key_shapes()
    heads, size = shapes[0] or (1, host.hidden)
    return {"num_layers": len(shapes), "num_attention_heads": heads, "token_dim": heads * size}


def write_prefix(adaptation: PrefixTuning, learner: Learner, where: Architecture) -> Written | None:
    """Return the configuration and keys and values of a prefix; None if layers differ, or keys have another order."""
    host: Any = learner.network.prefix_host()
    keys = [f"network.{name}" for name, role, _ in linear_maps(learner.network) if role == "key"]
    rows = rows_of(keys, where.table)
    if rows is None or len({*host.key_shapes()}) > 1:
        return None
    if not all(keeps_order(row.row.op(where.config)) for row in rows.values()):
        return None
    table, sizes = host.prefix.flat().detach(), _sizes(host)
    config = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": adaptation.length, "prefix_projection": False}
    config |= {"num_transformer_submodules": 1, **sizes, "encoder_hidden_size": sizes["token_dim"]}
    if host is not learner.network:
        pairs = torch.unflatten(table, 1, (len(host.key_shapes()), -1))
        table = torch.stack([pairs, torch.zeros_like(pairs)], 2).flatten(1)
        config |= {"num_transformer_submodules": 2, "num_layers": SIDES * sizes["num_layers"]}
    return config, {PROMPT: table}


def read_prefix(
    config: Json, tensors: Tensors, learner: Learner, where: Architecture, known: PrefixTuning | None
) -> tuple[PrefixTuning, Tensors]:
    """Return a prefix of keys and values and their tensor."""
    host: Any = learner.network.prefix_host()
    name = next(name for name, module in learner.named_modules() if module is host)
    table = tensors[PROMPT]
    if host is not learner.network:
        pairs = torch.unflatten(table, 1, (int(config["num_layers"]), -1))
        table = torch.cat([pairs, pairs], 1)[:, ::SIDES][:, : len(host.key_shapes())].flatten(1)
    adaptation = replace(known, projection=None) if known else PrefixTuning(length=len(table), projection=None)
    return adaptation, {f"{name}.prefix.table": table}


def write_prompt(adaptation: PromptTuning, learner: Learner, where: Architecture) -> Written | None:
    """Return the configuration and the vectors of a prompt."""
    host: Any = learner.network.prompt_host()
    vectors = host.embed.prompt.vectors.detach()
    config = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": adaptation.length, "num_transformer_submodules": 1}
    config |= {"num_layers": host.choice.layers, "num_attention_heads": 1, "token_dim": vectors.shape[1]}
    return config | {"prompt_tuning_init": "RANDOM"}, {PROMPT: vectors}


def read_prompt(
    config: Json, tensors: Tensors, learner: Learner, where: Architecture, known: PromptTuning | None
) -> tuple[PromptTuning, Tensors]:
    """Return a prompt and its vectors; of those for two sides, the encoder's come first."""
    host: Any = learner.network.prompt_host()
    name = next(name for name, module in learner.named_modules() if module is host)
    length = int(config["num_virtual_tokens"])
    return known or PromptTuning(length=length), {f"{name}.embed.prompt.vectors": tensors[PROMPT][:length]}


KINDS: dict[str, tuple[Callable[..., Written | None], Callable[..., tuple[Adaptation, Tensors]]]] = {
    LoRA.__name__: (cast("Any", write_lora), cast("Any", read_lora)),
    IA3.__name__: (cast("Any", write_ia3), cast("Any", read_ia3)),
    PrefixTuning.__name__: (cast("Any", write_prefix), cast("Any", read_prefix)),
    PromptTuning.__name__: (cast("Any", write_prompt), cast("Any", read_prompt)),
}
"""What writes and reads each kind of adaptation that peft knows."""
