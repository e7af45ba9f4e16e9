"""The cache of a recurrent network: the state after the last token of each sequence, whatever its length.

Legend: F inner size of a feed-forward network or of an LSTM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from genus.model.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from genus.model.recurrence import State


class StateCache(Cache):
    """A cache with one hidden state and one cell state per slot and layer, in place of keys and values of all tokens.

    Slots are opened, closed and filled as those of every cache, so who generates sees no difference.
    """

    def __init__(
        self, sizes: Sequence[tuple[int, int]], entries: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Make a cache without slots.

        Args:
            sizes: H and F per layer.
            entries: the most tokens of all sequences together; they take no memory.
            dtype: of the states.
            device: of the states.
        """
        super().__init__((), entries, dtype, device)
        self.states = [tuple(torch.zeros(0, size, dtype=dtype, device=device) for size in pair) for pair in sizes]
        self.rows: dict[int, int] = {}
        """The row of the states by slot."""

    def open(self, number: int, capacity: int) -> None:
        """Make a slot for a sequence of at most so many tokens, whose states are 0 (ValueError if there is no room)."""
        super().open(number, capacity)
        row = min(set(range(len(self.rows) + 1)) - set(self.rows.values()))
        self.rows[number] = row
        for layer, pair in enumerate(self.states):
            more = max(0, row + 1 - len(pair[0]))
            self.states[layer] = tuple(torch.cat([kept, kept.new_zeros(more, kept.shape[1])]) for kept in pair)
            for kept in self.states[layer]:
                kept[row] = 0

    def close(self, number: int) -> None:
        """Free a slot: others can take its place."""
        super().close(number)
        del self.rows[number]

    def read(self, layer: int, sequences: Tensor) -> State:
        """Return the hidden states (N, H) and cells (N, F) of sequences of the last `packed`, by their number in it."""
        rows = self._rows()[sequences]
        h, c = (kept[rows] for kept in self.states[layer])
        return h, c

    def write(self, layer: int, sequences: Tensor, state: State) -> None:
        """Replace the hidden states and cells of sequences of the last `packed`."""
        rows = self._rows()[sequences]
        for kept, new in zip(self.states[layer], state, strict=True):
            kept[rows] = new.to(kept.dtype)

    def _rows(self) -> Tensor:
        """Return the rows of the sequences of the last `packed`."""
        return torch.tensor([self.rows[turn.slot] for turn in self.turns if turn.tokens], device=self.device)

    def reorder(self, parents: Mapping[int, int]) -> None:
        """Replace the states of slots by copies of others: parent by slot (ValueError if one has not enough room)."""
        super().reorder(parents)
        written = [self.rows[slot] for slot in parents]
        taken = [self.rows[parent] for parent in parents.values()]
        for pair in self.states:
            for kept in pair:
                kept[written] = kept[taken]
