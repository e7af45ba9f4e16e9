"""Tensors from our names to a foreign layout's, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from genus.errors import GenusError
from genus.export.layouts import theirs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from torch import Tensor

    from genus.export.layouts import Layout, Table
    from genus.objectives import Learner
    from genus.part import Json

LEGACY = {".gamma": ".weight", ".beta": ".bias"}
"""How norms were called in the first releases."""
BUFFERS = (".position_ids", ".token_type_ids", "mask_value_float16", "mask_value_float32")
"""What old files hold besides parameters."""


def to_foreign(learner: Learner, layout: Layout) -> dict[str, Tensor]:
    """Return the learner's tensors by their foreign names, on the CPU; tied weights once.

    Heads that the layout has no place for stay out.
    """
    table = layout.table(learner.heads)
    out = tuple(f"heads.{head}." for head in learner.heads.keys() - layout.kept(learner.heads))
    tensors = {}
    for name, tensor in learner.tensors().items():
        if name.startswith(out):
            continue
        names = theirs(name, table)
        for foreign, part in zip(names, tensor.detach().cpu().chunk(len(names)), strict=True):
            tensors[foreign] = layout.turn(foreign, part).contiguous()
    return tensors


def clean(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Return a file's tensors under today's names, in float32: old names, a missing prefix and tied copies put right.

    Raises:
        GenusError: a weight that is tied here differs from its copy.
    """
    found = {}
    bare = not any(name.startswith(layout.prefix) for name in tensors)
    network = {names[0].removeprefix(layout.prefix).split(".")[0] for names in layout.tensors.values()}
    for name, tensor in tensors.items():
        for old, new in LEGACY.items():
            name = name.removesuffix(old) + new if name.endswith(old) else name
        if not name.endswith(BUFFERS):
            prefix = layout.prefix if bare and name.split(".")[0] in network else ""
            found[prefix + name] = tensor.float()
    for copy, original in layout.tied.items():
        if copy in found and not torch.equal(found[copy], found.setdefault(original, found[copy])):
            raise GenusError(f"{copy} differs from {original}; here the two are one")
        found.pop(copy, None)
    return found


def heads_in(tensors: Mapping[str, Tensor], layout: Layout, config: Json) -> list[str]:
    """Return the names of the heads of which there are tensors.

    What one linear map is for, where several heads could have it, is told by the configuration: by the class that it
    names, and its `problem_type`. Where it names none, words are tagged without a pooler, and one output is a number.

    Args:
        tensors: cleaned tensors.
        layout: their layout.
        config: their configuration.
    """
    names = []
    for head, choice in layout.heads.items():
        rows = [row for ours, rows in choice.tensors.items() if ours.startswith("heads.") for row in rows]
        if all(any(name == row or name.startswith(f"{row}.") for name in tensors) for row in rows):
            names.append(head)
    if {"classify", "tag"} <= set(names):
        (pooler,) = theirs("network.pooler.0.weight", layout.table(["classify"]))
        tagging = layout.architectures[frozenset({"tag"})]
        words = tagging in config["architectures"] if config.get("architectures") else pooler not in tensors
        names = [name for name in names if name not in ({"classify", "regress"} if words else {"tag"})]
    if {"classify", "regress"} <= set(names):
        (weight,) = theirs("heads.regress.classes.weight", layout.heads["regress"].tensors)
        problem = config.get("problem_type")
        number = len(tensors[weight]) == 1 if problem is None else problem == "regression"
        names.remove("classify" if number else "regress")
    return names


def serving(tensors: Mapping[str, Tensor], layout: Layout, heads: Collection[str]) -> dict[str, Tensor]:
    """Return the tensors but for those of modules that the network does not have beside these heads."""
    table = layout.table(heads)
    gone = tuple(f"{row}." for choice in layout.lacking(heads) for row in table[layout.optional[choice]])
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(gone)}


def to_ours(tensors: Mapping[str, Tensor], layout: Layout, learner: Learner) -> dict[str, Tensor]:
    """Return the tensors of a learner's state from cleaned foreign ones.

    Raises:
        GenusError: tensors are missing, of the wrong shape, or have no place in the learner.
    """
    table = layout.table(learner.heads)
    state, missing, wrong = {}, [], []
    used: set[str] = set()
    for name, expected in learner.tensors().items():
        names = theirs(name, table)
        used.update(names)
        absent = [foreign for foreign in names if foreign not in tensors]
        missing += absent
        if not absent:
            parts = [layout.turn(foreign, tensors[foreign], back=True) for foreign in names]
            state[name] = torch.cat(parts) if names[1:] else parts[0].contiguous()
            if state[name].shape != expected.shape:
                wrong.append(f"{names[0]} {tuple(tensors[names[0]].shape)}, which makes {tuple(state[name].shape)}, "
                             f"not {tuple(expected.shape)}")  # fmt: skip
    left = [name for name in tensors if name not in used and not _replaced(name, layout, table)]
    for problem, which in (("lack", missing), ("do not fit", wrong), ("have no place for", left)):
        if which:
            raise GenusError(f"the weights {problem} {few(which)}")
    return state


def _replaced(name: str, layout: Layout, table: Table) -> bool:
    """Say whether a tensor belongs to a module of the network that a head has taken the place of."""
    gone: Iterable[tuple[str, ...]] = [rows for ours, rows in layout.tensors.items() if table[ours] != rows]
    return any(name.startswith(f"{row}.") for rows in gone for row in rows)


def few(names: Collection[str]) -> str:
    """Return the first names of many."""
    first = ", ".join(list(names)[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"
