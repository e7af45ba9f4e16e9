"""The overrides of docs/modifications.md, and small models of them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from genus import catalog
from genus.cost import cost
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.objectives import Learner
from genus.study.named import OWN, expanded

if TYPE_CHECKING:
    from genus.batch import Batch
    from genus.model import Model
    from genus.objectives import Objective
    from genus.recipe import Recipe

PAGE = Path(__file__).resolve().parents[2] / "docs" / "modifications.md"
NONE = "—"
ROWS = ("t5/mini", "bert/mini")
VOCABULARY, LENGTH, PAD = 400, 32, 0
DOCUMENTS = [[13, 17], [22, 10], [31]]
"""Tokens of each document, by row; two rows are padded."""
SIZES: dict[str, Any] = {"hidden": 32, "heads": 2, "size": 48, "length": 64, "dropout": 0.0, "widths": [3, 5]}
SIZES |= {"cutoffs": [100, 200], "keys": 8, "key_size": 8, "chosen": 2, "experts": 3, "vocab_size": VOCABULARY}


@dataclass(frozen=True)
class Modification:
    """A row of the page for a row of the catalog."""

    name: str
    row: str
    settings: tuple[str, ...]
    told: str
    """What the page says of parameters and FLOPs."""

    @property
    def recipe(self) -> Recipe:
        """The row with the settings, in its own size."""
        return catalog.load(self.row, list(self.settings))

    def small(self) -> tuple[Model, tuple[Objective, ...]]:
        """Return model and objectives made small; there are as many layers."""
        recipe = self.recipe
        model = recipe.model.overlay(smaller(recipe.model.to_json()))
        return model, tuple(one.overlay(smaller(one.to_json())) for one in recipe.objectives)

    def learner(self, *, double: bool = False) -> Learner:
        """Return a small learner whose parameters are all drawn away from where they begin."""
        model, objectives = self.small()
        torch.manual_seed(0)
        heads = {one.name: one.build(model, VOCABULARY) for one in objectives}
        learner = Learner(model.build(VOCABULARY), heads)
        with torch.no_grad():
            for weight in learner.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
        return learner.double() if double else learner


def table() -> list[dict[str, Any]]:
    """Return the modifications as the study has them: the one source of their settings."""
    rows: list[dict[str, Any]] = tomllib.loads((OWN / "modifications.toml").read_text(encoding="utf-8"))["rows"]
    return rows


def modifications() -> list[Modification]:
    """Return the rows of the study, for both rows of the catalog, with what the page says of each."""
    cells = {line[0]: dict(zip(ROWS, line[5:], strict=True)) for line in page_rows()}
    return [
        Modification(one["name"], row, settings_of(row, [*one["settings"], *one["of"][row]]), cells[one["name"]][row])
        for one in table()
        for row in ROWS
        if row in one["of"]
    ]


def page_rows() -> list[list[str]]:
    """Return the cells of the page's tables."""
    lines = [line.strip("|").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    rows = [[cell.strip() for cell in line] for line in lines if len(line) == 7]
    return [row for row in rows if row[0] not in {"modification", "---"}]


def settings_of(row: str, settings: list[str]) -> tuple[str, ...]:
    """Return settings as a row of the catalog takes them."""
    return tuple(expanded(settings, catalog.load(row).model.streams))


def smaller(value: Any) -> Any:
    """Return JSON with numbers made small by their names."""
    if isinstance(value, dict):
        plain = {key: inner for key, inner in value.items() if not isinstance(inner, dict) and inner is not None}
        return {key: SIZES[key] if key in SIZES and key in plain else smaller(inner) for key, inner in value.items()}
    return [smaller(inner) for inner in value] if isinstance(value, list) else value


def told(recipe: Recipe, row: str) -> str:
    """Return the cell of the page: millions of parameters, and FLOPs of a step as a multiple of the plain row's."""
    plain, own = cost(catalog.load(row)), cost(recipe)
    share = own.stages[-1].flops_step / plain.stages[-1].flops_step
    return f"{own.parameters / 1e6:.2f}, {share:.2f}"


def documents(
    model: Model, seed: int = 0, targets: tuple[Objective, ...] = (), rows: list[list[int]] = DOCUMENTS
) -> Batch:
    """Return documents of random tokens in every stream that a model reads, with random targets of objectives."""
    draws = np.random.default_rng(seed)

    def sequence(length: int) -> Sequence:
        ids = draws.integers(PAD + 1, VOCABULARY, length)
        return Sequence(ids, 0 * ids, np.zeros(length, dtype=np.bool_))

    def labels(objective: Objective, length: int) -> tuple[np.ndarray, np.ndarray]:
        whole = cast("Any", objective.build(model, VOCABULARY)).per == "sequence"
        return (np.array([0]), np.array([1])) if whole else (np.arange(length), draws.integers(1, VOCABULARY, length))

    def example(length: int) -> Example:
        streams = {name: sequence(length) for name in sorted(model.streams)}
        return Example(streams, {one.target: labels(one, length) for one in targets})

    lengths = dict.fromkeys(sorted(model.streams), LENGTH)
    return pack([[example(length) for length in row] for row in rows], lengths, PAD)


ALL = modifications()
IDS = [f"{one.row}: {one.name}" for one in ALL]
