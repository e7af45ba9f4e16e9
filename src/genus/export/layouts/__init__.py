"""Layouts: for each Hugging Face architecture, the tables of tensor names and of configuration keys.

Both tables work in both directions. A layout is a `Layout` in a module of this folder, found by scanning. For a recipe,
the first layout is chosen whose configuration, read back, gives the same architecture. For a folder, it is chosen by
`model_type`; where several layouts share one, by the keys in their `variant`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genus.errors import GenusError, UsageError, near
from genus.export.layouts.maps import Map, Table, place
from genus.objectives.supervised import FineTuned

if TYPE_CHECKING:
    from torch import Tensor

    from genus.batch import Batch
    from genus.model import Model
    from genus.objectives import Objective
    from genus.part import Json
    from genus.recipe import Recipe


ROLES = {"pad_token_id": "pad", "bos_token_id": "bos", "eos_token_id": "eos"}
"""Keys of the ids of special tokens that every configuration has, and their roles."""


def same(value: Any) -> Any:
    """Return the value unchanged, since most settings are written alike."""
    return value


def nothing(config: Json) -> None:
    """Return None: no limit on the length."""


def always(config: Json, tensors: Mapping[str, Tensor]) -> bool:
    """Return True: the tensor names alone identify the head."""
    return True


@dataclass(frozen=True)
class Setting:
    """One configuration key and the paths of its choices.

    A path starts at the model (`model.layers`) or at a head's objective (`masked_lm.output.transform.norm.eps`).
    A number in a path is an index in a list. A path of one step is a whole part, for which a table of choices is read.
    """

    key: str
    paths: tuple[str, ...]
    write: Callable[[Any], Any] = same
    """Converts a genus value to Hugging Face's; raises a `LookupError` where there is none."""
    read: Callable[[Any], Any] = same
    """Converts a Hugging Face value to genus's."""

    def present(self, owners: Collection[str], absent: Collection[str]) -> Iterator[str]:
        """Yield the paths that start at one of these owners and do not pass through an absent choice of the model."""
        for path in self.paths:
            owner, choice, *_ = *path.split("."), ""
            if owner in owners and not (owner == "model" and choice in absent):
                yield path


@dataclass(frozen=True, kw_only=True)
class Derived:
    """Functions of a whole configuration."""

    write: Callable[[Json], Json] = same
    """Returns a written configuration with the keys that depend on several choices."""
    read: Callable[[Json], Json] = same
    """Returns a read configuration with a key for every choice that depends on several keys."""
    text: str | None = None
    """The table within a configuration that is about texts, in which the size of the vocabulary and the ids of special
    tokens stand too; None: there is none."""
    files: Mapping[str, Callable[[Json], Json]] = field(default_factory=dict)
    """Further files of JSON beside the configuration, and functions of it that return what they hold."""


@dataclass(frozen=True, kw_only=True)
class ReferenceOptions:
    """Options for the reference (Hugging Face) forward pass in verification."""

    kwargs: Json = field(default_factory=dict)
    """Additional configuration keys for the reference model, such as a random seed."""
    max_equal_length: Callable[[Json], int | None] = nothing
    """Returns the longest sequence for which the reference computes the same as genus; None for no limit."""
    padded: bool = True
    """Whether the reference's outputs for a sequence do not depend on padding beside it."""
    answers: Callable[[Any, Any, Tensor, Batch], list[Tensor]] | None = None
    """Returns a class's outputs, given it, padded texts, which of them are no padding, and a batch of images; None: it
    reads texts, and has hidden states and logits."""


