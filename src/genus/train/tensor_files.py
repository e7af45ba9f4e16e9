"""Tensors in safetensors files, whole or in pieces that lie in several, read in whatever pieces are asked for.

A file of pieces has `pieces` in its metadata: {name: [shape of the whole tensor, index of the piece's first entry]}.
"""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import torch
from safetensors import safe_open
from torch import Tensor

from genus.files import write_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PIECES = "pieces"
"""Key of the metadata."""
Box = tuple[tuple[int, ...], tuple[int, ...]]
"""Shape of a whole tensor, and index of the first entry of a piece of it."""


@dataclass
class TensorFile:
    """Tensors for one file; those in `boxes` are pieces."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    boxes: dict[str, Box] = field(default_factory=dict)

    def add(self, name: str, tensor: Tensor, box: Box | None = None) -> None:
        """Add a copy of a tensor, on the CPU."""
        self.tensors[name] = tensor.detach().to("cpu", copy=True).contiguous()
        if box is not None and box[0] != tuple(tensor.shape):
            self.boxes[name] = box

    def write(self, path: Path) -> None:
        """Write the file (OSError or SafetensorError if that fails)."""
        write_tensors(path, self.tensors, {PIECES: json.dumps(self.boxes)} if self.boxes else None)


@dataclass(frozen=True)
class _Place:
    """A tensor of a file, or a piece of one."""

    file: Any
    """As safetensors opens it."""
    first: tuple[int, ...]
    held: tuple[int, ...]


class SavedTensors:
    """The tensors of all files `<stem>*.safetensors` of a folder; a context that closes the files.

    No tensor is held: each is read, from one file or from several, when it is asked for.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Shape of each whole tensor, by name."""
        self._places: dict[str, list[_Place]] = {}
        self._open = ExitStack()
        for path in sorted(folder.glob(f"{stem}*.safetensors")):
            self._add(self._open.enter_context(safe_open(path, "pt")))

    def __enter__(self) -> Self:
        """Return the tensors."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._open.close()

    def _add(self, file: Any) -> None:
        boxes = json.loads((file.metadata() or {}).get(PIECES, "{}"))
        for name in file.keys():  # noqa: SIM118  # it is no mapping
            held = tuple(file.get_slice(name).get_shape())
            shape, first = boxes.get(name, (held, [0] * len(held)))
            self.shapes[name] = tuple(shape)
            self._places.setdefault(name, []).append(_Place(file, tuple(first), held))

    def whole(self, name: str) -> Tensor:
        """Return a whole tensor."""
        return self.read(name, (0,) * len(self.shapes[name]), self.shapes[name])

    def read(self, name: str, first: Sequence[int], shape: Sequence[int]) -> Tensor:
        """Return a piece of a tensor.

        Args:
            name: of the tensor.
            first: index of the piece's first entry.
            shape: of the piece.

        Raises:
            ValueError: the files do not hold all of it.
        """
        if not shape or (len(self._places[name]) == 1 and self._places[name][0].held == tuple(shape)):
            return self._places[name][0].file.get_tensor(name)  # type: ignore[no-any-return]
        found: Tensor | None = None
        filled = 0
        for place in self._places[name]:
            if (common := _common(place, first, shape)) is None:
                continue
            there, here = common
            part = place.file.get_slice(name)[there]
            found = part.new_empty(tuple(shape)) if found is None else found
            found[here] = part
            filled += part.numel()
        if filled != math.prod(shape):
            raise ValueError(f"{name} is not there as a whole")
        return torch.empty(tuple(shape)) if found is None else found

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.shapes)


def _common(
    place: _Place, first: Sequence[int], shape: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
    """Return what a saved piece and a wanted one have in common, as slices of both; None: nothing."""
    there, here = [], []
    for saved, held, start, length in zip(place.first, place.held, first, shape, strict=True):
        low, high = max(saved, start), min(saved + held, start + length)
        if low >= high:
            return None
        there.append(slice(low - saved, high - saved))
        here.append(slice(low - start, high - start))
    return tuple(there), tuple(here)
