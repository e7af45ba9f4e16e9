"""Who may see whom, among the tokens of one sequence."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from genus.part import Part


class Visibility(Part, ABC):
    """A rule on pairs of positions of the same sequence; tokens of different sequences never see each other."""

    @abstractmethod
    def allowed(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Return bool, true where the token at position `query` sees the one at `key` (broadcast), or None for everywhere."""

    @property
    def causal(self) -> bool:
        """Whether the rule is exactly `key <= query`, which kernels have a fast way for."""
        return False


class Full(Visibility):
    """Everyone sees everyone."""

    def allowed(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Return None."""
        return None


class Causal(Visibility):
    """A token sees itself and those before it."""

    def allowed(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Return key <= query."""
        return key <= query

    @property
    def causal(self) -> bool:
        """True."""
        return True
