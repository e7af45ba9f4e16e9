"""Attention masks: which keys a query attends to, among the tokens of one sequence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping  # noqa: TC003  (the fields of a dataclass)
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from genus.part import Count, Part

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Place:
    """What a mask may depend on, of queries or of keys; all tensors of one side have the same shape."""

    position: Tensor
    """Positions within the sequence."""
    facts: Mapping[str, Tensor] = field(default_factory=dict)
    """Facts by name, as in a packed batch."""


class AttentionMask(Part, ABC):
    """An attention mask: a rule on pairs of tokens of the same sequence; tokens of others never see each other.

    `allowed` is its only definition: row masks, FlexAttention masks and the reference come from it. `window` says the
    same to variable-length flash attention, where it can.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """Names of the facts that the rule reads."""
    window: ClassVar[tuple[int, int] | None] = None
    """How many tokens before and after its own position a query sees, -1 for all; None where no window says it."""

    @abstractmethod
    def allowed(self, query: Place, key: Place) -> Tensor | None:
        """Return bool (broadcast), true where the query sees the key, or None for everywhere."""

    @property
    def full(self) -> bool:
        """Whether every token sees its whole sequence."""
        return self.window == (-1, -1)

    @property
    def causal(self) -> bool:
        """Whether no token sees one after it."""
        return self.window is not None and self.window[1] == 0

    def after_prompt(self) -> AttentionMask:
        """Return the mask of the tokens that are generated one by one after a prompt."""
        return self


class Full(AttentionMask):
    """Every token sees its whole sequence."""

    window: ClassVar[tuple[int, int] | None] = (-1, -1)

    @property
    def in_words(self) -> str:
        """The usual case."""
        return ""

    def allowed(self, query: Place, key: Place) -> Tensor | None:
        """Return None."""
        return None


class Causal(AttentionMask):
    """A token sees itself and those before it."""

    window: ClassVar[tuple[int, int] | None] = (-1, 0)

    def allowed(self, query: Place, key: Place) -> Tensor | None:
        """Return key <= query."""
        return key.position <= query.position


class Banded(AttentionMask):
    """A token sees itself and the `width` - 1 tokens before it (Child et al. 2019; GPT-3, section 2.1)."""

    width: Count

    @property
    def in_words(self) -> str:
        """Its width."""
        return f"banded ({self.width})"

    @property
    def window(self) -> tuple[int, int]:  # type: ignore[override]
        """Return the band."""
        return (self.width - 1, 0)

    def allowed(self, query: Place, key: Place) -> Tensor | None:
        """Return query - width < key <= query."""
        return (key.position <= query.position) & (key.position > query.position - self.width)


class Prefix(AttentionMask):
    """A token sees itself, those before it, and the prefix of its sequence (Raffel et al. 2020, section 3.2.1)."""

    needs: ClassVar[frozenset[str]] = frozenset({"prefix"})

    def allowed(self, query: Place, key: Place) -> Tensor | None:
        """Return key <= query, or key in the prefix."""
        return (key.position <= query.position) | key.facts["prefix"].bool()

    def after_prompt(self) -> AttentionMask:
        """Return the causal mask: the prefix lies before all that is generated."""
        return Causal()
