"""Packed batches made by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from genus.batch import Packed

if TYPE_CHECKING:
    from torch import Tensor


def alone(packed: Packed, start: int, end: int) -> Packed:
    """Return the sequence that lies there as a row of its own, without padding."""
    facts = {name: fact[start:end] for name, fact in packed.facts.items()}
    one = Packed.laid(packed.ids[start:end], [[end - start]], end - start, facts)
    return replace(one, positions=packed.positions[start:end])


def equal_rows(ids: Tensor, facts: dict[str, Tensor] | None = None) -> Packed:
    """Return ids (R, L) as packed rows of one sequence each, all of it in segment 0 unless the facts say otherwise."""
    rows, length = ids.shape
    flat = ids.flatten()
    return Packed.laid(flat, [[length]] * rows, length, {"segment": 0 * flat} | (facts or {}))


def stretches(packed: Packed) -> list[tuple[int, int]]:
    """Return (start, end) of everything that lies in a batch, padding too."""
    return [(start, end) for start, end in pairwise(packed.offsets.tolist()) if start < end]
