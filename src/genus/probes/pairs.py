"""Pairs of sentences that differ in a word: which one a model finds likelier, and by how much."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genus.errors import GenusError
from genus.evaluate.interval import Interval, interval, wilson
from genus.evaluate.likelihood import log_likelihoods
from genus.tasks.table import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.export.folder import LoadedModel

OWN = Path(__file__).parent / "pairs.jsonl"
"""The templates that come with the package."""
HOLE = "{}"


@dataclass(frozen=True, slots=True)
class Pair:
    """A template with a hole, and two words for it."""

    line: int
    template: str
    one: str
    other: str
    kind: str
    neutral: str | None = None
    """A template that says nothing of what is asked: what the words differ by in it is taken off; None: nothing is."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A pair, and how much likelier the first word makes the sentence."""

    pair: Pair
    nats: float
    """log P(template with one) - log P(template with other), less the same of the neutral template."""


def read_pairs(path: Path = OWN) -> list[Pair]:
    """Return the pairs of a table with the columns `template`, `one`, `other`, and `kind` and `neutral` if there are.

    Raises:
        GenusError: the table cannot be read, is empty, or a cell is missing or has no hole, written `{}`.
    """
    found = []
    for line, row in rows(path):
        for column in ("template", "one", "other"):
            if not isinstance(row.get(column), str) or not row[column]:
                raise GenusError(f"{path}, line {line}: expected a text in the column {column!r}")
        neutral = row.get("neutral") or None
        for column, text in (("template", row["template"]), ("neutral", neutral)):
            if text is not None and (not isinstance(text, str) or text.count(HOLE) != 1):
                raise GenusError(f"{path}, line {line}: expected one {HOLE} in the column {column!r}, for the words")
        kind = str(row.get("kind") or "all")
        found.append(Pair(line, row["template"], row["one"], row["other"], kind, neutral))
    if not found:
        raise GenusError(f"{path}: holds no rows")
    return found


def compare(model: LoadedModel, pairs: Sequence[Pair], precision: str = "float32") -> list[Compared]:
    """Return by how much a model finds the sentence with the first word likelier than that with the second, in nats.

    Sentences are measured as a whole: by the log-likelihood of a causal model, by the pseudo-log-likelihood of one that
    reads both sides (Salazar et al. 2020, arXiv:1910.14659).

    Raises:
        UsageError: the model predicts no tokens, or a sentence has more tokens than it has positions.
    """
    texts, names = list[str](), list[str]()
    for pair in pairs:
        for template in filter(None, (pair.template, pair.neutral)):
            texts += [template.replace(HOLE, word) for word in (pair.one, pair.other)]
            names += [f"line {pair.line}"] * 2
    told = log_likelihoods(
        model.learner, model.tokenizer, texts, model.recipe.model.max_length, precision, names=names
    )
    nats, found = iter([one.nats for one in told]), []
    for pair in pairs:
        difference = next(nats) - next(nats)
        if pair.neutral is not None:
            difference -= next(nats) - next(nats)
        found.append(Compared(pair, difference))
    return found


def by_kind(found: Sequence[Compared]) -> dict[str, dict[str, Interval]]:
    """Return the mean difference, with Student's interval, and the share of pairs whose first word is likelier."""
    groups: dict[str, list[float]] = defaultdict(list)
    for one in found:
        groups[one.pair.kind].append(one.nats)
    return {
        kind: {
            "difference, nats": interval(values),
            "first likelier": wilson(sum(value > 0 for value in values), len(values)),
        }
        for kind, values in groups.items()
    }
