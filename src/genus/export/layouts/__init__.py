"""Layouts: one table an architecture between our tensor names and Hugging Face's, and the configuration beside it.

Both are read in both directions. A layout is a module of this folder that holds a `Layout`; it is found by scanning.
For a recipe the first layout is chosen whose configuration, read back, describes the very same architecture. For a
folder it is chosen by `model_type`; where several layouts share one, by the settings that each names in `variant`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from genus.errors import GenusError, near
from genus.export.layouts.maps import Map, Table, place

if TYPE_CHECKING:
    from torch import Tensor

    from genus.model import Model
    from genus.objectives import Objective
    from genus.part import Json
    from genus.recipe import Recipe


def same(value: Any) -> Any:
    """Return the value: most settings are written alike."""
    return value


def nothing(config: Json) -> None:
    """Return None."""


def always(config: Json, tensors: Mapping[str, Tensor]) -> bool:
    """Return that the names alone tell."""
    return True


@dataclass(frozen=True)
class Setting:
    """One key of a configuration, and the choices it stands for: `model.layers`, or a head's `masked.norm.eps`.

    A number in a path is a place in a list. A path of one step is a whole part, of which a table of choices is read.
    """

    key: str
    paths: tuple[str, ...]
    write: Callable[[Any], Any] = same
    """Our value to theirs; `LookupError` where they have none."""
    read: Callable[[Any], Any] = same


@dataclass(frozen=True, kw_only=True)
class ReferenceOptions:
    """How the foreign class is asked when its outputs are compared with ours."""

    kwargs: Json = field(default_factory=dict)
    """Settings that it is given on top, such as a seed for what it draws."""
    max_equal_length: Callable[[Json], int | None] = nothing
    """The longest sequence for which the class of a configuration computes what we do; None for no end."""
    padded: bool = True
    """Whether the class makes of a sequence beside padding what it makes of it alone."""


@dataclass(frozen=True, kw_only=True)
class HeadLayout:
    """A head of the learner in the foreign layout."""

    objective: Objective
    """What a folder without a recipe is taken to have been trained with."""
    tensors: Table
    """The head's own rows, and rows in place of the network's where this architecture has a module in its head."""
    constants: Json = field(default_factory=dict)
    """What the configuration says where this head is present."""
    only: Json = field(default_factory=dict)
    """What the configuration must say for this head to be the one that the tensors are; a missing key is false."""
    settings: tuple[Setting, ...] = ()
    """Keys that say more of the network where this head is present."""
    free: frozenset[str] = frozenset()
    """Choices of the objective that leave no trace in a folder."""
    needs: frozenset[str] = frozenset()
    """Choices of the model that may not be null beside this head."""
    lacks: frozenset[str] = frozenset()
    """Choices of the model that are null beside this head: what tensors a folder has of them serve nothing."""
    tells: Callable[[Json, Mapping[str, Tensor]], bool] = always
    """Whether these tensors are this head's, asked where other heads of this layout would have the same names."""

    def fits(self, config: Json) -> bool:
        """Return whether a configuration says what it must for this head."""
        return all(config.get(key, False) == value for key, value in self.only.items())


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One Hugging Face architecture."""

    model_type: str
    prefix: str
    """What the network's tensor names begin with where a head stands beside it."""
    template: Recipe
    """The defaults of the configuration's class, and ours for further training."""
    settings: tuple[Setting, ...]
    tensors: Table
    optional: Mapping[str, str]
    """Choices of the model that are null where a module of ours has no tensors: `pooler` and `network.pooler.0`."""
    heads: Mapping[str, HeadLayout]
    architectures: Mapping[frozenset[str], str]
    """The class by the heads that the learner has."""
    tied: Mapping[str, str]
    """Copies of tensors that old files repeat, and what they are copies of."""
    pad: int | None = None
    """The padding id on which this architecture's position numbers hang."""
    witness: ReferenceOptions = field(default_factory=ReferenceOptions)
    """How the class is asked when its outputs are compared with ours."""
    variant: Json = field(default_factory=dict)
    """What a configuration says where it is of this layout and not of the others of one `model_type`."""

    def fits(self, config: Json) -> bool:
        """Return whether a configuration says what tells this layout from others of its `model_type`."""
        return all(config.get(key) == value for key, value in self.variant.items())

    def named(self, architectures: Iterable[str]) -> frozenset[str]:
        """Return the heads of the classes that a configuration names, none where all are unknown.

        Of a subclass the ending tells: `OurBertForTokenClassification` has the head of `BertForTokenClassification`.
        """
        stem = self.architectures[frozenset()].removesuffix("Model")
        return frozenset().union(
            *(
                heads
                for heads, known in self.architectures.items()
                if any(name.endswith(known.removeprefix(stem)) for name in architectures)
            )
        )

    def table(self, heads: Iterable[str]) -> dict[str, Map | tuple[str, ...]]:
        """Return the rows for a learner with these heads."""
        rows = dict(self.tensors)
        for head in self.kept(heads):
            rows |= self.heads[head].tensors
        return rows

    def kept(self, heads: Iterable[str]) -> frozenset[str]:
        """Return those of the heads that this architecture has a place for."""
        return frozenset(heads) & self.heads.keys()

    def lacking(self, heads: Iterable[str]) -> frozenset[str]:
        """Return the choices of the model that are null beside these heads."""
        return frozenset().union(*(self.heads[head].lacks for head in heads))

    def settings_for(self, heads: Iterable[str]) -> tuple[Setting, ...]:
        """Return the keys of a configuration where these heads are present."""
        return (*self.settings, *(setting for head in heads for setting in self.heads[head].settings))

    def config(self, recipe: Recipe, heads: Iterable[str]) -> Json | None:
        """Return the configuration of a recipe's architecture and heads, None where this layout cannot express them."""
        heads = frozenset(heads)
        objectives = {objective.name: objective for objective in recipe.exported.objectives if objective.name in heads}
        choices = {"model": recipe.model.to_json()} | {name: part.to_json() for name, part in objectives.items()}
        absent = {choice for choice in self.optional if choices["model"].get(choice) is None}
        if heads not in self.architectures or objectives.keys() != heads:
            return None
        if any(absent & self.heads[head].needs or self.heads[head].lacks - absent for head in heads):
            return None
        config: Json = {"architectures": [self.architectures[heads]], "model_type": self.model_type}
        for head in heads:
            config |= self.heads[head].constants
        try:
            for setting in self.settings_for(heads):
                values = [_at(choices, path) for path in setting.paths if path.split(".")[0] in choices]
                if values:
                    config[setting.key] = setting.write(values[0])
        except LookupError:
            return None
        if not all(self.heads[head].fits(config) for head in heads):
            return None
        model, found = self.parts(config, heads, absent)
        alike = model == recipe.model and all(
            replace(mine, **{choice: getattr(found[name], choice) for choice in self.heads[name].free}) == found[name]
            for name, mine in objectives.items()
        )
        return config if alike else None

    def parts(self, config: Json, heads: Iterable[str], absent: Iterable[str]) -> tuple[Model, dict[str, Objective]]:
        """Return the architecture that a configuration describes, and the objectives of its heads.

        Args:
            config: the configuration; a key that is missing or null means the template's choice.
            heads: names of the heads there are.
            absent: choices of the model that are null, as `pooler`.

        Raises:
            UsageError: values that are of the wrong type or contradict each other.
            LookupError: a key and its value that have no counterpart here, such as an unknown activation.
        """
        changes: dict[str, Json] = {"model": dict.fromkeys(absent)} | {head: {} for head in heads}
        for setting in self.settings_for(heads):
            if config.get(setting.key) is None:
                continue
            value = _read(setting, config[setting.key])
            for path in setting.paths:
                owner, *steps = path.split(".")
                if owner in changes:
                    _lay(changes[owner], functools.reduce(lambda inner, step: {step: inner}, reversed(steps), value))
        model = self.template.model.overlay(changes.pop("model"))
        return model, {head: self.heads[head].objective.overlay(table) for head, table in changes.items()}


