"""Normalization of hidden states."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from genus.model.cost import ComponentCost
from genus.part import NotNegative, Part


class Norm(Part, ABC):
    """A choice of normalization over the last axis."""

    @abstractmethod
    def build(self, size: int) -> nn.Module:
        """Return the module for vectors of `size` numbers."""

    @abstractmethod
    def cost(self, size: int) -> ComponentCost:
        """Return what it needs."""


class Identity(Norm):
    """x itself."""

    def build(self, size: int) -> nn.Module:
        """Return the identity."""
        return nn.Identity()

    def cost(self, size: int) -> ComponentCost:
        """Return nothing."""
        return ComponentCost()


class LayerNorm(Norm):
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis (Ba et al. 2016, equation 4)."""

    eps: NotNegative = 1e-12

    def build(self, size: int) -> nn.Module:
        """Return PyTorch's own layer normalization."""
        return nn.LayerNorm(size, eps=self.eps)

    def cost(self, size: int) -> ComponentCost:
        """Return a weight and a bias a number; its input is kept."""
        return ComponentCost(parameters=2 * size, activations=size)


class NormWithDropout(Norm):
    """d(norm(x)), d dropout."""

    norm: Norm
    dropout: float

    def build(self, size: int) -> nn.Module:
        """Return the norm and dropout after it."""
        return nn.Sequential(self.norm.build(size), nn.Dropout(self.dropout))

    def cost(self, size: int) -> ComponentCost:
        """Return what the norm needs."""
        return self.norm.cost(size)
