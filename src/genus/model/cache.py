"""The key-value cache for incremental decoding.

The fact `slot` of a token is the index of the cached sequence that it continues; its position is counted from the
beginning of that sequence. Prompts of different lengths are processed as packed sequences, without padding; a decoding
step is a batch of rows of one token, row s for slot s.
Legend: S slots, C capacity of a slot, G heads of keys and values; else docs/names.md.
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
    """The cached keys and values of one layer."""

    keys: Tensor
    """(S C + 1, G, D): slot by slot, then one entry to which padding is written."""
    values: Tensor

    def write(self, k_TGD: Tensor, v_TGD: Tensor, places: Tensor) -> None:
        """Write keys and values in place, at the entries `places` (T,)."""
        self.keys.index_copy_(0, places, k_TGD.to(self.keys.dtype))
        self.values.index_copy_(0, places, v_TGD.to(self.values.dtype))

    def read(self) -> tuple[Tensor, Tensor]:
        """Return all keys and values (S C, G, D), without the entry of padding."""
        return self.keys[:-1], self.values[:-1]


class Cache:
    """The key-value cache of all layers, with one slot per sequence."""

    def __init__(
        self, shapes: Sequence[tuple[int, int]], slots: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Allocate an empty cache.

        Args:
            shapes: (heads of keys and values, head size) per layer.
            slots: S, the number of sequences.
            capacity: C, tokens per slot.
            dtype: of keys and values.
            device: of keys and values.
        """
        self.slots, self.capacity, self.device = slots, capacity, device
        sizes = [(slots * capacity + 1, *shape) for shape in shapes]
        self.layers = [LayerCache(*(torch.zeros(s, dtype=dtype, device=device) for _ in range(2))) for s in sizes]
        self.lengths = torch.zeros(slots, dtype=torch.int64, device=device)
        """(S,) number of cached tokens per slot."""
        self.empty = True
        """Whether nothing was written yet: then new tokens attend to each other as packed sequences."""

    def layer(self, number: int) -> LayerCache:
        """Return the cached keys and values of layer `number`."""
        return self.layers[number]

    def slot(self, packed: Packed) -> Tensor:
        """Return (T,) the slot of each token, -1 for padding."""
        return packed.facts["slot"].masked_fill(packed.sequence < 0, -1)

    def places(self, packed: Packed) -> Tensor:
        """Return (T,) the entries to which keys and values are written; padding has the entry that is never read."""
        slot, spare = self.slot(packed), self.slots * self.capacity
        return (slot * self.capacity + packed.positions).masked_fill(slot < 0, spare)

    def queries(self, packed: Packed) -> Side:
        """Return new tokens as queries: those of a decoding step as row s for slot s, others as one row."""
        length = 1 if self._is_step(packed) else packed.ids.numel()
        return Side(self.slot(packed), packed.positions, None, length)

    def keys(self, packed: Packed, *, own: bool = True) -> Side:
        """Return the cached tokens as keys: one row per slot for a decoding step, else one row in all.

        Args:
            packed: the new tokens.
            own: the new tokens are written to this cache, so their keys are included; else they are of another stream.
        """
        place = torch.arange(self.capacity, device=self.device).expand(self.slots, -1)
        lengths = self.after(packed) if own else self.lengths
        slot = torch.arange(self.slots, device=self.device)[:, None].expand_as(place)
        sequence = slot.masked_fill(place >= lengths[:, None], -1)
        length = self.capacity if self._is_step(packed) else self.slots * self.capacity
        return Side(sequence.flatten(), place.flatten(), None, length)

    def after(self, packed: Packed) -> Tensor:
        """Return (S,) the number of tokens per slot, new ones included."""
        slot = self.slot(packed)
        new = torch.cat([self.lengths, self.lengths.new_zeros(1)])
        new = new.scatter_reduce(0, slot.masked_fill(slot < 0, self.slots), packed.positions + 1, "amax")
        return new[:-1]

    def advance(self, packed: Packed) -> None:
        """Update the lengths by the new tokens, after all layers have written their keys and values."""
        self.lengths, self.empty = self.after(packed), False

    def reorder(self, parents: Tensor) -> None:
        """Replace slot s by a copy of slot `parents[s]` (S,), as beam search needs."""
        source = parents[:, None] * self.capacity + torch.arange(self.capacity, device=self.device)
        source = torch.cat([source.flatten(), source.new_full((1,), self.slots * self.capacity)])
        for layer in self.layers:
            for kept in (layer.keys, layer.values):
                kept.copy_(kept.index_select(0, source))
        self.lengths = self.lengths.index_select(0, parents)

    def free(self, slot: int) -> None:
        """Free a slot: its sequence has length 0 afterwards."""
        self.lengths[slot] = 0

    def _is_step(self, packed: Packed) -> bool:
        return packed.row_length == 1 and packed.rows == self.slots


def prompts(rows: Sequence[Sequence[Tensor]], row_length: int, slots: Sequence[Sequence[int]]) -> Packed:
    """Return prompts of different lengths as packed sequences, each with its slot of a key-value cache.

    Args:
        rows: token ids of the prompts of each row, on the CPU.
        row_length: tokens per row, padding included.
        slots: the slot of each prompt, by rows.
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
    """Return the batch of a decoding step: the next token (S,) of each slot; padding where `running` (S,) is false."""
    slot = torch.arange(cache.slots, device=ids.device)
    entries = torch.arange(2 * cache.slots + 1, device=ids.device)  # in each row a token, and an empty entry of padding
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
