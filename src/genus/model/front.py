"""What is trained in front of a text, for all texts the same: keys and values of each layer, or vectors of its input.

Legend: G heads of keys and values; J entries of a packed batch, those of padding included; p positions in front of a
text that are trained.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.batch import Packed
    from genus.model.attention.plan import KeysAndValues

PROMPT = "prompt"
"""Name of the fact that tells which tokens stand for vectors in front of the text: 1 to p in order, 0 for the text."""
STD = 0.02
"""Standard deviation of vectors at first, that of BERT's embeddings."""


class PrefixKeys(nn.Module):
    """Keys and values of every layer in front of every sequence (Li and Liang 2021, section 4.2).

    With a projection they are an MLP of smaller vectors, W2 tanh(W1 e) (section 4.3), which is dropped after training:
    `settle` leaves the keys and values alone.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], length: int, projection: int | None, width: int) -> None:
        """Draw the vectors.

        Args:
            shapes: G and D of each layer.
            length: p.
            projection: the inner size of the MLP; None: keys and values are parameters themselves.
            width: the size of the vectors that the MLP reads.
        """
        super().__init__()
        self.shapes, self.length = list(shapes), length
        size = sum(2 * heads * dims for heads, dims in shapes)
        self.table = nn.Parameter(torch.empty(length, size if projection is None else width).normal_(std=STD))
        self.inner = None if projection is None else nn.Linear(width, projection)
        self.out = None if projection is None else nn.Linear(projection, size)

    def flat(self) -> Tensor:
        """Return all of them side by side, (p, 2 G D ...): keys and values of the first layer, then of the next."""
        if self.inner is None or self.out is None:
            return self.table
        return self.out(self.inner(self.table).tanh())  # type: ignore[no-any-return]

    def forward(self) -> tuple[KeysAndValues, ...]:
        """Return keys and values (p, G, D) of each layer."""
        sizes = [heads * dims for heads, dims in self.shapes for _ in range(2)]
        parts = torch.split(self.flat(), sizes, dim=1)
        each = zip(parts[::2], parts[1::2], self.shapes, strict=True)
        return tuple((torch.unflatten(k, 1, shape), torch.unflatten(v, 1, shape)) for k, v, shape in each)

    @torch.no_grad()
    def settle(self) -> None:
        """Replace the MLP by the keys and values that it makes."""
        self.table = nn.Parameter(self.flat().detach().clone())
        self.inner = self.out = None


class PromptVectors(nn.Module):
    """Vectors in front of the text, in place of token embeddings (Lester et al. 2021, section 2).

    Positions, segments and normalization are added to them as to those of tokens: they are at the first p positions,
    the text's tokens at those after them, and in segment 0.
    """

    def __init__(self, vectors: Tensor, *, first: bool) -> None:
        """Take the vectors (p, E) that they begin as.

        Args:
            vectors: what they begin as.
            first: whether the state of the first of them takes the place of that of each sequence's first token, as
                heads of whole sequences read the first position.
        """
        super().__init__()
        self.vectors = nn.Parameter(vectors)
        self.first = first

    def forward(self, x_TE: Tensor, packed: Packed) -> Tensor:
        """Return token embeddings (T, E) with the vectors in their places."""
        number = packed.facts[PROMPT]
        own = F.embedding((number - 1).clamp(min=0), self.vectors)
        return torch.where(number[:, None] > 0, own.to(x_TE.dtype), x_TE)

    def before(self, packed: Packed) -> tuple[Packed, Tensor]:
        """Return the stream with p more tokens in front of each sequence, and the place (T,) of each token in it.

        All rows become longer by as much as the one with most sequences needs; entries stay the same.
        """
        layout = Room(packed.on_cpu(), len(self.vectors))
        device, place = packed.ids.device, layout.place.to(packed.ids.device, non_blocking=True)

        def moved(values: Tensor) -> Tensor:
            return values.new_zeros(layout.cells).index_copy(0, place, values)

        number = layout.number.to(device, non_blocking=True)
        shifted = packed.positions + torch.where(packed.sequence < 0, 0, len(self.vectors))
        longer = replace(
            packed,
            ids=moved(packed.ids),
            positions=moved(shifted) + (number - 1).clamp(min=0),
            sequence=layout.sequence.to(device, non_blocking=True),
            offsets=layout.offsets.to(device, non_blocking=True),
            row_length=layout.row_length,
            tokens=packed.tokens + layout.added,
            facts={**{name: moved(fact) for name, fact in packed.facts.items()}, PROMPT: number},
            flow=None,
            original=None if device.type == "cpu" else replace(
                packed.on_cpu(), sequence=layout.sequence, offsets=layout.offsets, row_length=layout.row_length
            ),
        )  # fmt: skip
        return longer, layout.heads.to(device, non_blocking=True) if self.first else place


class Room:
    """Where everything lies once p tokens are put in front of each sequence, computed on the CPU."""

    def __init__(self, packed: Packed, added: int) -> None:
        old, length, rows = packed.offsets.long(), packed.lengths_of_entries().long(), packed.rows
        real = length > 0
        per_row = torch.bincount(old[:-1][real] // packed.row_length, minlength=rows)
        self.row_length = packed.row_length + added * int(per_row.max())
        self.added, self.cells = added * int(per_row.sum()), rows * self.row_length
        size = old.diff() + added * real
        size[self._closing(old, real, packed)] += self.row_length - packed.row_length - added * per_row
        self.offsets = torch.cat([old[:1], size.cumsum(0)]).to(packed.offsets.dtype)
        start, entry = self.offsets[:-1].long(), packed.entries()
        within = torch.arange(len(entry)) - old[entry]
        self.place = start[entry] + within + added * real[entry]
        """(T,) the place of each token."""
        self.heads = torch.where((within == 0) & real[entry], start[entry], self.place)
        """(T,) the same, but for the first token of a sequence, which has the place of the first one in front."""
        self.sequence = torch.where(real, torch.arange(len(real)), -1).repeat_interleave(size)
        self.sequence = self.sequence.to(packed.sequence.dtype)
        ahead = (start[real, None] + torch.arange(added)).flatten()
        self.number = torch.zeros(self.cells, dtype=torch.long)
        """(T',) 1 to p for what stands in front, 0 for the text."""
        self.number[ahead] = torch.arange(1, added + 1).repeat(int(real.sum()))

    @staticmethod
    def _closing(old: Tensor, real: Tensor, packed: Packed) -> Tensor:
        """Return the entry (R,) of padding that ends each row."""
        padding = (~real).nonzero()[:, 0]
        ends = (torch.arange(packed.rows) + 1) * packed.row_length
        return padding[torch.searchsorted(old[1:][padding].contiguous(), ends)]