@dataclass(frozen=True, kw_only=True)
class HeadLayout:
    """Layout of one head: its tensor names and configuration keys."""

    objective: Objective
    """The objective that is assumed for a folder without a recipe."""
    tensors: Table
    """Rows of the head, and rows that replace the network's where this architecture has a module in its head."""
    constants: Json = field(default_factory=dict)
    """Configuration entries that are written with this head."""
    only: Json = field(default_factory=dict)
    """Configuration entries that this head requires when it is read; a missing key counts as false."""
    settings: tuple[Setting, ...] = ()
    """Additional settings of the network with this head."""
    free: frozenset[str] = frozenset()
    """Choices of the objective that are not stored in a folder."""
    needs: frozenset[str] = frozenset()
    """Choices of the model that must not be null with this head."""
    lacks: frozenset[str] = frozenset()
    """Choices of the model that are null with this head; a folder's tensors of them are ignored."""
    spare: frozenset[str] = frozenset()
    """Hugging Face's names of tensors that a folder may lack; they are 0 then."""
    tells: Callable[[Json, Mapping[str, Tensor]], bool] = always
    """Returns whether these tensors are this head's, where other heads of the layout have the same tensor names."""

    def fits(self, config: Json) -> bool:
        """Return whether a configuration has the entries in `only`."""
        return all(config.get(key, False) == value for key, value in self.only.items())


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Layout of one Hugging Face architecture: tensor names, configuration keys, heads and classes."""

    model_type: str
    prefix: str
    """Prefix of the network's tensor names in classes with a head."""
    template: Recipe
    """A recipe with the defaults of the configuration class, and with genus's defaults for further training."""
    settings: tuple[Setting, ...]
    tensors: Table
    optional: Mapping[str, str]
    """Choices of the model that are null if a module has no tensors, such as `pooler` and `network.pooler.0`."""
    heads: Mapping[str, HeadLayout]
    architectures: Mapping[frozenset[str], str]
    """The transformers class by the set of the learner's heads."""
    tied: Mapping[str, str]
    """Tied weights: copies of tensors that old files repeat, and the names of the originals."""
    pad: int | None = None
    """The padding id on which this architecture's position ids depend."""
    segmented: bool = True
    """Whether the classes take `token_type_ids`, if the model has more than one segment."""
    roles: Mapping[str, str] = field(default_factory=lambda: ROLES)
    """Keys of the ids of special tokens in the configuration, and their roles."""
    witness: ReferenceOptions = field(default_factory=ReferenceOptions)
    """Options for the reference forward pass in verification."""
    variant: Json = field(default_factory=dict)
    """Configuration entries that distinguish this layout from others with the same `model_type`."""
    positions: str | None = None
    """The key of the longest sequence, if the positions have no end: that of the recipe's stages is written."""
    derived: Derived = field(default_factory=Derived)
    """Functions of the whole configuration, for keys and choices that depend on several."""

    def fits(self, config: Json) -> bool:
        """Return whether a configuration has the entries in `variant`."""
        return all(config.get(key) == value for key, value in self.variant.items())

    def named(self, architectures: Iterable[str]) -> frozenset[str]:
        """Return the heads of the classes that a configuration names; empty where all are unknown.

        Classes are compared by suffix: `OurBertForTokenClassification` has the head of `BertForTokenClassification`.
        """
        stem = self.architectures.get(frozenset(), "").removesuffix("Model")
        return frozenset().union(
            *(
                heads
                for heads, known in self.architectures.items()
                if any(name.endswith(known.removeprefix(stem)) for name in architectures)
            )
        )

    def table(self, heads: Iterable[str]) -> dict[str, Map | tuple[str, ...]]:
        """Return the table of tensor names for a learner with these heads."""
        rows = dict(self.tensors)
        for head in self.kept(heads):
            rows |= self.heads[head].tensors
        return rows

    def kept(self, heads: Iterable[str]) -> frozenset[str]:
        """Return those of the heads that this architecture supports."""
        return frozenset(heads) & self.heads.keys()

    def lacking(self, heads: Iterable[str]) -> frozenset[str]:
        """Return the choices of the model that are null with these heads."""
        return frozenset().union(*(self.heads[head].lacks for head in heads))

    def settings_for(self, heads: Iterable[str]) -> tuple[Setting, ...]:
        """Return the settings of the network and of these heads."""
        return (*self.settings, *(setting for head in heads for setting in self.heads[head].settings))

    def config(self, recipe: Recipe, heads: Iterable[str]) -> Json | None:
        """Return the configuration of a recipe's architecture and heads, None where this layout cannot express them."""
        heads = frozenset(heads)
        objectives = {objective.name: objective for objective in recipe.exported.objectives if objective.name in heads}
        if heads not in self.architectures or objectives.keys() != heads:
            return None
        choices = {"model": recipe.model.to_json()} | {name: part.to_json() for name, part in objectives.items()}
        absent = {choice for choice in self.optional if _is_null(choices, f"model.{choice}")}
        if any(absent & self.heads[head].needs or self.heads[head].lacks - absent for head in heads):
            return None
        config: Json = {"architectures": [self.architectures[heads]], "model_type": self.model_type}
        for head in heads:
            config |= self.heads[head].constants
        written: Json = {}
        try:
            for setting in self.settings_for(heads):
                values = [setting.write(_at(choices, path)) for path in [*setting.present(choices, absent)][:1]]
                if any(written.setdefault(setting.key, value) != value for value in values):
                    return None  # a key of two choices, which contradict each other
        except LookupError:
            return None
        config = self.derived.write(config | written)
        if self.positions is not None:
            config[self.positions] = max(stage.max_length for stage in recipe.stages)
        if not all(self.heads[head].fits(config) for head in heads):
            return None
        try:
            model, found = self.parts(config, heads, absent)
        except UsageError:  # its values contradict each other, as heads that do not divide the width
            return None
        alike = model == recipe.model and all(
            _same_head(mine, found[name], self.heads[name].free) for name, mine in objectives.items()
        )
        return config if alike else None

    def parts(self, config: Json, heads: Iterable[str], absent: Collection[str]) -> tuple[Model, dict[str, Objective]]:
        """Return the architecture that a configuration describes, and the objectives of its heads.

        Args:
            config: the configuration; a missing or null key means the template's choice.
            heads: names of the heads that are present.
            absent: choices of the model that are null, such as `pooler`.

        Raises:
            UsageError: values are of the wrong type or contradict each other.
            LookupError: a key's value is not supported, such as an unknown activation.
        """
        config = self.derived.read(config)
        changes: dict[str, Json] = {owner: {} for owner in ("model", *heads)}
        for choice in absent:
            _lay(changes["model"], _nested(choice.split("."), None))
        for setting in self.settings_for(heads):
            if config.get(setting.key) is None:
                continue
            value = _read(setting, config[setting.key])
            for path in setting.present(changes, absent):
                owner, *steps = path.split(".")
                _lay(changes[owner], _nested(steps, value))
        model = self.template.model.overlay(changes.pop("model"))
        return model, {head: self.heads[head].objective.overlay(table) for head, table in changes.items()}


