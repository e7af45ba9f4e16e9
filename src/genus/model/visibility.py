"""Who may see whom, among the tokens of one sequence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from genus.part import Part

if TYPE_CHECKING:
    from torch import Tensor


class Visibility(Part, ABC):
    """A rule on pairs of positions of the same sequence; tokens of different sequences never see each other."""

    @abstractmethod
    def allowed(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Return bool, true where the token at `query` sees the one at `key` (broadcast), or None for everywhere."""

    @property
    def full(self) -> bool:
        """Whether everyone sees everyone, which needs no mask in variable-length kernels."""
        return False

    @property
    def causal(self) -> bool:
        """Whether the rule is exactly `key <= query`, which kernels have a fast way for."""
        return False


class Full(Visibility):
    """Everyone sees everyone."""

    @property
    def in_words(self) -> str:
        """The usual case."""
        return ""

    def allowed(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Return None."""
        return None

    @property
    def full(self) -> bool:
        """True."""
        return True


class Causal(Visibility):
    """A token sees itself and those before it."""

    def allowed(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Return key <= query."""
        return key <= query

    @property
    def causal(self) -> bool:
        """True."""
        return True
