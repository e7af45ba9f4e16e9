"""Activation functions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from genus.part import Part


class Activation(Part, ABC):
    """The slot of element-wise activation functions."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Return the activations, of the shape of x."""

    def build(self) -> nn.Module:
        """Return the activation function as a module."""
        return Apply(self)


class Apply(nn.Module):
    """The module of an activation function, without parameters."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations, of the shape of x."""
        return self.activation(x)


class Gelu(Activation):
    """GELU: x Φ(x), with Φ the normal distribution function or its tanh form (Hendrycks and Gimpel 2016, section 2)."""

    approximate: Literal["none", "tanh"] = "none"

    @property
    def in_words(self) -> str:
        """The usual name of the function."""
        return "GELU" if self.approximate == "none" else f"GELU ({self.approximate})"

    def __call__(self, x: Tensor) -> Tensor:
        """Return x Φ(x)."""
        return F.gelu(x, approximate=self.approximate)


class QuickGelu(Activation):
    """Sigmoid form of GELU: x sigmoid(1.702 x) (Hendrycks and Gimpel 2016, section 2; CLIP's released code)."""

    @property
    def in_words(self) -> str:
        """The name that it has in CLIP's code and in transformers."""
        return "quick GELU"

    def __call__(self, x: Tensor) -> Tensor:
        """Return x sigmoid(1.702 x)."""
        return x * F.sigmoid(1.702 * x)


class Relu(Activation):
    """ReLU: max(0, x)."""

    @property
    def in_words(self) -> str:
        """The usual name of the function."""
        return "ReLU"

    def __call__(self, x: Tensor) -> Tensor:
        """Return max(0, x)."""
        return F.relu(x)


class Silu(Activation):
    """SiLU, also called Swish: x sigmoid(x) (Hendrycks and Gimpel 2016, section 2; Ramachandran et al. 2017)."""

    @property
    def in_words(self) -> str:
        """The usual name of the function."""
        return "SiLU"

    def __call__(self, x: Tensor) -> Tensor:
        """Return x sigmoid(x)."""
        return F.silu(x)


class Tanh(Activation):
    """The hyperbolic tangent, tanh x."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return tanh x."""
        return x.tanh()
