"""Checks of labeled tables before training: what may make a result better or worse than it seems, a line for each kind.

They are pure functions of rows; nothing of a table is changed. What reading and tokenizing find, as texts that are
empty or too long, is told there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from genus.tasks.dataset import LabeledRow

MANY = 20
"""Number of classes that nothing is said of, however few rows they have."""
SKEWED = 0.9
"""The share of rows with one label from which the accuracy of always answering it is worth a word."""
FEW = 2
"""Rows that a class needs at least: one to learn from, one to be measured on."""
LEAK, CHANCE = 0.95, 0.5
"""A text gives its label away if so large a share of texts hold their own label, and at most so large a share that of
another row, as all texts hold an `a`."""
LEAST = 20
"""Rows from which shares say something."""
SHOWN = 3
"""Labels, or groups of them, that a line names at most."""


@dataclass(frozen=True)
class Checked:
    """The rows of a task as the checks read them."""

    splits: Mapping[str, Sequence[LabeledRow]]
    """Those of `train`, and of other splits by name."""
    columns: tuple[str, ...]
    """The columns of the texts."""
    classes: tuple[str, ...] = ()
    """All labels, if they are classes; the rows may lack some."""

    @property
    def train(self) -> Sequence[LabeledRow]:
        """The training rows."""
        return self.splits["train"]

    @cached_property
    def keys(self) -> dict[str, list[bytes | None]]:
        """What identifies the texts of each row up to white space, by split; None for a row without text."""
        return {name: [_key(row.texts) for row in rows] for name, rows in self.splits.items()}

    @cached_property
    def counts(self) -> Counter[str]:
        """How many training rows have each class."""
        found = Counter({label: 0 for label in self.classes})
        for row in self.train:
            found.update({*row.labels})
        return found


Check = Callable[[Checked], str]
"""Returns what one kind of check has to tell, in one line; nothing if all is well."""


def told(table: Checked, checks: Sequence[Check]) -> list[str]:
    """Return what the checks have to tell, a line each."""
    return [line for check in checks if (line := check(table))]


def overlap(table: Checked) -> str:
    """Return how many rows of other splits have the texts of a training row."""
    known, found = {*table.keys["train"]} - {None}, []
    for name in sorted(table.splits.keys() - {"train"}):
        keys = table.keys[name]
        number = sum(key in known for key in keys)
        found += [f"{number:,} of {len(keys):,} {name} rows"] if number else []
    if not found:
        return ""
    return f"{' and '.join(found)} have the text of a training row, up to white space: scores there are partly memory"


def repeated(table: Checked) -> str:
    """Return how many training rows repeat another one, label included."""
    rows = Counter((key, row.label) for key, row in zip(table.keys["train"], table.train, strict=True) if key)
    number = sum(rows.values()) - len(rows)
    if not number:
        return ""
    return (
        f"{number:,} of {len(table.train):,} training rows repeat an earlier one, label included; the commonest stands "
        f"there {max(rows.values()):,} times"
    )


def contradictory(table: Checked) -> str:
    """Return how many texts stand in training rows with different labels."""
    found: defaultdict[bytes, dict[object, int]] = defaultdict(dict)
    for key, row in zip(table.keys["train"], table.train, strict=True):
        if key:
            found[key].setdefault(row.label, row.line)
    several = [lines for lines in found.values() if len(lines) > 1]
    if not several:
        return ""
    first, second, *_ = several[0].values()
    return (
        f"{len(several):,} of {len(found):,} training texts have different labels in different rows, as in lines "
        f"{first} and {second}"
    )


def skewed(table: Checked) -> str:
    """Return that nearly all training rows have the same label, or none."""
    rows, bare = len(table.train), sum(not row.labels for row in table.train)
    label, most = max(table.counts.items(), key=lambda one: one[1], default=("", 0))
    if rows < LEAST or max(most, bare) < SKEWED * rows:
        return ""
    which = f"have the label {label!r:.80}" if most >= bare else "have no label"
    return f"{max(most, bare) / rows:.1%} of training rows {which}: to answer always so is right as often"


def rare(table: Checked) -> str:
    """Return which classes have hardly any training rows; of names of rows `mostly_once` is told."""
    found = [label for label, number in table.counts.items() if number < FEW]
    if not found or mostly_once(table.counts, len(table.train)):
        return ""
    some = ", ".join(f"{label!r:.40}" for label in found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
    return f"{len(found):,} of {len(table.counts):,} labels have fewer than {FEW} training rows: {some}"


def mostly_once(classes: Collection[str], rows: int) -> bool:
    """Return whether so many classes occur that most have one row, as numbers have, or names of rows."""
    return len(classes) > max(MANY, rows / 2)


def spellings(table: Checked) -> str:
    """Return which labels differ in case or white space only."""
    alike = defaultdict(list)
    for label in table.counts:
        alike["".join(label.split()).casefold()].append(label)
    groups = [several for several in alike.values() if len(several) > 1]
    if not groups:
        return ""
    found = [" and ".join(f"{label!r:.40} ({table.counts[label]:,} rows)" for label in one) for one in groups[:SHOWN]]
    more = f"; and {len(groups) - SHOWN:,} more" if len(groups) > SHOWN else ""
    return f"labels that differ in case or white space only are different ones: {'; '.join(found)}{more}"


def leak(table: Checked) -> str:
    """Return which column of texts holds the label in nearly all training rows that have one."""
    rows = [row for row in table.train if row.labels]
    labels = [frozenset(label.casefold() for label in row.labels) for row in rows]
    if len(rows) < LEAST or len({*labels}) < 2:
        return ""
    others = _next_different(labels)
    for place, column in enumerate(table.columns):
        texts = [row.texts[place].casefold() for row in rows]
        own, other = (_holding(texts, side) for side in (labels, others))
        if own >= LEAK and other <= CHANCE:
            return (
                f"column {column!r} holds the row's own label in {own:.1%} of training rows, another row's in "
                f"{other:.1%}: if it does not where the model is used, leave the column out"
            )
    return ""


def _next_different(labels: Sequence[frozenset[str]]) -> list[frozenset[str]]:
    """Return for each row the labels of the next row that has others, after the last row from the first on."""
    found, after = [], next(one for one in labels if one != labels[-1])
    for own, following in zip(reversed(labels), [after, *reversed(labels[1:])], strict=True):
        after = following if following != own else after
        found.append(after)
    return found[::-1]


def _holding(texts: Sequence[str], labels: Sequence[frozenset[str]]) -> float:
    """Return the share of texts that hold all of their labels."""
    return sum(all(label in text for label in own) for text, own in zip(texts, labels, strict=True)) / len(texts)


def _key(texts: Sequence[str]) -> bytes | None:
    """Return what identifies texts up to white space; None if there is nothing else in them."""
    words = [" ".join(text.split()) for text in texts]
    return blake2b("\0".join(words).encode(errors="replace"), digest_size=16).digest() if any(words) else None
