"""Named studies: files that list rows, their changes, and what a paper reports for each."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genus.errors import UsageError, near
from genus.files import reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OWN = Path(__file__).parent / "studies"
"""The folder of the studies that come with the package."""
KEYS = {"title", "citation", "asks", "read", "budget", "recipe", "settings", "columns", "rows", "absent"}
ROW_KEYS = {"name", "recipe", "settings", "of", "paper", "note", "section", "source"}
EACH = "X."
"""In a setting, each stack: `model`, or the encoder and the decoder of a model that has both."""


@dataclass(frozen=True)
class NamedRow:
    """A row of a study, not resolved yet."""

    name: str
    recipe: str
    """Of the catalog."""
    settings: tuple[str, ...] = ()
    """`path=value`, as `--set` takes them; `X.` is each stack."""
    paper: dict[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class NamedStudy:
    """A study of a paper, run small."""

    name: str
    title: str
    citation: str
    asks: str
    """The question."""
    read: str
    """Where the paper's figures were read."""
    budget: str
    """A small one that is usual for it."""
    rows: tuple[NamedRow, ...]
    settings: tuple[str, ...] = ()
    """Of all rows."""
    columns: dict[str, bool] = field(default_factory=dict)
    """The paper's columns, and whether larger is better in each."""
    absent: dict[str, str] = field(default_factory=dict)
    """Rows of the paper's table that are not here, and why."""

    def to_json(self) -> dict[str, Any]:
        """Return everything but the rows, which a comparison has itself."""
        return {name: value for name, value in asdict(self).items() if name != "rows"}


def names() -> list[str]:
    """Return the names of the studies that come with the package."""
    return sorted(path.stem for path in OWN.glob("*.toml"))


def load(name: str) -> NamedStudy:
    """Return a study by its name, or from a `.toml` file.

    Raises:
        UsageError: there is none, or the file is not as studies are.
    """
    path = Path(name) if name.endswith(".toml") else OWN / f"{name}.toml"
    if not path.is_file():
        raise UsageError(f"--study: there is no study {name!r}.{near(name, names())}")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as TOML: {reason(error)}") from None
    try:
        return _read(path.stem, table)
    except (KeyError, TypeError, ValueError) as error:
        said = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise UsageError(f"{path}: is no study: {said}; see docs/compare.md") from None


def _read(name: str, table: Mapping[str, Any]) -> NamedStudy:
    if unknown := table.keys() - KEYS:
        raise ValueError(f"there is no {min(unknown)!r}.{near(min(unknown), sorted(KEYS))}")
    better = {"larger": True, "smaller": False}
    columns = {column: better[said] for column, said in table.get("columns", {}).items()}
    own = [_row(row, columns, table.get("recipe")) for row in table["rows"]]
    rows = tuple(row for row in own if row is not None)
    return NamedStudy(
        name, table["title"], table["citation"], table["asks"], table["read"], table["budget"], rows,
        tuple(table.get("settings", ())), columns, dict(table.get("absent", {})),
    )  # fmt: skip


def _row(row: Mapping[str, Any], columns: Mapping[str, bool], usual: str | None) -> NamedRow | None:
    """Return a row; None where it is not defined for its recipe."""
    if unknown := row.keys() - ROW_KEYS:
        raise ValueError(f"a row has no {min(unknown)!r}.{near(min(unknown), sorted(ROW_KEYS))}")
    paper = {column: float(value) for column, value in row.get("paper", {}).items()}
    if strange := paper.keys() - columns.keys():
        raise ValueError(f"row {row['name']}: {min(strange)!r} is no column of the paper (`columns`)")
    recipe = row.get("recipe", usual)
    if recipe is None:
        raise KeyError("recipe")
    if "of" in row and recipe not in row["of"]:
        return None
    settings = (*row["settings"], *row.get("of", {}).get(recipe, ()))
    return NamedRow(row["name"], recipe, settings, paper, row.get("note", ""))


def expanded(settings: Sequence[str], streams: frozenset[str]) -> list[str]:
    """Return settings with those of each stack (`X.`) written out, for a model that reads these streams."""
    sides = ("model.encoder.", "model.decoder.") if "source" in streams else ("model.",)
    return [
        side + one.removeprefix(EACH) for one in settings for side in (sides if one.startswith(EACH) else ("",))
    ]
