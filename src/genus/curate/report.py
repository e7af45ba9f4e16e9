"""What a curation did, in numbers that add up over shards: read, kept, and removed by which rule of which step."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.curate.tokenizers import loaded
from genus.tokens.store.tokenize_corpus import stretches

if TYPE_CHECKING:
    from pathlib import Path

    from genus.curate import Outcome, Removal
    from genus.curate.document import Document

SAMPLES = 3
"""Samples of each rule: the first ones of the corpus."""
SHOWN = 200
"""Characters of a sample."""
COUNTED = 1 << 12
"""Texts whose tokens are not counted again by a later step."""

Numbers = dict[str, Any]
"""Nested tables of numbers, and lists of samples."""


class Tally:
    """The numbers of one shard of one pass."""

    def __init__(self, tokenizer: Path | None = None) -> None:
        """Begin with nothing; with a tokenizer's folder, tokens are counted beside bytes."""
        self.numbers: Numbers = {}
        self.tokenizer = tokenizer

    def count(self, *path: str, by: int = 1) -> None:
        """Add to the number at a path."""
        table = self.numbers
        for step in path[:-1]:
            table = table.setdefault(step, {})
        table[path[-1]] = table.get(path[-1], 0) + by

    def document(self, what: str, document: Document) -> None:
        """Count a document that is `read` or `kept`, in all, of its source, and of its length in characters."""
        sizes = self._sizes(document.text)
        for path in ((what,), ("sources", document.source, what)):
            self.count(*path, "documents")
            self._add(path, sizes)
        self.count("lengths", what, str(1 << max(0, len(document.text).bit_length() - 1)))

    def outcome(self, step: str, document: Document, outcome: Outcome) -> None:
        """Count what a step removes of a document, or changes in it."""
        for removal in outcome.lines:
            self._removal(step, "lines", document, removal, removal.text)
        if outcome.document is not None:
            self._removal(step, "documents", document, outcome.document, document.text)
        elif not outcome.lines and outcome.text != document.text:
            self.count("changed", step, "documents")
        for name in outcome.found:
            self.count("found", step, name)
        if outcome.group is not None:
            self.count("groups", step, outcome.group, "documents")
            self._add(("groups", step, outcome.group), self._sizes(document.text))

    def _removal(self, step: str, what: str, document: Document, removal: Removal, gone: str) -> None:
        rule = ("removed", step, removal.rule)
        self.count(*rule, what)
        self._add(rule, self._sizes(gone))
        table = self.numbers["removed"][step][removal.rule]
        samples = table.setdefault("samples", [])
        if len(samples) < SAMPLES:
            samples.append({**_place(document), "text": removal.text[:SHOWN]})

    def _sizes(self, text: str) -> dict[str, int]:
        """Return the bytes of a text, and its tokens where they are counted."""
        sizes = {"bytes": len(text.encode(errors="replace"))}
        return sizes if self.tokenizer is None else {**sizes, "tokens": tokens_of(text, self.tokenizer)}

    def _add(self, path: tuple[str, ...], sizes: dict[str, int]) -> None:
        for name, size in sizes.items():
            self.count(*path, name, by=size)


@lru_cache(COUNTED)
def tokens_of(text: str, tokenizer: Path) -> int:
    """Return how many tokens a token store would have of a text."""
    found = loaded(tokenizer)
    size = sum(len(part) for stretch, cuts in stretches(text, 0) for part in found.encode_parts(stretch, cuts))
    return size // np.dtype(found.dtype).itemsize


def added(left: Numbers, right: Numbers) -> Numbers:
    """Return the sum of two tables: numbers add up, of samples the first are kept."""
    found = dict(left)
    for name, value in right.items():
        old = found.get(name)
        if old is None:
            found[name] = value
        elif isinstance(value, dict):
            found[name] = added(old, value)
        elif isinstance(value, list):
            found[name] = [*old, *value][:SAMPLES]
        else:
            found[name] = old + value
    return found


def removed_most(report: Numbers, most: int) -> list[tuple[str, str, Numbers]]:
    """Return (step, rule, numbers) of the rules that removed the most bytes."""
    rules = [(step, rule, found) for step, rules in report.get("removed", {}).items() for rule, found in rules.items()]
    return sorted(rules, key=lambda found: -found[2]["bytes"])[:most]


def by_table(report: Numbers) -> dict[str, list[int]]:
    """Return of each evaluation table, whose rows are `found` as `table:row`, in how many documents each row is."""
    tables: dict[str, list[int]] = {}
    for names in report.get("found", {}).values():
        for name, number in names.items():
            tables.setdefault(name.rpartition(":")[0], []).append(number)
    return tables


def _place(document: Document) -> dict[str, Any]:
    return {name: document.identity[name] for name in ("source", "row") if name in document.identity}
