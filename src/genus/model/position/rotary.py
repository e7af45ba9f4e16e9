"""Rotary position embeddings, RoPE (Su et al. 2021, RoFormer, section 3.2).

Legend: d dimensions of a head that rotate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from genus.model.position import NoPosition
from genus.part import Count, Positive, Share


class Rotary(NoPosition):
    """Rotary position embedding: pair n of a query's or key's dimensions at position p rotates by p base^(-2n / d).

    So attention scores depend on the positions of two tokens by their distance only; nothing is added to embeddings.
    """

    rotates: ClassVar[bool] = True

    base: Positive = 10_000.0
    fraction: Share = 1.0
    """d / D: the first d dimensions of a head rotate, the others do not (GPT-J, GPT-NeoX)."""
    interleaved: bool = False
    """Whether a pair is (2n, 2n + 1), as in the paper and GPT-J; else (n, n + d / 2), as in Llama."""

    @property
    def in_words(self) -> str:
        """Name of the part in tables."""
        return "rotary position"

    def rotation(self, head_size: int) -> RotaryPositions:
        """Return the module for heads of dimension D = `head_size`.

        Raises:
            ValueError: d is odd or below 2.
        """
        turning = round(head_size * self.fraction)
        if turning < 2 or turning % 2:
            raise ValueError(
                f"position.fraction: {self.fraction:g} of a head of {head_size} numbers is {turning}; "
                "expected an even number above 0, since they rotate in pairs"
            )
        return RotaryPositions(self, turning)

    def rates(self, turning: int, device: torch.device) -> Tensor:
        """Return the angle per position (d / 2,) of each pair, for d = `turning`, in double precision."""
        pair = torch.arange(0, turning, 2, dtype=torch.float64, device=device)
        return torch.pow(self.base, -pair / turning)


class RescaledRotary(Rotary):
    """Rotary position embedding with slower rotation of slow pairs, for texts longer than in training (Llama 3.1).

    With l the old length, a pair of wavelength w = 2π / rate keeps its rate if w < l / `high`; the rate is divided by
    `factor` if w > l / `low`; between, it is s rate + (1 - s) rate / factor for s = (l / w - low) / (high - low).
    Source: transformers, modeling_rope_utils.py, rope type "llama3", whose numbers for Llama 3.1 are the defaults.
    """

    factor: Positive = 8.0
    low: Positive = 1.0
    high: Positive = 4.0
    old_length: Count = 8192
    """l: the number of positions in training before the change."""

    def __post_init__(self) -> None:
        """Check the two bounds.

        Raises:
            ValueError: `high` is not above `low`.
        """
        if self.high <= self.low:
            raise ValueError(f"high: expected more than low ({self.low:g}), got {self.high:g}")

    def rates(self, turning: int, device: torch.device) -> Tensor:
        """Return the rescaled angle per position (d / 2,) of each pair."""
        rates = super().rates(turning, device)
        share = (self.old_length * rates / (2 * math.pi) - self.low) / (self.high - self.low)
        share = share.clamp(0, 1)
        return share * rates + (1 - share) * rates / self.factor


@dataclass(frozen=True, slots=True)
class Rotation:
    """The rotation of the queries or keys of T tokens."""

    cos: Tensor
    """(T, 1, d / 2), cosines of the angles."""
    sin: Tensor
    """(T, 1, d / 2), sines of the angles."""
    interleaved: bool

    def to(self, dtype: torch.dtype) -> Rotation:
        """Return the rotation in another precision."""
        return Rotation(self.cos.to(dtype), self.sin.to(dtype), self.interleaved)

    def turn(self, x_TAD: Tensor) -> Tensor:
        """Return rotated queries or keys (T, A, D)."""
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
    """The module of `Rotary`, from positions to rotations, without parameters."""

    def __init__(self, choice: Rotary, turning: int) -> None:
        super().__init__()
        self.choice, self.turning = choice, turning

    def forward(self, positions: Tensor) -> Rotation:
        """Return the rotation for positions (T,), computed in double precision."""
        angle = positions[:, None, None] * self.choice.rates(self.turning, positions.device)
        return Rotation(angle.cos(), angle.sin(), self.choice.interleaved)
