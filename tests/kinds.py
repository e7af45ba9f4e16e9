"""Rows of the catalog that are made of other kinds of parts: the first of each member, and each that adds one."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from genus import catalog

ROOMS = ("examples", "model", "objectives", "stages")
"""What a run learns, on which text, by whose turn; tokenizers and optimizers have tests of their own."""


def kinds(value: Any) -> frozenset[str]:
    """Return the kinds of all parts in what parts are written as."""
    if isinstance(value, list):
        return frozenset().union(*map(kinds, value))
    if not isinstance(value, dict):
        return frozenset()
    return frozenset({value["kind"]} if "kind" in value else ()).union(*map(kinds, value.values()))


@functools.cache
def of_each_kind() -> dict[str, str]:
    """Return the rows by name: of the first row of a member it is the member's, of further ones the row's own."""
    found: dict[str, str] = {}
    for member, sizes in catalog.members().items():
        of_kinds: dict[frozenset[str], str] = {}
        for row in sizes:
            written = catalog.load(row).to_json()
            of_kinds.setdefault(kinds([written[part] for part in ROOMS]), row)
        first, *others = of_kinds.values()
        found |= {member: first} | {row.replace("/", "-"): row for row in others}
    return found


KINDS = {*of_each_kind().values()}
members_by_kind = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in KINDS else [pytest.mark.slow]) for name in catalog.names()]
)
"""All rows, by default one of each kind: of the same kinds of parts they are alike once they are shrunk."""
