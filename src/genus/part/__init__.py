"""Parts, the configuration system: frozen values of choices with JSON, overrides, comparison and hashes.

A *slot* is an abstract subclass of `Part` (`Attention`, `TokenizerConfig`, `Objective`, ...). A part belongs to a slot
if it is a subclass in the slot's folder (`genus.part.slots`); there is no registry. A part's `kind` is looked up within
its slot.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from inspect import Parameter, Signature
from typing import Any, ClassVar, Self, TypeVar, cast, dataclass_transform

from genus.errors import ChoiceError, near, shown
from genus.part.choices import choices_of
from genus.part.ranges import (
    AtLeastOne,
    Count,
    Depth,
    Fraction,
    Natural,
    NotNegative,
    Positive,
    Range,
    Share,
    SomeShare,
    VocabSize,
)
from genus.part.slots import slots_of

__all__ = [
    "AtLeastOne",
    "Count",
    "Depth",
    "Fraction",
    "Json",
    "Natural",
    "NotNegative",
    "Part",
    "Positive",
    "Range",
    "Share",
    "SomeShare",
    "VocabSize",
    "diff",
    "leaves",
    "parts_within",
    "rebuilt",
    "slots_of",
]

P = TypeVar("P", bound="Part")
Json = dict[str, Any]


class _Signature:
    """Descriptor of a part's `inspect.signature`: its choices as keyword-only parameters."""

    def __get__(self, part: object, kind: type[Part]) -> Signature:
        return Signature(
            [
                Parameter(
                    field.name,
                    Parameter.KEYWORD_ONLY,
                    default=Parameter.empty if field.default is MISSING else field.default,
                    annotation=field.type,
                )
                for field in fields(kind)  # type: ignore[arg-type]  # every part is a dataclass
            ]
        )


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Part:
    """A configuration value: every subclass is a frozen, keyword-only dataclass, whose values are checked when made."""

    __signature__: ClassVar[Any] = _Signature()

    def __init_subclass__(cls) -> None:
        """Make the subclass a dataclass without generated methods, which keeps the definition of parts fast."""
        super().__init_subclass__()
        dataclass(init=False, repr=False, eq=False, kw_only=True)(cls)

    def __init__(self, **values: object) -> None:
        """Check and store the choices; those left out have their defaults.

        Raises:
            ChoiceError: a choice is unknown or missing, or its value is of another type or out of its range; the
                message names the kind and the choice.
        """
        kind, known = type(self).__name__, choices_of(type(self))
        for name in values:
            if name not in known:
                raise ChoiceError(f"{kind} has no choice {shown(name)}.{near(name, list(known))}")
        for name, choice in known.items():
            value = values.get(name, choice.default)
            if value is MISSING:
                raise ChoiceError(f"{kind} needs the choice {name!r}")
            if problem := choice.type.problem(value):
                raise ChoiceError(f"{kind}.{name}{problem}")
            self.__dict__[name] = value
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check that the choices are consistent; subclasses raise a ValueError if not."""

    def __setattr__(self, name: str, value: object) -> None:
        """Raise a FrozenInstanceError, since parts are immutable."""
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        """Raise a FrozenInstanceError, since parts are immutable."""
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _values(self) -> tuple[object, ...]:
        return tuple(self.__dict__[name] for name in choices_of(type(self)))

    def __eq__(self, other: object) -> bool:
        """Return whether another part has the same class and the same choices."""
        if type(self) is not type(other):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        """Return a hash of class and choices."""
        return hash((type(self), *self._values()))

    def __repr__(self) -> str:
        """Return the Python call that makes an equal part."""
        values = zip(choices_of(type(self)), self._values(), strict=True)
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in values)})"

    @property
    def in_words(self) -> str:
        """Description of this part in tables: by default its class name as words; empty for what is usual."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z][a-z]|[A-Z]{2})", " ", type(self).__name__).split()
        return " ".join(word.lower() if word[1:].islower() else word for word in words)

    def to_json(self) -> Json:
        """Return this part, and the parts inside it, as JSON tables, each with its `kind`."""
        values = zip(choices_of(type(self)).items(), self._values(), strict=True)
        return {"kind": type(self).__name__, **{name: choice.type.write(value) for (name, choice), value in values}}

    def written(self) -> Json:
        """Return the JSON table for a file: that of `to_json` with the schema number, by which it is read."""
        from genus.part.renames import SCHEMA

        return {"schema": SCHEMA, **self.to_json()}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read a part from JSON by its schema number; without one, the schema is 1.

        Raises:
            UsageError: the JSON is invalid; the message names the path, the value, what was expected and similar valid
                names.
        """
        from genus.part.reading import read
        from genus.part.upgrade import upgrade

        return read(cls, upgrade(value, cls))

    def hash(self) -> str:
        """Return the first 16 hexadecimal digits of the SHA-256 of the canonical JSON (sorted keys, no spaces)."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def override(self, path: str, value: object) -> Self:
        """Return a copy with the choice at a dotted path replaced.

        `value` is JSON, or the text of a TOML value as in `--set` (`6`, `0.1`, `true`, `[1, 2]`, `text`, or `null`). A
        part is replaced by the name of its kind (`model.norm=RMSNorm`) or by a table; choices that the new kind shares
        are kept.
        """
        return self.overrides({path: value})

    def overrides(self, values: Mapping[str, object]) -> Self:
        """Return a copy with the choices at several dotted paths replaced at once."""
        from genus.part.overlay import nested

        return self.overlay(nested(values))

    def overlay(self, changes: Mapping[str, object]) -> Self:
        """Return a copy with a nested table of changes merged into it, as a TOML overlay has them."""
        from genus.part.overlay import merged
        from genus.part.reading import read

        return read(type(self), merged(type(self), self.to_json(), changes))


def parts_within(part: Part, slot: type[P]) -> list[P]:
    """Return the parts of a slot inside a part, at any depth and in order; parts inside a found one are left out."""
    found: list[P] = []
    for name in choices_of(type(part)):
        value = getattr(part, name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, slot):
                found.append(inner)
            elif isinstance(inner, Part):
                found += parts_within(inner, slot)
    return found


def rebuilt(part: P, change: Callable[[Part], Part]) -> P:
    """Return a part with a change made to all parts within it, the innermost first, and to itself."""

    def inner(value: object) -> object:
        if isinstance(value, tuple):
            return tuple(map(inner, value))
        return rebuilt(value, change) if isinstance(value, Part) else value

    old = {name: getattr(part, name) for name in choices_of(type(part))}
    new = {name: inner(value) for name, value in old.items()}
    return cast("P", change(part if new == old else type(part)(**new)))


def diff(left: Part, right: Part) -> list[tuple[str, object, object]]:
    """Return (path, left value, right value) for every choice in which two parts differ; a missing value is None."""
    a, b = dict(leaves(left.to_json())), dict(leaves(right.to_json()))
    return [(path, a.get(path), b.get(path)) for path in sorted(a.keys() | b.keys()) if a.get(path) != b.get(path)]


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield (path, value) for every plain value or list of plain values within the JSON of a part."""
    items: list[tuple[str, object]]
    if isinstance(value, Mapping):
        items = [(key, inner) for key, inner in value.items()]
    elif isinstance(value, list) and any(isinstance(inner, Mapping | list) for inner in value):
        items = [(str(index), inner) for index, inner in enumerate(value)]
    else:
        yield path, value
        return
    for key, inner in items:
        yield from leaves(inner, f"{path}.{key}" if path else key)
