"""Conversion of state dicts between genus and Hugging Face names, one row of the layout's table at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch

from genus.errors import GenusError
from genus.export.layouts.maps import place, rows
from genus.export.weights import converted

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor

    from genus.export.layouts import HeadLayout, Layout
    from genus.export.layouts.maps import Place, Table
    from genus.objectives import Learner
    from genus.part import Json

LEGACY = {".gamma": ".weight", ".beta": ".bias"}
"""Suffixes of layer normalization's parameters in the first releases, and their present names."""
BUFFERS = (
    *(".position_ids", ".token_type_ids", "mask_value_float16", "mask_value_float32"),
    *(".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"),  # causal masks and rates of rotation
)
"""Suffixes of buffers that old files hold besides parameters."""


class Renamed(Mapping[str, "torch.Tensor"]):
    """A mapping of tensors under new names, which reads each tensor lazily from the mapping below it."""

    def __init__(self, tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
        self.tensors, self.names = tensors, names

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor by its new name."""
        return self.tensors[self.names[name]]

    def __iter__(self) -> Iterator[str]:
        """Return the new names."""
        return iter(self.names)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        """Return whether there is a tensor of that name, without reading it."""
        return name in self.names


def to_foreign(learner: Learner, layout: Layout, config: Json) -> Iterator[tuple[str, Tensor]]:
    """Yield the learner's tensors on the CPU under their Hugging Face names; tied weights come once.

    Heads that the layout does not have are left out.
    """
    out = tuple(f"heads.{head}." for head in learner.heads.keys() - layout.kept(learner.heads))
    given = learner.tensors()
    tensors = Renamed(given, {name: name for name in given if not name.startswith(out)})  # read one by one
    for name, tensor in foreign(tensors, layout, learner.heads, config):
        yield name, tensor.detach().cpu().contiguous()


def foreign(
    tensors: Mapping[str, Tensor], layout: Layout, heads: Iterable[str], config: Json
) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors under the layout's names: weights, or tensors of the same shapes, such as gradients."""
    table = layout.table(heads)
    for name in tensors:
        ours, names, row = place(name, table)
        if name == ours[0]:  # a row of several tensors is converted at its first
            parts = row.op(config)(tuple(tensors[one] for one in ours))
            yield from zip(names, parts, strict=True)


def clean(tensors: Mapping[str, Tensor], layout: Layout) -> Mapping[str, Tensor]:
    """Return a file's tensors under current Hugging Face names: old names, a missing prefix and tied copies corrected.

    Raises:
        GenusError: two copies of a weight that is tied in the layout differ.
    """
    found: dict[str, str] = {}
    bare = not any(name.startswith(layout.prefix) for name in tensors)
    network = {row.theirs[0].removeprefix(layout.prefix).split(".")[0] for row in rows(layout.tensors).values()}
    for stored in tensors:
        name = stored
        for old, new in LEGACY.items():
            name = name.removesuffix(old) + new if name.endswith(old) else name
        if not name.endswith(BUFFERS):
            prefix = layout.prefix if bare and name.split(".")[0] in network else ""
            found[prefix + name] = stored
    for copy, original in layout.tied.items():
        if copy not in found:
            continue
        if original in found and not _equal(tensors[found[copy]], tensors[found[original]]):
            raise GenusError(
                f"{copy} differs from {original}, which genus keeps as one tensor; untied ones cannot be read"
            )
        found.setdefault(original, found[copy])
        del found[copy]
    return Renamed(tensors, found)


def heads_in(tensors: Mapping[str, Tensor], layout: Layout, config: Json, known: Collection[str] = ()) -> list[str]:
    """Return the names of the heads whose tensors are present.

    A head without tensors of its own, as an output layer that is the token embedding, or without any but `spare` ones,
    is there if a class that the configuration names has it, or no class is named, and it is recognized. Where several
    heads have the same tensor names, the candidates are those of the class that the configuration names; if it names
    none, those that fit the network's modules (with a pooler or without); of these, the first that is recognized is
    chosen, else the first. A head is recognized by the recipe, where there is one, else by its layout.

    Args:
        tensors: tensors as `clean` returns them.
        layout: the layout of the tensors.
        config: the content of `config.json`.
        known: names of the heads in the recipe.
    """
    trained = frozenset(known) & layout.heads.keys()

    def told(head: str) -> bool:
        return head in trained if trained else layout.heads[head].tells(config, tensors)

    modules = {name.rpartition(".")[0] for name in tensors}
    own = {head: _theirs_of(choice) for head, choice in layout.heads.items() if choice.fits(config)}
    classes = config.get("architectures") or ()
    named = layout.named(classes)
    there = modules | tensors.keys()
    found = [head for head, names in own.items() if names - layout.heads[head].spare <= there]
    bare = {head for head in found if (head in named or not classes) and told(head)}
    found = [head for head in found if own[head] & there or head in bare]
    for head in tuple(found):
        rivals = [other for other in found if own[other] & own[head]]
        if rivals[1:]:
            fitting = [one for one in rivals if one in named] or _pooled_alike(rivals, tensors, layout) or rivals
            chosen = [one for one in fitting if told(one)] or fitting
            found = [one for one in found if one not in rivals or one == chosen[0]]
    return found


def serving(tensors: Mapping[str, Tensor], layout: Layout, heads: Collection[str]) -> Mapping[str, Tensor]:
    """Return the tensors without those of optional modules that the network lacks with these heads."""
    table = rows(layout.table(heads))
    gone = tuple(f"{row}." for choice in layout.lacking(heads) for row in table[layout.optional[choice]].theirs)
    return Renamed(tensors, {name: name for name in tensors if not name.startswith(gone)})


def to_ours(
    tensors: Mapping[str, Tensor], layout: Layout, learner: Learner, config: Json, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return a learner's state dict, each tensor once, from Hugging Face tensors; one row is read at a time.

    Args:
        tensors: tensors as `clean` returns them.
        layout: the layout of the tensors.
        learner: defines the expected tensors and their shapes.
        config: the content of `config.json`.
        dtype: type of the returned tensors.

    Raises:
        GenusError: tensors are missing, of the wrong shape, not finite, or have no place in the learner.
    """
    table, expected = layout.table(learner.heads), learner.tensors()
    spare = frozenset().union(*(layout.heads[head].spare for head in layout.kept(learner.heads))) - tensors.keys()
    found: dict[str, Tensor] = {}
    missing, wrong = [], []
    used: set[str] = set()
    for name in expected:
        there = place(name, table)
        if name != there.ours[0]:
            continue
        used.update(there.theirs)
        if spare.issuperset(there.theirs):
            found |= {one: torch.zeros(expected[one].shape, dtype=dtype) for one in there.ours}
            continue
        absent = [one for one in there.theirs if one not in tensors]
        missing += absent
        if not absent:
            parts, misfit = _back(there, tensors, config, [expected[one].shape for one in there.ours])
            wrong += misfit
            found |= {
                one: converted(part, dtype, there.theirs[0]) for one, part in zip(there.ours, parts, strict=False)
            }
    left = [name for name in tensors if name not in used and not _replaced(name, layout, table)]
    for problem, which in (("lack", missing), ("do not fit", wrong), ("have no place for", left)):
        if which:
            raise GenusError(f"the weights {problem} {shorten(which)}")
    return found


def shorten(names: Collection[str]) -> str:
    """Return the first three names, and the number of those left out."""
    first = ", ".join(list(names)[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"


def _back(
    there: Place, tensors: Mapping[str, Tensor], config: Json, shapes: list[torch.Size]
) -> tuple[tuple[Tensor, ...], list[str]]:
    """Return the learner's tensors of a row, or no tensors and the error in the given ones."""
    given = tuple(tensors[name] for name in there.theirs)
    first = f"{there.theirs[0]} {tuple(given[0].shape)}"
    try:
        parts = there.row.op(config).inverse(given)
    except (ValueError, RuntimeError) as error:  # raised by torch where the tensors of a row do not match
        return (), [f"{first}: {str(error).splitlines()[0]}"]
    wrong = [(part.shape, shape) for part, shape in zip(parts, shapes, strict=True) if part.shape != shape]
    if wrong:
        return (), [f"{first}, which makes {tuple(made)}, not {tuple(shape)}" for made, shape in wrong[:1]]
    return parts, []


def _theirs_of(head: HeadLayout) -> frozenset[str]:
    """Return the Hugging Face module names of a head's own rows."""
    return frozenset(
        name for ours, row in rows(head.tensors).items() if ours.startswith("heads.") for name in row.theirs
    )


def _pooled_alike(heads: Collection[str], tensors: Mapping[str, Tensor], layout: Layout) -> list[str]:
    """Return the heads that fit the optional modules of the network whose tensors are present."""
    found = []
    for head in heads:
        table = rows(layout.table([head]))
        there = {
            choice
            for choice, module in layout.optional.items()
            if all(f"{name}.weight" in tensors for name in table[module].theirs)
        }
        if layout.heads[head].needs <= there and not layout.heads[head].lacks & there:
            found.append(head)
    return found


def _equal(copy: Tensor, original: Tensor) -> bool:
    """Return whether two tensors have equal values, compared in float32 if their types differ."""
    return torch.equal(copy, original) if copy.dtype == original.dtype else torch.equal(copy.float(), original.float())


def _replaced(name: str, layout: Layout, table: Table) -> bool:
    """Return whether a tensor belongs to a module of the network that a head replaces."""
    now = rows(table)
    gone = [row.theirs for ours, row in rows(layout.tensors).items() if now[ours] != row]
    return any(name.startswith(f"{row}.") for names in gone for row in names)
