"""Translation of what is added to linear maps, between genus and peft: low-rank updates and factors.

A row of a layout's table joins maps of genus and of Hugging Face whose weights are the same numbers in another order.
An update B A of each map is an update of the row: A are the A of all maps, one below the other, and B is what the row's
operation makes of their B, each in columns of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from genus.export.layouts.maps import Chain, Identity, Place, Split, Stack, Transpose, place

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    from genus.export.layouts.maps import Op, Table
    from genus.part import Json

WEIGHT = ".weight"


@dataclass(frozen=True)
class Update:
    """A change of low rank of a linear map: up @ down."""

    down: Tensor
    """A (r, in)."""
    up: Tensor
    """B (out, r), with the scale in it."""

    def at(self, number: int, count: int) -> Update:
        """Return part `number` of `count` equal parts of the rank."""
        return Update(self.down.chunk(count, 0)[number], self.up.chunk(count, 1)[number])

    def ranked(self, rank: int) -> Update:
        """Return the same change with a larger rank, filled with 0."""
        down, up = self.down, self.up
        more = rank - len(down)
        return Update(torch.cat([down, down.new_zeros(more, down.shape[1])]),
                      torch.cat([up, up.new_zeros(len(up), more)], 1))  # fmt: skip


def rows_of(maps: Iterable[str], table: Table) -> dict[tuple[str, ...], Place] | None:
    """Return the rows that hold linear maps of genus, by Hugging Face's names; None if some are not linear maps there.

    Args:
        maps: names of the maps.
        table: the layout's table.
    """
    found = {}
    for name in maps:
        row = place(f"{name}{WEIGHT}", table)
        if not all(one.endswith(WEIGHT) for one in row.theirs):
            return None
        found[row.theirs] = row
    return found


def names(tensors: Sequence[str]) -> list[str]:
    """Return the names of modules for those of their weights."""
    return [name.removesuffix(WEIGHT) for name in tensors]


def transposes(op: Op) -> bool:
    """Return whether an operation transposes matrices, as those of a `Conv1D`."""
    ops = op.ops if isinstance(op, Chain) else (op,)
    return sum(isinstance(one, Transpose) for one in ops) % 2 == 1


def keeps_order(op: Op) -> bool:
    """Return whether an operation leaves the order of a map's outputs as it is."""
    ops = op.ops if isinstance(op, Chain) else (op,)
    return all(isinstance(one, Identity | Stack | Split | Transpose) for one in ops)


def to_theirs(row: Place, own: Mapping[str, Update], outputs: Mapping[str, int], config: Json) -> dict[str, Update]:
    """Return the updates of Hugging Face's maps of a row, by the names of modules.

    Args:
        row: the row.
        own: the updates of those maps of genus that have one, by name.
        outputs: the number of outputs of all of them, by name.
        config: the configuration.
    """
    ours = names(row.ours)
    there = [name for name in ours if name in own]
    down, op = torch.cat([own[name].down for name in there]), row.row.op(config)
    spread = []
    for name in ours:
        columns = [
            own[name].up if other == name else down.new_zeros(outputs[name], len(own[other].down)) for other in there
        ]
        spread.append(torch.cat(columns, 1))
    ups = op(tuple(spread))
    return {name: Update(down, up.T if transposes(op) else up) for name, up in zip(names(row.theirs), ups, strict=True)}


def to_ours(row: Place, theirs: Mapping[str, Update], config: Json) -> dict[str, Update]:
    """Return the updates of the maps of genus of a row, by name.

    Args:
        row: the row.
        theirs: the updates of all of Hugging Face's maps of the row, by name.
        config: the configuration.
    """
    op, there = row.row.op(config), [theirs[name] for name in names(row.theirs)]
    down = torch.cat([one.down for one in there])
    spread = []
    for number, one in enumerate(there):
        columns = [
            other.up if place == number else one.up.new_zeros(len(one.up), len(other.down))
            for place, other in enumerate(there)
        ]
        up = torch.cat(columns, 1)
        spread.append(up.T if transposes(op) else up)
    return {name: Update(down, up) for name, up in zip(names(row.ours), op.inverse(tuple(spread)), strict=True)}
