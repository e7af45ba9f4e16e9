"""Normalization of hidden states."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from genus.model.cost import Demand
from genus.part import NotNegative, Part


class Norm(Part, ABC):
    """A choice of normalization over the last axis."""

    @abstractmethod
    def build(self, size: int) -> nn.Module:
        """Return the module for vectors of `size` numbers."""

    @abstractmethod
    def demand(self, size: int) -> Demand:
        """Return what it needs."""


class NoNorm(Norm):
    """x itself."""

    def build(self, size: int) -> nn.Module:
        """Return the identity."""
        return nn.Identity()

    def demand(self, size: int) -> Demand:
        """Return nothing."""
        return Demand()


class LayerNorm(Norm):
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis (Ba et al. 2016, equation 4)."""

    eps: NotNegative = 1e-12

    def build(self, size: int) -> nn.Module:
        """Return PyTorch's own layer normalization."""
        return nn.LayerNorm(size, eps=self.eps)

    def demand(self, size: int) -> Demand:
        """Return a weight and a bias a number; its input is kept."""
        return Demand(parameters=2 * size, kept=size)


class Dropped(Norm):
    """d(norm(x)), d dropout."""

    norm: Norm
    dropout: float

    def build(self, size: int) -> nn.Module:
        """Return the norm and dropout after it."""
        return nn.Sequential(self.norm.build(size), nn.Dropout(self.dropout))

    def demand(self, size: int) -> Demand:
        """Return what the norm needs."""
        return self.norm.demand(size)
