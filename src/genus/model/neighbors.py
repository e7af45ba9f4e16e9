"""Neighbors of tokens within their sequence: what a convolution over packed sequences reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genus.batch import Packed
    from genus.model.initialization import Initialization


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The tokens at offsets `first` to `last` from each token; those of other sequences count as 0."""

    first: int
    valid: tuple[Tensor, ...]
    """(T, 1) bool for each offset from `first` on: whether the token there is of the same sequence."""

    @classmethod
    def of(cls, packed: Packed, first: int, last: int) -> Neighbors:
        """Return the neighbors of a packed stream at offsets from `first` up to `last`, 0 among them."""
        sequence = packed.sequence
        padded, length = F.pad(sequence, (-first, last), value=-2), sequence.shape[0]
        each = (padded[place : place + length] == sequence for place in range(last - first + 1))
        return cls(first, tuple(same[:, None] for same in each))

    def shifted(self, x: Tensor) -> Iterator[Tensor]:
        """Yield, for each offset, the vectors (T, ...) that lie there, whosever they are."""
        last = len(self.valid) - 1 + self.first
        padded, length = F.pad(x, (0, 0) * (x.dim() - 1) + (-self.first, last)), x.shape[0]
        for place in range(len(self.valid)):
            yield padded[place : place + length]

    def gathered(self, x: Tensor) -> Tensor:
        """Return the vectors (T, H) at all offsets side by side, (T, offsets H)."""
        each = zip(self.shifted(x), self.valid, strict=True)
        return torch.cat([part.masked_fill(~valid, 0.0) for part, valid in each], -1)

    def convolved(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Return Σ over offsets of kernel · x (T, A, D): a depthwise convolution whose heads share their numbers.

        Args:
            x: (T, A, D).
            kernel: for each offset, (offsets, 1 or T, A).
        """
        total: Tensor | None = None
        for part, valid, weight in zip(self.shifted(x), self.valid, kernel.unbind(), strict=True):
            product = part * (weight * valid)[:, :, None]
            total = product if total is None else total + product
        assert total is not None
        return total


class SeparableConvolution(nn.Module):
    """Separable convolution: W (Σ over offsets of a number per channel · x) + b."""

    def __init__(self, inputs: int, outputs: int, offsets: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(inputs, offsets))
        self.pointwise = nn.Linear(inputs, outputs)

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the numbers of each channel as a map of so many inputs."""
        initialization.draw(self.kernel, "hidden")

    def forward(self, x: Tensor, neighbors: Neighbors) -> Tensor:
        """Forward pass: return (T, outputs) for x (T, inputs)."""
        kernel = self.kernel.t()[:, None].to(x.dtype)
        return self.pointwise(neighbors.convolved(x[:, :, None], kernel).flatten(1))  # type: ignore[no-any-return]
