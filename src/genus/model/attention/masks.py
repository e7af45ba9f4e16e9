"""Attention masks: the keys that a query attends to, among the tokens of one sequence."""

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
    """What an attention mask may depend on, of queries or of keys; all tensors of one side have the same shape."""

    position: Tensor
    """Positions within the sequence."""
    facts: Mapping[str, Tensor] = field(default_factory=dict)
    """Facts by name, as in `Packed.facts`."""


class AttentionMask(Part, ABC):
    """The slot of attention masks: a rule on pairs of tokens of one sequence; there is no attention across sequences.

    `allowed` is its only definition, from which row masks, FlexAttention masks and the reference are made. `window` or
    `prefix` is the same rule for variable-length flash attention, where it has one.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """Names of the facts (`Packed.facts`) that the rule reads."""
    window: ClassVar[tuple[int, int] | None] = None
    """Numbers of tokens before and after a query that it attends to, -1 for all; None: the mask is not a window."""
    prefix: ClassVar[str | None] = None
    """Name of the fact that is 1 for the tokens of prefixes, where those attend to one another and others causally."""

    @abstractmethod
    def allowed(self, query: Place, key: Place) -> Tensor | None:
        """Return a bool mask (broadcast), true where the query attends to the key; None: true everywhere."""

    @property
    def full(self) -> bool:
        """Whether attention is bidirectional: every token attends to its whole sequence."""
        return self.window == (-1, -1)

    @property
    def causal(self) -> bool:
        """Whether attention is causal: no token attends to a later one."""
        return self.window is not None and self.window[1] == 0

    def after_prompt(self) -> AttentionMask:
        """Return the mask for tokens that are generated one by one after a prompt."""
        return self


class Full(AttentionMask):
    """Full (bidirectional) attention: every token attends to its whole sequence."""

    window: ClassVar[tuple[int, int] | None] = (-1, -1)

    @property
    def in_words(self) -> str:
        """Empty, as full attention is the default."""
        return ""

    def allowed(self, query: Place, key: Place) -> Tensor | None:
        """Return None: the query attends to every key of its sequence."""
        return None


class Causal(AttentionMask):
    """Causal attention: a token attends to itself and to earlier tokens."""

    window: ClassVar[tuple[int, int] | None] = (-1, 0)

    def allowed(self, query: Place, key: Place) -> Tensor | None:
        """Return the mask key <= query."""
        return key.position <= query.position


class Ordered(AttentionMask):
    """Attention in an order of its own for each sequence: a token attends to those that come no later in the order.

    The order 0, 1, 2, ... is causal attention, 0 for all tokens is full attention, 0 for the first ones and then 1, 2,
    ... is that of a prefix (UniLM's masks; Dong et al. 2019).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"order"})

    def allowed(self, query: Place, key: Place) -> Tensor | None:
        """Return the mask order of key <= order of query."""
        return key.facts["order"] <= query.facts["order"]


class OrderedQueries(Ordered):
    """Attention in an order of its own for each sequence, where tokens with an odd number are seen by themselves alone.

    So they ask for what stands at their place given what comes before, as a query stream does, and tell nobody
    (`PermutedLM`).
    """

    def allowed(self, query: Place, key: Place) -> Tensor | None:
        """Return the mask: the same number, or an even one that comes before."""
        asked, given = query.facts["order"], key.facts["order"]
        return (given == asked) | ((given < asked) & (given % 2 == 0))


class Banded(AttentionMask):
    """Locally banded causal attention: to itself and the `width` - 1 tokens before (Child et al. 2019; GPT-3, 2.1)."""

    width: Count

    @property
    def in_words(self) -> str:
        """The mask with its width in tokens."""
        return f"banded ({self.width})"

    @property
    def window(self) -> tuple[int, int]:  # type: ignore[override]
        """The sliding window: `width` - 1 tokens before the query, none after it."""
        return (self.width - 1, 0)

    def allowed(self, query: Place, key: Place) -> Tensor | None:
        """Return the mask query - width < key <= query."""
        return (key.position <= query.position) & (key.position > query.position - self.width)


class Prefix(AttentionMask):
    """Prefix mask: causal, with full attention to the prefix of the sequence (Raffel et al. 2020, section 3.2.1)."""

    needs: ClassVar[frozenset[str]] = frozenset({"prefix"})
    prefix: ClassVar[str | None] = "prefix"

    def allowed(self, query: Place, key: Place) -> Tensor | None:
        """Return the mask (key <= query) or (key in the prefix)."""
        return (key.position <= query.position) | key.facts["prefix"].bool()

    def after_prompt(self) -> AttentionMask:
        """Return the causal mask, as the prefix lies before all generated tokens."""
        return Causal()