def _same_head(mine: Objective, found: Objective, free: frozenset[str]) -> bool:
    """Return whether an objective makes the other choices, but for those that are free; or is of a kind under it."""
    own, other = (
        {choice: value for choice, value in one.to_json().items() if choice not in free | {"kind"}}
        for one in (mine, found)
    )
    return isinstance(mine, type(found)) and own == other


def hf_names(name: str, table: Table) -> tuple[str, ...]:
    """Return the Hugging Face names in the row of a tensor, given by its genus name.

    Raises:
        KeyError: the table has no row for it.
    """
    return place(name, table).theirs


@functools.cache
def layouts() -> tuple[Layout, ...]:
    """Return all layouts, in the order of the modules and within them."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return tuple(value for module in modules for value in vars(module).values() if isinstance(value, Layout))


def layout_for(recipe: Recipe, heads: Iterable[str]) -> tuple[Layout, Json] | None:
    """Return the first layout that can express a recipe's architecture, and its configuration; None if none can.

    Heads that no layout supports are left out, but for those of a task and the last one that predicts the next token:
    what was fine-tuned is not lost, nor the output layer. So are heads whose output layer is that of another one.
    """
    tasks = [objective for objective in recipe.objectives if isinstance(objective, FineTuned)]
    tuned = {objective.name for objective in tasks if not objective.embeds}
    own = frozenset(heads) - recipe.joined.keys()
    heads = frozenset(head for head in own if head in tuned or any(layout.kept([head]) for layout in layouts()))
    if not heads and any(one.next_token_output and one.name in own for one in recipe.objectives):
        return None
    for layout in layouts():
        config = layout.config(recipe, heads)
        if config is not None:
            return layout, config
    return None


def layout_of(config: Json, names: Iterable[str]) -> Layout:
    """Return the layout of a configuration; if it is old and has no `model_type`, by the prefix of the tensor names.

    Raises:
        GenusError: no layout matches.
    """
    kind = config.get("model_type")
    if kind is None:
        named = (one for one in layouts() if one.prefix and any(name.startswith(one.prefix) for name in names))
        kind = next((one.model_type for one in named), None)
    known = list(dict.fromkeys(layout.model_type for layout in layouts()))
    if kind is None:
        raise GenusError("config.json names no model_type, nor do the tensors' names; write one of these into it: "
                         f"{', '.join(known)}")  # fmt: skip
    if kind not in known:
        raise GenusError(f"config.json: model_type {kind!r} cannot be read.{near(str(kind), known)}")
    found = [layout for layout in layouts() if layout.model_type == kind]
    return next(layout for layout in sorted(found, key=lambda one: not one.variant) if layout.fits(config))


def _read(setting: Setting, value: Any) -> Any:
    """Convert a configuration value, which may be anything, to genus; raise a `LookupError` if it is not supported."""
    try:
        return setting.read(value)
    except (LookupError, TypeError, ValueError, AttributeError):
        raise LookupError(f"{setting.key} = {value!r}") from None


def _at(choices: Json, path: str) -> Any:
    """Return the choice at a dotted path; raise a `LookupError` where the parts along it have no such choice."""
    value: Any = choices
    for step in path.split("."):
        if isinstance(value, list):
            value = dict(zip(map(str, range(len(value))), value, strict=True))
        if not isinstance(value, Mapping):
            raise LookupError(path)
        value = value[step]
    return value


def _is_null(choices: Json, path: str) -> bool:
    """Return whether the choice at a dotted path is null, or there is none."""
    try:
        return _at(choices, path) is None
    except LookupError:
        return True


def _nested(steps: Sequence[str], value: Any) -> Json:
    """Return a table that holds a value at a path."""
    found: Json = functools.reduce(lambda inner, step: {step: inner}, reversed(steps), value)
    return found


def _lay(table: Json, changes: Json) -> None:
    """Merge nested changes into a nested table, in place."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(table.get(key), dict):
            _lay(table[key], value)
        else:
            table[key] = value
