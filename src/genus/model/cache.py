"""The key-value cache: the keys side of attention in decoding.

Tokens in a batch say by the fact `slot` which sequence of the cache they go on; their positions are counted from its
beginning. Prompts of different lengths are read packed, without padding; a decoding step is a batch of rows of one
token, row s for slot s.
Legend: T tokens, S slots, C capacity of a slot, G heads of keys and values, D numbers of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genus.batch import Packed
from genus.model.attention.plan import Side

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class LayerCache:
    """The keys and values of one layer."""

    keys: Tensor
    """(S C + 1, G, D): slot by slot, and one place for what is not kept (padding)."""
    values: Tensor

    def write(self, k_TGD: Tensor, v_TGD: Tensor, places: Tensor) -> None:
        """Write keys and values in place."""
        self.keys.index_copy_(0, places, k_TGD.to(self.keys.dtype))
        self.values.index_copy_(0, places, v_TGD.to(self.values.dtype))

    def read(self) -> tuple[Tensor, Tensor]:
        """Return all keys and values (S C, G, D)."""
        return self.keys[:-1], self.values[:-1]


class Cache:
    """Keys and values of all layers, of as many sequences as there are slots."""

    def __init__(
        self, shapes: Sequence[tuple[int, int]], slots: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Make an empty cache.

        Args:
            shapes: heads and head size of each layer's keys.
            slots: S.
            capacity: C.
            dtype: of keys and values.
            device: of keys and values.
        """
        self.slots, self.capacity, self.device = slots, capacity, device
        sizes = [(slots * capacity + 1, *shape) for shape in shapes]
        self.layers = [LayerCache(*(torch.zeros(s, dtype=dtype, device=device) for _ in range(2))) for s in sizes]
        self.lengths = torch.zeros(slots, dtype=torch.int64, device=device)
        """(S,) tokens of each slot."""
        self.empty = True
        """Whether nothing was written yet: then new tokens attend to each other as a packed batch."""

    def layer(self, number: int) -> LayerCache:
        """Return the keys and values of a layer."""
        return self.layers[number]

    def slot(self, packed: Packed) -> Tensor:
        """Return (T,) the slot of each token, -1 for padding."""
        return packed.facts["slot"].masked_fill(packed.sequence < 0, -1)

    def places(self, packed: Packed) -> Tensor:
        """Return (T,) where the keys of tokens are written; those of padding in the place that nobody reads."""
        slot, spare = self.slot(packed), self.slots * self.capacity
        return (slot * self.capacity + packed.positions).masked_fill(slot < 0, spare)

    def queries(self, packed: Packed) -> Side:
        """Return new tokens as queries: those of a step by rows, row s for slot s; others as one row."""
        length = 1 if self._is_step(packed) else packed.ids.numel()
        return Side(self.slot(packed), packed.positions, None, length)

    def keys(self, packed: Packed, *, own: bool = True) -> Side:
        """Return what is in the cache as keys: by slots for a step, else as one row.

        Args:
            packed: the new tokens.
            own: they are written to this cache, so their keys are in it too; else they are of another stream.
        """
        place = torch.arange(self.capacity, device=self.device).expand(self.slots, -1)
        lengths = self.after(packed) if own else self.lengths
        slot = torch.arange(self.slots, device=self.device)[:, None].expand_as(place)
        sequence = slot.masked_fill(place >= lengths[:, None], -1)
        length = self.capacity if self._is_step(packed) else self.slots * self.capacity
        return Side(sequence.flatten(), place.flatten(), None, length)

    def after(self, packed: Packed) -> Tensor:
        """Return (S,) the tokens of each slot with new ones."""
        slot = self.slot(packed)
        new = torch.cat([self.lengths, self.lengths.new_zeros(1)])
        new = new.scatter_reduce(0, slot.masked_fill(slot < 0, self.slots), packed.positions + 1, "amax")
        return new[:-1]

    def advance(self, packed: Packed) -> None:
        """Count new tokens, once all layers have written theirs."""
        self.lengths, self.empty = self.after(packed), False

    def reorder(self, parents: Tensor) -> None:
        """Have slot s go on from slot `parents[s]` (S,), as beams do."""
        source = parents[:, None] * self.capacity + torch.arange(self.capacity, device=self.device)
        source = torch.cat([source.flatten(), source.new_full((1,), self.slots * self.capacity)])
        for layer in self.layers:
            for kept in (layer.keys, layer.values):
                kept.copy_(kept.index_select(0, source))
        self.lengths = self.lengths.index_select(0, parents)

    def free(self, slot: int) -> None:
        """Forget the sequence of a slot."""
        self.lengths[slot] = 0

    def _is_step(self, packed: Packed) -> bool:
        return packed.row_length == 1 and packed.rows == self.slots


def prompts(rows: Sequence[Sequence[Tensor]], row_length: int, slots: Sequence[Sequence[int]]) -> Packed:
    """Return prompts of different lengths packed in rows, each of which is to fill a slot of a cache.

    Args:
        rows: ids of the prompts of each row, on the CPU.
        row_length: tokens of a row.
        slots: the slot of each prompt.
    """
    lengths = [[len(ids) for ids in row] for row in rows]
    packed = Packed.laid(torch.zeros(len(rows) * row_length, dtype=torch.int64), lengths, row_length)
    real = packed.sequence >= 0
    packed.ids[real] = torch.cat([ids for row in rows for ids in row])
    slot = torch.zeros_like(packed.ids)
    slot[real] = torch.tensor([n for row, own in zip(lengths, slots, strict=True)
                               for length, one in zip(row, own, strict=True) for n in [one] * length])  # fmt: skip
    return Packed.laid(packed.ids, lengths, row_length, {"slot": slot, "segment": torch.zeros_like(slot)})


def step(ids: Tensor, cache: Cache, running: Tensor) -> Packed:
    """Return a decoding step: the next token of each slot (S,), where it is running (S,) bool."""
    slot = torch.arange(cache.slots, device=ids.device)
    entries = torch.arange(2 * cache.slots + 1, device=ids.device)  # in each row a token, and padding, which is empty
    return Packed(
        ids=ids,
        positions=cache.lengths,
        sequence=torch.where(running, 2 * slot, -1).int(),
        offsets=((entries + 1) // 2).int(),
        row_length=1,
        tokens=len(ids),
        facts={"slot": slot, "segment": torch.zeros_like(slot)},
        one_per_row=True,
    )
