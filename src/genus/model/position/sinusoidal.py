"""Sinusoidal positions (Vaswani et al. 2017, section 3.5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genus.model.position import NoPosition


class Sinusoidal(NoPosition):
    """Sinusoidal position embedding: (sin p ω, cos p ω) at position p, ω = 10000^(-2n / H) (Vaswani et al. 2017).

    The sines come first, then the cosines, as in tensor2tensor and CTRL; in the paper they take turns.
    """

    @property
    def in_words(self) -> str:
        """Name of the part in tables."""
        return "sinusoidal position"

    def check(self, size: int) -> None:
        """Check that the embedding size is even (ValueError)."""
        if size % 2:
            raise ValueError(f"position: an embedding size of {size} is odd: half of it are sines, half cosines")

    def build(self, size: int) -> nn.Module:
        """Return the module, from positions (T,) to vectors (T, H)."""
        return SinusoidalPositions(size)


class SinusoidalPositions(nn.Module):
    """The module of sinusoidal positions, without parameters."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, positions: Tensor) -> Tensor:
        """Return position embeddings (T, size) of positions (T,), computed in double precision."""
        return encoded(positions.double(), self.size)


def encoded(distance: Tensor, size: int) -> Tensor:
    """Return sinusoidal encodings (X, size): sines, then cosines, of distances (X,) times 10000^(-2n / size)."""
    rate = 10000.0 ** (-torch.arange(0, size, 2, device=distance.device, dtype=distance.dtype) / size)
    angle = distance[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], -1)
