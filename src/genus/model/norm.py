"""Normalization layers."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from genus.model.cost import ComponentCost
from genus.part import NotNegative, Part


class Norm(Part, ABC):
    """The slot of normalizations over the last dimension."""

    @abstractmethod
    def build(self, size: int) -> nn.Module:
        """Return the module for vectors of dimension `size`."""

    @abstractmethod
    def cost(self, size: int) -> ComponentCost:
        """Return the cost per vector of dimension `size`."""


class Identity(Norm):
    """No normalization: the identity."""

    def build(self, size: int) -> nn.Module:
        """Return PyTorch's identity module."""
        return nn.Identity()

    def cost(self, size: int) -> ComponentCost:
        """Return a cost of 0."""
        return ComponentCost()


class LayerNorm(Norm):
    """Layer normalization: (x - mean) / sqrt(variance + eps) * weight + bias (Ba et al. 2016, equation 4)."""

    eps: NotNegative = 1e-12

    def build(self, size: int) -> nn.Module:
        """Return PyTorch's `LayerNorm`."""
        return nn.LayerNorm(size, eps=self.eps)

    def cost(self, size: int) -> ComponentCost:
        """Return the cost: a weight and a bias per dimension, and the input, which is kept for the backward pass."""
        return ComponentCost(parameters=2 * size, activations=size)


class RMSNorm(Norm):
    """Root mean square normalization: x / sqrt(mean(x²) + eps) * weight (Zhang and Sennrich 2019, equation 4)."""

    eps: NotNegative = 1e-6

    @property
    def in_words(self) -> str:
        """Name of the part in tables."""
        return "RMSNorm"

    def build(self, size: int) -> nn.Module:
        """Return PyTorch's `RMSNorm`."""
        return nn.RMSNorm(size, eps=self.eps)

    def cost(self, size: int) -> ComponentCost:
        """Return the cost: a weight per dimension, and the input, which is kept for the backward pass."""
        return ComponentCost(parameters=size, activations=size)


class NormWithDropout(Norm):
    """A normalization followed by dropout: dropout(norm(x))."""

    norm: Norm
    dropout: float

    def build(self, size: int) -> nn.Module:
        """Return the normalization and dropout in sequence."""
        return nn.Sequential(self.norm.build(size), nn.Dropout(self.dropout))

    def cost(self, size: int) -> ComponentCost:
        """Return the cost of the normalization."""
        return self.norm.cost(size)
