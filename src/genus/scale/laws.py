"""Scaling laws: loss as a function of parameters N, tokens D or FLOPs C.

A law is fitted by coordinates θ in which logarithms are counted from their mean over the points, so that its constants
hardly depend on each other; `constants` are those of its paper.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

Of = Literal["parameters", "tokens", "flops"]
LETTERS: dict[str, str] = {"parameters": "N", "tokens": "D", "flops": "C"}


class Law(Part, ABC):
    """The slot of scaling laws."""

    coordinates: ClassVar[int]
    """P, the number of constants."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[Of, ...]:
        """What the loss is a function of."""

    @abstractmethod
    def starts(self, means: Sequence[float], level: float) -> Tensor:
        """Return (S, P) starts of a fit, for logarithms with these means and a loss of about e^level."""

    @abstractmethod
    def log_loss(self, theta: Tensor, logs: Tensor) -> Tensor:
        """Return (S, n) logarithms of the loss for (S, P) coordinates and (n, inputs) logarithms without their mean."""

    @abstractmethod
    def constants(self, theta: Sequence[float], means: Sequence[float]) -> dict[str, float]:
        """Return the constants as the law's paper writes them."""


def grid(*values: Iterable[float]) -> Tensor:
    """Return all combinations as rows."""
    return torch.tensor(list(itertools.product(*values)), dtype=torch.float64)


class PowerLaw(Law):
    """L(X) = (X_c / X)^α (Kaplan et al. 2020, arXiv:2001.08361, equations 1.1 to 1.3)."""

    coordinates: ClassVar[int] = 2

    of: Of = "parameters"

    @property
    def inputs(self) -> tuple[Of, ...]:
        """The one that it is of."""
        return (self.of,)

    def starts(self, means: Sequence[float], level: float) -> Tensor:
        """Return starts at the loss of the points, with several exponents."""
        return grid([level], [0.03, 0.1, 0.3])

    def log_loss(self, theta: Tensor, logs: Tensor) -> Tensor:
        """Return log L = c - α x."""
        return theta[:, :1] - theta[:, 1:] * logs[:, 0]

    def constants(self, theta: Sequence[float], means: Sequence[float]) -> dict[str, float]:
        """Return α and X_c."""
        level, alpha = theta
        letter = LETTERS[self.of]
        return {f"alpha_{letter}": alpha, f"{letter}_c": _exp(level / alpha + means[0] if alpha else math.inf)}


class Saturating(Law):
    """L(X) = E + A / X^α, with a loss E that remains (Henighan et al. 2020, arXiv:2010.14701, equation 1.1)."""

    coordinates: ClassVar[int] = 3

    of: Of = "parameters"

    @property
    def inputs(self) -> tuple[Of, ...]:
        """The one that it is of."""
        return (self.of,)

    def starts(self, means: Sequence[float], level: float) -> Tensor:
        """Return starts with several shares of the loss that remain."""
        below = (math.log(share) for share in (0.1, 0.5, 0.8, 0.95))
        return torch.tensor(
            [
                [level + e, level + math.log1p(-math.exp(e)), alpha]
                for e, alpha in itertools.product(below, (0.1, 0.3, 0.5, 1.0))
            ],
            dtype=torch.float64,
        )

    def log_loss(self, theta: Tensor, logs: Tensor) -> Tensor:
        """Return log L = LSE(e, a - α x)."""
        e, a, alpha = theta.T[:, :, None]
        return torch.logaddexp(e + torch.zeros_like(logs[:, 0]), a - alpha * logs[:, 0])

    def constants(self, theta: Sequence[float], means: Sequence[float]) -> dict[str, float]:
        """Return E, A and α."""
        e, a, alpha = theta
        return {"E": _exp(e), "A": _exp(a + alpha * means[0]), "alpha": alpha}


class Chinchilla(Law):
    """L(N, D) = E + A / N^α + B / D^β (Hoffmann et al. 2022, arXiv:2203.15556, equation 2)."""

    coordinates: ClassVar[int] = 5

    @property
    def inputs(self) -> tuple[Of, ...]:
        """Parameters and tokens."""
        return ("parameters", "tokens")

    def starts(self, means: Sequence[float], level: float) -> Tensor:
        """Return the paper's grid (appendix D.3): α, β from 0 to 2, log E from -1 to 1, log A, log B from 0 to 25."""
        exponents = (0.0, 0.5, 1.0, 1.5, 2.0)
        found = grid((-1.0, -0.5, 0.0, 0.5, 1.0), range(0, 30, 5), range(0, 30, 5), exponents, exponents)
        for column, exponent, mean in ((1, 3, means[0]), (2, 4, means[1])):
            found[:, column] -= found[:, exponent] * mean
        return found

    def log_loss(self, theta: Tensor, logs: Tensor) -> Tensor:
        """Return log L = LSE(e, a - α n, b - β d)."""
        e, a, b, alpha, beta = theta.T[:, :, None]
        return torch.logaddexp(torch.logaddexp(a - alpha * logs[:, 0], b - beta * logs[:, 1]), e)

    def constants(self, theta: Sequence[float], means: Sequence[float]) -> dict[str, float]:
        """Return E, A, B, α and β."""
        e, a, b, alpha, beta = theta
        return {
            "E": _exp(e),
            "A": _exp(a + alpha * means[0]),
            "B": _exp(b + beta * means[1]),
            "alpha": alpha,
            "beta": beta,
        }


class Kaplan(Law):
    """L(N, D) = ((N_c / N)^(α_N / α_D) + D_c / D)^α_D (Kaplan et al. 2020, equation 1.5)."""

    coordinates: ClassVar[int] = 4

    @property
    def inputs(self) -> tuple[Of, ...]:
        """Parameters and tokens."""
        return ("parameters", "tokens")

    def starts(self, means: Sequence[float], level: float) -> Tensor:
        """Return starts at which size or data or both bound the loss."""
        exponents = [math.log(alpha) for alpha in (0.05, 0.1, 0.3)]
        parts = (level - 1.0, level - 0.1, level)
        return grid(parts, parts, (0.05, 0.1, 0.3), exponents)

    def log_loss(self, theta: Tensor, logs: Tensor) -> Tensor:
        """Return log L = α_D LSE((u - α_N n) / α_D, (v - α_D d) / α_D), where α_D is above 0."""
        u, v, alpha_n, log_alpha_d = theta.T[:, :, None]
        alpha_d = log_alpha_d.exp()
        joined: Tensor = alpha_d * torch.logaddexp((u - alpha_n * logs[:, 0]) / alpha_d, v / alpha_d - logs[:, 1])
        return joined

    def constants(self, theta: Sequence[float], means: Sequence[float]) -> dict[str, float]:
        """Return α_N, α_D, N_c and D_c."""
        u, v, alpha_n, log_alpha_d = theta
        alpha_d = math.exp(log_alpha_d)
        n = u / alpha_n + means[0] if alpha_n else math.inf
        return {"alpha_N": alpha_n, "alpha_D": alpha_d, "N_c": _exp(n), "D_c": _exp(v / alpha_d + means[1])}


def _exp(value: float) -> float:
    """Return e^value, infinity where it is too large."""
    return math.exp(value) if value < 700.0 else math.inf
