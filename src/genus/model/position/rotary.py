"""Rotary position embeddings (Su et al. 2021, RoFormer, section 3.2).

Legend: T tokens, A heads, D numbers of a head, d of them that rotate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from genus.model.position import NoPosition
from genus.part import Positive, Share


class Rotary(NoPosition):
    """Queries and keys at position p are rotated, pair n of their numbers by the angle p base^(-2n / d).

    So a score depends on the distance of two tokens alone; nothing is added to the embeddings.
    """

    rotates: ClassVar[bool] = True

    base: Positive = 10_000.0
    fraction: Share = 1.0
    """d / D: the first numbers of a head rotate, the others stay (GPT-J, GPT-NeoX)."""
    interleaved: bool = False
    """Whether a pair are neighbors (2n, 2n + 1), as in the paper and GPT-J; else (n, n + d / 2), as in Llama."""

    @property
    def in_words(self) -> str:
        """Its kind."""
        return "rotary position"

    def rotation(self, head_size: int) -> RotaryPositions:
        """Return the module.

        Raises:
            ValueError: the numbers that rotate cannot be paired.
        """
        turning = round(head_size * self.fraction)
        if turning < 2 or turning % 2:
            raise ValueError(f"position: {turning} of a head's {head_size} numbers are to rotate in pairs")
        return RotaryPositions(self, turning)


@dataclass(frozen=True, slots=True)
class Rotation:
    """The rotation of the queries or keys of T tokens."""

    cos: Tensor
    """(T, 1, d / 2)."""
    sin: Tensor
    """(T, 1, d / 2)."""
    interleaved: bool

    def to(self, dtype: torch.dtype) -> Rotation:
        """Return the same in another precision."""
        return Rotation(self.cos.to(dtype), self.sin.to(dtype), self.interleaved)

    def turn(self, x_TAD: Tensor) -> Tensor:
        """Return rotated vectors (T, A, D)."""
        turning = 2 * self.cos.shape[-1]
        x, rest = x_TAD[..., :turning], x_TAD[..., turning:]
        if self.interleaved:
            a, b = x[..., 0::2], x[..., 1::2]
            out = torch.stack([a * self.cos - b * self.sin, b * self.cos + a * self.sin], -1).flatten(-2)
        else:
            a, b = x.chunk(2, -1)
            out = torch.cat([a * self.cos - b * self.sin, b * self.cos + a * self.sin], -1)
        return out if rest.shape[-1] == 0 else torch.cat([out, rest], -1)


class RotaryPositions(nn.Module):
    """From positions to rotations; it has no parameters."""

    def __init__(self, choice: Rotary, turning: int) -> None:
        super().__init__()
        self.choice, self.turning = choice, turning

    def forward(self, positions: Tensor) -> Rotation:
        """Return the rotation of tokens at positions (T,), computed in double precision."""
        pair = torch.arange(0, self.turning, 2, dtype=torch.float64, device=positions.device)
        angle = positions[:, None, None] * self.choice.base ** (-pair / self.turning)
        return Rotation(angle.cos(), angle.sin(), self.choice.interleaved)
