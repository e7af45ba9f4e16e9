"""The key-value cache for incremental decoding.

The keys and values of a sequence lie together in a region of one buffer, its *slot*, as large as the sequence may
become: slots of different sizes waste nothing. What is given to the network next is a `Packed` made by
`Cache.packed`: new tokens of some slots, one or many of each, end to end and without padding, at the positions where
their slots end. So prompts of different lengths are read together, sequences join and leave between any two forward
passes, and outside of attention nothing knows of it.

Legend: G heads of keys and values; X distances between queries and keys; Y entries of a key-value cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from genus.batch import Packed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(slots=True)
class LayerCache:
    """The cached keys and values of one layer."""

    keys: Tensor
    """(Y, G, D)"""
    values: Tensor
    by_distance: Tensor | None = None
    """(X, A, D) projected encodings of distances from X - 1 down to 0, in relative attention; made when needed."""

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        return sum(part.nbytes for part in (self.keys, self.values, self.by_distance) if part is not None)

    def write(self, k_TGD: Tensor, v_TGD: Tensor, places: Tensor) -> None:
        """Write keys and values in place, at the entries `places` (T,)."""
        self.keys.index_copy_(0, places, k_TGD.to(self.keys.dtype))
        self.values.index_copy_(0, places, v_TGD.to(self.values.dtype))


@dataclass(slots=True)
class Slot:
    """The region of a sequence."""

    start: int
    """Its first entry."""
    capacity: int
    """Its number of entries: how many tokens the sequence may have."""
    length: int = 0
    """The number of tokens that are cached."""


@dataclass(frozen=True, slots=True)
class Turn:
    """New tokens of a slot, in a batch that the network reads."""

    slot: int
    first: int
    """Index of the first of them on the batch's token axis."""
    tokens: int


class Cache:
    """The key-value cache of all layers.

    Lengths are numbers on the CPU, as whoever generates knows them: no step waits for a device.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int]], entries: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Allocate a cache without slots.

        Args:
            shapes: (heads of keys and values, head size) per layer.
            entries: Y, the most tokens of all sequences together.
            dtype: of keys and values.
            device: of keys and values.
        """
        self.entries, self.device = entries, device
        self.layers = [
            LayerCache(*(torch.zeros((entries, *shape), dtype=dtype, device=device) for _ in range(2)))
            for shape in shapes
        ]
        self.slots: dict[int, Slot] = {}
        self.turns: tuple[Turn, ...] = ()
        """What the network reads next: the tokens of the last `packed`, until they are cached."""

    def layer(self, number: int) -> LayerCache:
        """Return the cached keys and values of layer `number`."""
        return self.layers[number]

    def room(self, capacity: int) -> int | None:
        """Return where a slot of so many tokens could begin (the first gap that is large enough); None: nowhere."""
        end = 0
        for slot in sorted(self.slots.values(), key=lambda slot: slot.start):
            if slot.start - end >= capacity:
                return end
            end = max(end, slot.start + slot.capacity)
        return end if self.entries - end >= capacity else None

    def open(self, number: int, capacity: int) -> None:
        """Make a slot for a sequence of at most so many tokens.

        Raises:
            ValueError: there is a slot of this number, or no room.
        """
        start = self.room(capacity)
        if number in self.slots or start is None:
            raise ValueError(f"a cache of {self.entries} tokens has no room for slot {number} of {capacity}")
        self.slots[number] = Slot(start, capacity)

    def close(self, number: int) -> None:
        """Free a slot: others can take its place."""
        del self.slots[number]

    def lengths(self) -> dict[int, int]:
        """Return the number of cached tokens by slot."""
        return {number: slot.length for number, slot in self.slots.items()}

    def packed(self, new: Mapping[int, Sequence[int]], facts: Iterable[str] = ()) -> Packed:
        """Return the batch of the next forward pass: the ids of new tokens by slot, in one row without padding.

        Args:
            new: ids by slot, in the order in which they are packed.
            facts: names of the facts that the model reads; they are 0 for all tokens, but `prefix` is 1 for the first
                ones of a slot, which are its prompt.

        Raises:
            ValueError: a slot's tokens are more than it has room for.
        """
        ids, positions, sequence, offsets, turns = list[int](), list[int](), list[int](), [0], list[Turn]()
        prompt: list[int] = []
        for number, tokens in new.items():
            slot = self.slots[number]
            if slot.length + len(tokens) > slot.capacity:
                raise ValueError(f"slot {number} has room for {slot.capacity} tokens, and gets one more")
            turns.append(Turn(number, len(ids), len(tokens)))
            ids += tokens
            positions += range(slot.length, slot.length + len(tokens))
            sequence += [len(offsets) - 1] * len(tokens)
            prompt += [int(not slot.length)] * len(tokens)
            offsets.append(len(ids))
        self.turns, total = tuple(turns), len(ids)
        packed = Packed(
            ids=torch.tensor(ids),
            positions=torch.tensor(positions),
            sequence=torch.tensor(sequence, dtype=torch.int32),
            offsets=torch.tensor([*offsets, total], dtype=torch.int32),  # and an empty entry of padding
            row_length=total,
            tokens=total,
            facts={name: torch.tensor(prompt if name == "prefix" else [0] * total) for name in facts},
        )
        return packed if self.device.type == "cpu" else packed.to(self.device)

    def places(self) -> Tensor:
        """Return (T,) the entries to which the keys and values of the next tokens are written."""
        entries = list[int]()
        for turn in self.turns:
            slot = self.slots[turn.slot]
            entries += range(slot.start + slot.length, slot.start + slot.length + turn.tokens)
        return torch.tensor(entries).to(self.device, non_blocking=True)

    def advance(self) -> None:
        """Count the tokens of the last `packed` as cached, after all layers have written their keys and values."""
        for turn in self.turns:
            self.slots[turn.slot].length += turn.tokens
        self.turns = ()

    def share(self, parents: Mapping[int, int]) -> None:
        """Let slots be those of others, parent by slot, where nothing is written any more, as for sources."""
        self.slots |= {number: self.slots[parent] for number, parent in parents.items()}

    def reorder(self, parents: Mapping[int, int]) -> None:
        """Replace the content of slots by copies of others, as beam search needs: parent by slot.

        Raises:
            ValueError: a parent has more tokens than the slot has room for.
        """
        moved = {number: self.slots[parent] for number, parent in parents.items() if number != parent}
        if any(parent.length > self.slots[number].capacity for number, parent in moved.items()):
            raise ValueError("a slot cannot hold what its parent does")
        if not moved:
            return
        source = np.concatenate([np.arange(parent.start, parent.start + parent.length) for parent in moved.values()])
        starts = ((self.slots[number].start, parent.length) for number, parent in moved.items())
        target = np.concatenate([np.arange(start, start + length) for start, length in starts])
        read, written = (torch.from_numpy(index).to(self.device) for index in (source, target))
        for layer in self.layers:
            for kept in (layer.keys, layer.values):
                kept.index_copy_(0, written, kept.index_select(0, read))
        lengths = {number: parent.length for number, parent in moved.items()}
        for number, length in lengths.items():
            self.slots[number].length = length
