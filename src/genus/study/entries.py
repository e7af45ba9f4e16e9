"""The rows of a comparison: recipes with names of their own, at one budget."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from genus.cost import stage_cost
from genus.errors import UsageError
from genus.objectives.pretraining.distillation import Distillation
from genus.recipe import Budget
from genus.text import TEXT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.optim import Optimizer
    from genus.recipe import Recipe

UNITS = ("tokens", "flops", "seconds")
BUDGET = re.compile(r"\s*([0-9][0-9_.,]*(?:e[+-]?[0-9]+)?)\s*([a-z]+)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """A row of a comparison."""

    name: str
    recipe: Recipe
    settings: tuple[str, ...] = ()
    """What was changed, as it was written; for the report."""
    paper: dict[str, float] = field(default_factory=dict)
    """What the paper reports for it, by column."""
    note: str = ""
    """In what it is not the paper's."""

    @property
    def taught(self) -> bool:
        """Whether it learns from a teacher."""
        return any(isinstance(objective, Distillation) for objective in self.recipe.objectives)

    @property
    def slug(self) -> str:
        """The name as that of a folder."""
        return re.sub(r"[^\w.+-]+", "-", self.name).strip("-") or "row"


def budget_of(text: str) -> Budget:
    """Return the budget that a text names, such as `1e15flops`, `300000tokens` or `600 seconds`.

    Raises:
        UsageError: it is no amount above 0 with one of these units.
    """
    found = BUDGET.fullmatch(text)
    unit = found[2].lower() if found else ""
    unit = next((one for one in UNITS if one in {unit, f"{unit}s"}), unit)
    if found is None or unit not in UNITS:
        raise UsageError(f"--budget {text}: expected an amount with its unit, such as 1e15flops, 300000tokens or "
                         "600seconds")  # fmt: skip
    try:
        amount = float(found[1].replace(",", "").replace("_", ""))
    except ValueError:
        amount = 0.0
    if amount <= 0:
        raise UsageError(f"--budget {text}: expected an amount above 0")
    return Budget(amount=amount, unit=unit)  # type: ignore[arg-type]


def at_budget(entries: Sequence[Entry], budget: Budget) -> list[Entry]:
    """Return the rows with a budget in place of their own.

    Raises:
        UsageError: two have one name, one reads more than text, or not one step of it fits into the budget.
    """
    slugs = [entry.slug for entry in entries]
    if twice := [entry.name for number, entry in enumerate(entries) if entry.slug in slugs[:number]]:
        raise UsageError(f"two rows are named {twice[0]}; give one a name: NAME=RECIPE,...")
    for entry in entries:
        check(entry, budget)
    return [replace(entry, recipe=replace(entry.recipe, budget=budget)) for entry in entries]


def check(entry: Entry, budget: Budget) -> None:
    """Refuse a row that cannot take part.

    Raises:
        UsageError: it reads images, or texts with sources or codes; or a step is more than the budget.
    """
    recipe, first = entry.recipe, entry.recipe.stages[0]
    if "image" in recipe.model.streams:
        raise UsageError(f"{entry.name}: reads images, and a comparison has one text for all rows")
    recipe.examples.check_fields(TEXT)
    step = {"tokens": first.batch * first.max_length, "flops": stage_cost(recipe, first).flops_step}.get(budget.unit, 0)
    share = first.share * budget.amount
    if share < step:
        where = "" if len(recipe.stages) == 1 else " of its first stage"
        raise UsageError(f"{entry.name}: a budget{where} of {share:.3g} {budget.unit} is less than one step, of "
                         f"{step:.3g}; take a larger --budget, or --set stages.0.batch")  # fmt: skip


def teacher_of(entry: Entry, entries: Sequence[Entry]) -> Entry | None:
    """Return the row that teaches one with distillation: the first of the others that needs no teacher.

    Raises:
        UsageError: there is none, or it has another kind of tokenizer.
    """
    if not entry.taught:
        return None
    found = next((one for one in entries if not one.taught), None)
    if found is None:
        raise UsageError(f"{entry.name}: learns from a teacher; name a row before it that teaches, such as bert/mini")
    if found.recipe.tokens != entry.recipe.tokens:
        raise UsageError(f"{entry.name}: learns from {found.name}, and their tokenizers differ (`tokens`)")
    return found


def with_rate(entry: Entry, rate: float) -> Entry:
    """Return a row with another learning rate."""
    optimizer: Optimizer = entry.recipe.optimizer.override("lr", rate)
    return replace(entry, recipe=replace(entry.recipe, optimizer=optimizer))
