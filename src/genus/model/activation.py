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


class Elu(Activation):
    """ELU: x above 0, e^x - 1 below (Clevert et al. 2015, equation 16, with alpha = 1)."""

    @property
    def in_words(self) -> str:
        """The usual name of the function."""
        return "ELU"

    def __call__(self, x: Tensor) -> Tensor:
        """Return x or e^x - 1."""
        return F.elu(x)


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


class Linear(Activation):
    """The identity, x: a gate with it is a product of two linear maps (LiGLU; Shazeer 2020, section 2: Bilinear)."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return x."""
        return x


class Relu(Activation):
    """ReLU: max(0, x)."""

    @property
    def in_words(self) -> str:
        """The usual name of the function."""
        return "ReLU"

    def __call__(self, x: Tensor) -> Tensor:
        """Return max(0, x)."""
        return F.relu(x)


class Selu(Activation):
    """SELU: λ x above 0, λ alpha (e^x - 1) below, with the λ and alpha of Klambauer et al. 2017, equation 2."""

    @property
    def in_words(self) -> str:
        """The usual name of the function."""
        return "SELU"

    def __call__(self, x: Tensor) -> Tensor:
        """Return λ x or λ alpha (e^x - 1)."""
        return F.selu(x)


class Sigmoid(Activation):
    """The logistic function, 1 / (1 + e^-x): the gate of GLU (Dauphin et al. 2016)."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return 1 / (1 + e^-x)."""
        return x.sigmoid()


class Silu(Activation):
    """SiLU, also called Swish: x sigmoid(x) (Hendrycks and Gimpel 2016, section 2; Ramachandran et al. 2017)."""

    @property
    def in_words(self) -> str:
        """The usual name of the function."""
        return "SiLU"

    def __call__(self, x: Tensor) -> Tensor:
        """Return x sigmoid(x)."""
        return F.silu(x)


class Softplus(Activation):
    """Softplus: log(1 + e^x)."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return log(1 + e^x)."""
        return F.softplus(x)


class Tanh(Activation):
    """The hyperbolic tangent, tanh x."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return tanh x."""
        return x.tanh()
