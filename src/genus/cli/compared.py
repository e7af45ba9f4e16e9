"""Comparison table of the members, generated from the recipes: one row per member or per size."""

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
    """Return a recipe's cells by column; None where the paper reports nothing or the column does not apply."""
    found, published = cost(row), row.published
    return {
        "name": row.name,
        "paper": f"{published.paper} ({published.year})",
        "model type": row.model.in_words,
        "pre-train objective": _in_words(row.objectives),
        "tokenization": row.tokens.in_words,
        "vocabulary": row.tokens.vocab_size,
        "unknown words": row.tokens.unknown,
        "embeddings": _within(row.model, Embedding) or "none",
        "attention": _within(row.model, Attention) or "none",  # type: ignore[type-abstract]  # a slot is abstract
        "activations": _activations(row.model) or "none",
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
"""Groups of columns, each shown with the recipe's name, where a page is too narrow for all columns."""


def compared(every_size: bool) -> list[Facts]:
    """Return the facts of each member's first recipe, or of all recipes with `every_size`."""
    sizes = [list(rows.values()) for rows in catalog.members().values()]
    return [facts(row) for rows in sizes for row in (rows if every_size else rows[:1])]


def deviation(row: Recipe) -> float | None:
    """Return the relative deviation of our parameter count, with or without heads (the closer), from the published."""
    published, found = row.published.parameters, cost(row)
    if published is None:
        return None
    return min((count / published - 1 for count in (found.parameters, found.network)), key=abs)


def cell(fact: Fact) -> str:
    """Format a fact for the table: floats as percentages, integers with thousands separators, None as empty."""
    if fact is None:
        return ""
    if isinstance(fact, float):
        return f"{fact:+.1%}"
    return f"{fact:,}" if isinstance(fact, int) else fact


def cells(rows: list[Facts]) -> tuple[list[str], list[list[str]]]:
    """Return the column names and the formatted cells of every row."""
    return list(rows[0]), [[cell(fact) for fact in row.values()] for row in rows]


def _activations(model: Part) -> str | None:
    """Return the descriptions of the activations in feed-forward sub-layers; those of heads are left out."""
    layers = parts_within(model, FeedForward)  # type: ignore[type-abstract]
    return _in_words(one for layer in layers for one in parts_within(layer, Activation))  # type: ignore[type-abstract]


def _within(part: Part, slot: type[P]) -> str | None:
    """Return the descriptions of the parts of a slot inside a part."""
    return _in_words(parts_within(part, slot))


def _in_words(parts: Iterable[Part]) -> str | None:
    """Return the distinct descriptions of parts, joined with ` + `; None where there are none."""
    return " + ".join(dict.fromkeys(part.in_words for part in parts if part.in_words)) or None
