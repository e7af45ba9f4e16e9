"""Notices on a table: how much of it was replaced, is missing or is in doubt, one line for each kind."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Notices:
    """Counts of what a user should know of a table, each with the line where it was found first."""

    found: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Count and first line, by what is counted."""

    def add(self, what: str, line: int, count: int = 1) -> None:
        """Count something of a line, with what a user should know and may do."""
        if count:
            before, first = self.found.get(what, (0, line))
            self.found[what] = before + count, first

    def sentences(self) -> list[str]:
        """Return a sentence for each kind."""
        return [f"{what} ({count:,}, first in line {line})" for what, (count, line) in self.found.items()]

    def lines(self, where: object) -> list[str]:
        """Return one line for each kind."""
        return [f"{where}: {sentence}" for sentence in self.sentences()]
