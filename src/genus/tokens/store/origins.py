"""Where the documents of a token store come from: a document's number gives its source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from genus.errors import GenusError
from genus.tokens.store.journal import ORIGINS

if TYPE_CHECKING:
    from pathlib import Path

READ_BYTES = 1 << 24


class Origins(Sequence[dict[str, Any]]):
    """The source and row of every document of a whole store, in order, with the fields that are kept.

    The file is mapped, and read once for the places of its lines (8 bytes for each document).
    """

    def __init__(self, folder: Path) -> None:
        """Open those of a store.

        Raises:
            GenusError: the store has none.
        """
        self._path = folder / ORIGINS
        if not self._path.is_file():
            raise GenusError(
                f"{folder}: keeps no origins of its documents; prepare curated text, or name fields to keep"
            )
        data = np.memmap(self._path, np.uint8, "r") if self._path.stat().st_size else np.zeros(0, np.uint8)
        self._data = data
        ends = [
            np.flatnonzero(data[begin : begin + READ_BYTES] == ord("\n")) + begin
            for begin in range(0, len(data), READ_BYTES)
        ]
        self._ends = np.concatenate(ends) if ends else np.zeros(0, np.int64)

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self._ends)

    @overload
    def __getitem__(self, number: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, number: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, number: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """Return the origin of a document, or of several."""
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        place = range(len(self))[number]
        begin = int(self._ends[place - 1]) + 1 if place else 0
        found: dict[str, Any] = json.loads(self._data[begin : int(self._ends[place])].tobytes())
        return found
