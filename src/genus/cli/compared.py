"""The field's comparison table, from the recipes: a row a member or a size, in the words of the parts themselves."""

from collections.abc import Iterable
from itertools import groupby
from typing import TypeVar

from genus import catalog
from genus.cost import cost
from genus.model.activation import Activation
from genus.model.attention import Attention
from genus.model.embedding import Embedding
from genus.model.feedforward import FeedForward
from genus.part import Part, parts_within
from genus.recipe import Recipe

P = TypeVar("P", bound=Part)
Fact = str | int | float | None
Facts = dict[str, Fact]


def facts(row: Recipe) -> Facts:
    """Return a row's cells by column; None where its authors say nothing, or its kind of model has nothing to say."""
    found, published = cost(row), row.published
    return {
        "name": row.name,
        "paper": f"{published.paper} ({published.year})",
        "model type": row.model.in_words,
        "pre-train objective": _in_words(row.objectives),
        "tokenization": row.tokens.in_words,
        "vocabulary": row.tokens.vocab_size,
        "unknown words": row.tokens.unknown,
        "embeddings": _within(row.model, Embedding),
        "attention": _within(row.model, Attention),  # type: ignore[type-abstract]  # a slot is abstract
        "activations": _activations(row.model),
        "parameters": found.parameters,
        "without heads": found.network,
        "published": published.parameters,
        "deviation": deviation(row),
        "why": published.why,
        "optimizer": row.optimizer.in_words,
        "schedule": row.schedule.in_words,
        "steps": f"{row.budget.amount:,.0f} {row.budget.unit}",
        "batch": " then ".join(size for size, _ in groupby(f"{one.batch:,} x {one.max_length}" for one in row.stages)),
        "pre-train data": published.data or None,
    }


GROUPS = {
    "What it is": ["model type", "pre-train objective"],
    "Where it is from": ["paper", "pre-train data"],
    "From text to vectors": ["tokenization", "vocabulary", "unknown words", "embeddings"],
    "The network": ["attention", "activations"],
    "Parameters": ["parameters", "without heads", "published", "deviation"],
    "Training": ["optimizer", "schedule", "steps", "batch"],
}
"""Columns that stand beside a row's name where a page is not wide enough for all of them."""


def compared(every_size: bool) -> list[Facts]:
    """Return the facts of each member's first row, or of all rows."""
    sizes = [list(rows.values()) for rows in catalog.members().values()]
    return [facts(row) for rows in sizes for row in (rows if every_size else rows[:1])]


def deviation(row: Recipe) -> float | None:
    """Return by how much our parameters deviate from the published, counted with or without heads as comes nearer."""
    published, found = row.published.parameters, cost(row)
    if published is None:
        return None
    return min((count / published - 1 for count in (found.parameters, found.network)), key=abs)


def cell(fact: Fact) -> str:
    """Return a fact as a table shows it."""
    if fact is None:
        return ""
    if isinstance(fact, float):
        return f"{fact:+.1%}"
    return f"{fact:,}" if isinstance(fact, int) else fact


def cells(rows: list[Facts]) -> tuple[list[str], list[list[str]]]:
    """Return the columns' names and every row's cells."""
    return list(rows[0]), [[cell(fact) for fact in row.values()] for row in rows]


def _activations(model: Part) -> str | None:
    """Return what the activations of feed-forward sub-layers say of themselves; those of heads are left out."""
    layers = parts_within(model, FeedForward)  # type: ignore[type-abstract]
    return _in_words(one for layer in layers for one in parts_within(layer, Activation))  # type: ignore[type-abstract]


def _within(part: Part, slot: type[P]) -> str | None:
    """Return what a part's parts of a slot say of themselves."""
    return _in_words(parts_within(part, slot))


def _in_words(parts: Iterable[Part]) -> str | None:
    """Return what parts say of themselves, each thing once; None where there are none."""
    return " + ".join(dict.fromkeys(part.in_words for part in parts if part.in_words)) or None
