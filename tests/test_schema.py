"""Files of every schema are read: by the tables of renames, by their number, and not where it is a newer one."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import pytest

from genus import catalog
from genus.errors import UsageError
from genus.part import Count, Part
from genus.part import renames as tables
from genus.part import upgrade as upgrading
from genus.part.choices import choices_of
from genus.part.renames import RENAMES, SCHEMA, Renames
from genus.part.slots import slots_of
from genus.part.upgrade import upgrade
from genus.recipe import Recipe
from genus.tokens import TokenizerConfig

WRITTEN_BY_SCHEMA_1 = Path(__file__).parent / "golden" / "schema_1"


class Rate(Part, ABC):
    """A slot whose kind was called `Fixed`."""

    start: float = 1.0

    @abstractmethod
    def at(self, time: float) -> float: ...


class Steady(Rate):
    """Called `Fixed` once."""

    def at(self, time: float) -> float:
        return self.start


class Falling(Rate):
    """Its `decline` was called `slope`."""

    decline: float
    least: float = 0.0

    def at(self, time: float) -> float:
        return self.start - self.decline * time


class Layer(Part, ABC):
    """Another slot."""


class Doubled(Layer):
    """Its size was given in halves, as the kind `Halved`."""

    size: Count


class Machine(Part):
    """Was a machine of a `pace`, and of one layer only."""

    rate: Rate
    spare: Rate | None = None
    layers: tuple[Layer, ...] = ()


def _several(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != "layer"} | {"layers": [table["layer"]]}


FIRST = Renames(
    kinds={("Rate", "Fixed"): "Constant", ("Layer", "Halved"): "Doubled"},
    fields={("Machine", "pace"): "speed", ("Falling", "slope"): "decline", ("Rate", "begin"): "start"},
    moves={
        ("Machine", "Machine"): _several,
        ("Layer", "Halved"): lambda table: {**table, "size": table["size"] * 2},
    },
)
SECOND = Renames(kinds={("Rate", "Constant"): "Steady"}, fields={("Machine", "speed"): "rate"})


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tables, upgrading):
        monkeypatch.setattr(module, "RENAMES", {1: FIRST, 2: SECOND})
        monkeypatch.setattr(module, "SCHEMA", 3)


OLD = {
    "kind": "Machine",
    "pace": {"kind": "Fixed", "begin": 2.0},
    "spare": {"kind": "Falling", "slope": 0.5, "begin": 3.0},
    "layer": {"kind": "Halved", "size": 4},
}
MACHINE = Machine(rate=Steady(start=2.0), spare=Falling(decline=0.5, start=3.0), layers=(Doubled(size=8),))


@pytest.mark.usefixtures("renamed")
class TestUpgrade:
    def test_kinds_choices_and_moves_of_several_schemas(self) -> None:
        assert Machine.from_json(OLD) == MACHINE

    def test_a_file_begins_at_its_own_schema(self) -> None:
        second = {"schema": 2, "kind": "Machine", "speed": "Constant", "layers": [{"kind": "Doubled", "size": 3}]}
        assert Machine.from_json(second) == Machine(rate=Steady(), layers=(Doubled(size=3),))
        with pytest.raises(UsageError, match="rate: there is no Rate 'Fixed'"):
            Machine.from_json({"schema": 2, "kind": "Machine", "speed": "Fixed"})

    def test_what_is_written_has_the_number_and_is_read_as_it_is(self) -> None:
        assert MACHINE.written() == {"schema": 3, **MACHINE.to_json()}
        assert Machine.from_json(json.loads(json.dumps(MACHINE.written()))) == MACHINE

    def test_a_name_that_changed_hands_is_read_by_the_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        swapped = Renames(fields={("Falling", "decline"): "least", ("Falling", "least"): "decline"})
        monkeypatch.setattr(upgrading, "RENAMES", {1: FIRST, 2: swapped})
        table = {"kind": "Falling", "decline": 1.0, "least": 2.0}
        assert Rate.from_json({"schema": 2, **table}) == Falling(decline=2.0, least=1.0)
        assert Rate.from_json({"schema": 3, **table}) == Falling(decline=1.0, least=2.0)

    def test_overlays_and_settings_speak_the_names_of_today(self) -> None:
        with pytest.raises(UsageError, match="Falling has no choice 'slope'"):
            MACHINE.overlay({"spare": {"slope": 1.0}})
        with pytest.raises(UsageError, match=r"there is no Rate 'Fixed'\. Valid: Falling, Steady\."):
            MACHINE.override("rate", "Fixed")

    def test_a_part_within_a_document_bears_its_own_number(self) -> None:
        table = {"schema": 3, "kind": "Machine", "rate": {"schema": 1, "kind": "Fixed", "begin": 2.0}}
        assert Machine.from_json(table) == Machine(rate=Steady(start=2.0))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (SCHEMA + 1, f"written by a newer genus (schema {SCHEMA + 1}, this one reads up to {SCHEMA}); update genus"),
        (0, f"schema: expected a number from 1 to {SCHEMA}, got 0"),
        ("2", f"schema: expected a number from 1 to {SCHEMA}, got '2'"),
        (True, f"schema: expected a number from 1 to {SCHEMA}, got True"),
    ],
)
def test_another_number_is_one_line(schema: object, message: str, tmp_path: Path) -> None:
    table = {**catalog.load("bert/tiny").written(), "schema": schema}
    with pytest.raises(UsageError) as error:
        Recipe.from_json(table)
    assert str(error.value) == message
    (tmp_path / "recipe.json").write_text(json.dumps(table))
    with pytest.raises(UsageError) as error:
        catalog.load(tmp_path)
    assert str(error.value) == f"{tmp_path / 'recipe.json'}: {message}"


@pytest.mark.parametrize("name", ["bert/tiny", "xlnet/tiny"])
def test_recipes_of_schema_1_are_read(name: str) -> None:
    file = WRITTEN_BY_SCHEMA_1 / f"{name.replace('/', '_')}.json"
    table = json.loads(file.read_text(encoding="utf-8"))
    assert "schema" not in table
    assert catalog.load(file) == catalog.load(name)
    assert TokenizerConfig.from_json(table["tokens"]) == catalog.load(name).tokens


ROWS = json.loads((WRITTEN_BY_SCHEMA_1 / "rows.json").read_text(encoding="utf-8"))
"""Every row of the catalog as schema 1 wrote it."""
MENDED = "wangchanberta/base"
"""Whose models were written with another number of positions and another epsilon."""


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_schema_1_is_read_as_the_same_model(name: str) -> None:
    """What has changed in a row since then are numbers that its source contradicts, of training but for `MENDED`."""
    read, today = Recipe.from_json(ROWS[name]), catalog.load(name)
    assert read.objectives[0].name == today.objectives[0].name
    assert type(read.tokens) is type(today.tokens)
    if name != MENDED:
        assert read.model == today.model


@pytest.mark.parametrize("name", catalog.names())
def test_every_row_is_written_with_its_schema_and_read_back(name: str) -> None:
    recipe = catalog.load(name)
    table = json.loads(json.dumps(recipe.written()))
    assert table["schema"] == SCHEMA
    assert Recipe.from_json(table) == recipe
    assert upgrade(table, Recipe) == recipe.to_json()


def test_the_number_is_no_choice() -> None:
    recipe = catalog.load("bert/tiny")
    assert "schema" not in recipe.to_json()
    assert recipe.overlay(recipe.written()) == recipe


@pytest.mark.parametrize("number", RENAMES)
def test_the_tables_lead_to_names_that_exist(number: int) -> None:
    """What the newest table names is there; an older one may name what was renamed since."""
    assert set(RENAMES) == set(range(1, SCHEMA))
    if number < SCHEMA - 1:
        return
    slots = {part.__name__: part for part in _parts(Part)}
    for (slot, _), kind in RENAMES[number].kinds.items():
        assert kind in slots_of(slots[slot]), f"{slot} has no {kind}"
    choices = {name for part in slots.values() if part is not Part for name in choices_of(part)}
    assert set(RENAMES[number].fields.values()) <= choices


def _parts(part: type[Part]) -> list[type[Part]]:
    return [part, *(inner for one in part.__subclasses__() for inner in _parts(one))]