def hf_names(name: str, table: Table) -> tuple[str, ...]:
    """Return the foreign names in the row of a tensor of ours.

    Raises:
        KeyError: the table has no row for it.
    """
    return place(name, table).theirs


@functools.cache
def layouts() -> tuple[Layout, ...]:
    """Return every layout, in the order of the modules and within them."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return tuple(value for module in modules for value in vars(module).values() if isinstance(value, Layout))


def layout_for(recipe: Recipe, heads: Iterable[str]) -> tuple[Layout, Json] | None:
    """Return the layout that a recipe's architecture fits, and its configuration; None where it fits none.

    Heads that no layout at all has a place for stay out.
    """
    heads = frozenset(head for head in heads if any(layout.kept([head]) for layout in layouts()))
    for layout in layouts():
        config = layout.config(recipe, heads)
        if config is not None:
            return layout, config
    return None


def layout_of(config: Json, names: Iterable[str]) -> Layout:
    """Return the layout of a configuration; one of the first years without `model_type` is told by its tensors' prefix.

    Raises:
        GenusError: there is none.
    """
    kind = config.get("model_type")
    if kind is None:
        kind = next((one.model_type for one in layouts() if any(n.startswith(one.prefix) for n in names)), None)
    known = list(dict.fromkeys(layout.model_type for layout in layouts()))
    if kind is None:
        raise GenusError("config.json names no model_type, nor do the tensors' names; write one of these into it: "
                         f"{', '.join(known)}")  # fmt: skip
    if kind not in known:
        raise GenusError(f"config.json: model_type {kind!r} cannot be read.{near(str(kind), known)}")
    found = [layout for layout in layouts() if layout.model_type == kind]
    return next(layout for layout in sorted(found, key=lambda one: not one.variant) if layout.fits(config))


def _read(setting: Setting, value: Any) -> Any:
    """Return our value of a foreign one, which may be anything."""
    try:
        return setting.read(value)
    except (LookupError, TypeError, ValueError, AttributeError):
        raise LookupError(f"{setting.key} = {value!r}") from None


def _at(choices: Json, path: str) -> Any:
    """Return the choice at a dotted path; `LookupError` where the parts on the way have no such choice."""
    value: Any = choices
    for step in path.split("."):
        if isinstance(value, list):
            value = dict(zip(map(str, range(len(value))), value, strict=True))
        if not isinstance(value, Mapping):
            raise LookupError(path)
        value = value[step]
    return value


def _lay(table: Json, changes: Json) -> None:
    """Put changes into a table, and those within them into the tables within it."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(table.get(key), dict):
            _lay(table[key], value)
        else:
            table[key] = value
