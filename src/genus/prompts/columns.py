"""The slot `Column`: columns of a prompted task that are derived from those of its table."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from genus.errors import UsageError
from genus.part import Part
from genus.prompts.template import Template

if TYPE_CHECKING:
    from collections.abc import Mapping


class Column(Part, ABC):
    """A column that is derived from others."""

    name: str
    of: str
    """Template of the text that it is derived from, such as `{text}`."""

    def __post_init__(self) -> None:
        """Check the template (UsageError)."""
        Template(self.of)

    def derived(self, row: Mapping[str, Any]) -> str:
        """Return the column's value in a row.

        Raises:
            ValueError: a column is missing, or its text is none that the value can be derived from.
        """
        return self.value(Template(self.of).filled(row))

    @abstractmethod
    def value(self, text: str) -> str:
        """Return the value for a text (ValueError if there is none)."""


class Match(Column):
    """What a regular expression finds first: its first group, or all of it without one."""

    pattern: str

    def __post_init__(self) -> None:
        """Check the expression (UsageError)."""
        super().__post_init__()
        compiled(self.pattern)

    def value(self, text: str) -> str:
        """Return what is found (ValueError if nothing is)."""
        found = compiled(self.pattern).search(text)
        if found is None:
            raise ValueError(f"column {self.name!r}: {self.pattern!r} does not occur in {text!r:.60}")
        return found[1 if found.re.groups else 0] or ""


class Lookup(Column):
    """The value of a text in a table of texts."""

    values: tuple[tuple[str, str], ...]
    """Pairs of a text and its value."""

    def value(self, text: str) -> str:
        """Return the value (ValueError if the table does not have the text)."""
        known = dict(self.values)
        if text not in known:
            raise ValueError(f"column {self.name!r}: expected {' or '.join(map(repr, known))}, got {text!r:.60}")
        return known[text]


def compiled(pattern: str) -> re.Pattern[str]:
    """Return a compiled regular expression (UsageError if it is none)."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{pattern!r} is no regular expression: {error}") from None
