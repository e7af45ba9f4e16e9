"""What a part is: a frozen value of choices, written as JSON with its `kind`, read back, overridden, compared, hashed.

A *slot* is an abstract subclass of `Part` (`Attention`, `TokenizerConfig`, `Objective`, ...). A part joins a slot by
existing in the slot's folder (`genus.part.slots`); kinds are looked up within their slot. There is no list.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from inspect import Parameter, Signature
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

from genus.errors import ChoiceError, near
from genus.part.choices import choices_of
from genus.part.ranges import Count, Fraction, Natural, NotNegative, Positive, Range, Share, SomeShare
from genus.part.slots import slots_of

__all__ = [
    "Count",
    "Fraction",
    "Json",
    "Natural",
    "NotNegative",
    "Part",
    "Positive",
    "Range",
    "Share",
    "SomeShare",
    "diff",
    "parts_within",
    "slots_of",
]

P = TypeVar("P", bound="Part")
Json = dict[str, Any]


class _Signature:
    """What `inspect.signature` says of a part: its choices, by keyword only."""

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
    """A row of choices: every subclass is a frozen dataclass of keywords, whose values are checked as it is made."""

    __signature__: ClassVar[Any] = _Signature()

    def __init_subclass__(cls) -> None:
        """Make the subclass a dataclass; what it does is inherited, so that defining a part costs little."""
        super().__init_subclass__()
        dataclass(init=False, repr=False, eq=False, kw_only=True)(cls)

    def __init__(self, **values: object) -> None:
        """Take the choices.

        Raises:
            ChoiceError: naming the kind and the choice: it is not known, it is missing, or its value is of another
                type or out of its range.
        """
        kind, known = type(self).__name__, choices_of(type(self))
        for name in values:
            if name not in known:
                raise ChoiceError(f"{kind} has no choice {name!r}.{near(name, list(known))}")
        for name, choice in known.items():
            value = values.get(name, choice.default)
            if value is MISSING:
                raise ChoiceError(f"{kind} needs the choice {name!r}")
            if problem := choice.type.problem(value):
                raise ChoiceError(f"{kind}.{name}{problem}")
            self.__dict__[name] = value
        self.__post_init__()

    def __post_init__(self) -> None:
        """Refuse choices that contradict each other, by a ValueError."""

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: a part is what it is."""
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        """Refuse: a part is what it is."""
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _values(self) -> tuple[object, ...]:
        return tuple(self.__dict__[name] for name in choices_of(type(self)))

    def __eq__(self, other: object) -> bool:
        """Tell whether another part is of the same kind and the same choices."""
        if type(self) is not type(other):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        """Return a hash of kind and choices."""
        return hash((type(self), *self._values()))

    def __repr__(self) -> str:
        """Return the call that makes this part."""
        values = zip(choices_of(type(self)), self._values(), strict=True)
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in values)})"

    @property
    def in_words(self) -> str:
        """What a table says of this part: its kind in words, where it has no better ones; nothing of the usual."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z][a-z]|[A-Z]{2})", " ", type(self).__name__).split()
        return " ".join(word.lower() if word[1:].islower() else word for word in words)

    def to_json(self) -> Json:
        """Return this part, and the parts inside it, as JSON values, each with its `kind`."""
        values = zip(choices_of(type(self)).items(), self._values(), strict=True)
        return {"kind": type(self).__name__, **{name: choice.type.write(value) for (name, choice), value in values}}

    def written(self) -> Json:
        """Return what a file holds of this part: its JSON, with the number of the schema by which to read it."""
        from genus.part.renames import SCHEMA

        return {"schema": SCHEMA, **self.to_json()}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read a part back, by the schema whose number it bears; without a number it is of schema 1.

        Raises:
            UsageError: naming the path, the value, what was expected and the nearest valid name.
        """
        from genus.part.reading import read
        from genus.part.upgrade import upgrade

        return read(cls, upgrade(value, cls))

    def hash(self) -> str:
        """Return the first 16 hexadecimal digits of the SHA-256 of the part's canonical JSON."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def override(self, path: str, value: object) -> Self:
        """Return a copy with the choice at a dotted path replaced.

        `value` is JSON, or the text of a TOML value as `--set` gives it (`6`, `0.1`, `true`, `[1, 2]`, `text`, or
        `null`). A part is replaced by naming its kind (`model.norm=RMSNorm`), or by a table; choices that the new kind
        shares are kept.
        """
        return self.overrides({path: value})

    def overrides(self, values: Mapping[str, object]) -> Self:
        """Return a copy with the choices at several dotted paths replaced at once."""
        from genus.part.overlay import nested

        return self.overlay(nested(values))

    def overlay(self, changes: Mapping[str, object]) -> Self:
        """Return a copy with a nested table of changes laid over it, as a TOML overlay gives them."""
        from genus.part.overlay import merged
        from genus.part.reading import read

        return read(type(self), merged(type(self), self.to_json(), changes))


def parts_within(part: Part, slot: type[P]) -> list[P]:
    """Return the parts of a slot that a part holds at any depth, in order, those within a found one left out."""
    found: list[P] = []
    for name in choices_of(type(part)):
        value = getattr(part, name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, slot):
                found.append(inner)
            elif isinstance(inner, Part):
                found += parts_within(inner, slot)
    return found


def diff(left: Part, right: Part) -> list[tuple[str, object, object]]:
    """Return (path, left value, right value) for every choice in which two parts differ; a missing one is None."""
    a, b = dict(_leaves(left.to_json(), "")), dict(_leaves(right.to_json(), ""))
    return [(path, a.get(path), b.get(path)) for path in sorted(a.keys() | b.keys()) if a.get(path) != b.get(path)]


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Yield every plain value, or list of plain values, under its path."""
    items: list[tuple[str, object]]
    if isinstance(value, Mapping):
        items = [(key, inner) for key, inner in value.items()]
    elif isinstance(value, list) and any(isinstance(inner, Mapping | list) for inner in value):
        items = [(str(index), inner) for index, inner in enumerate(value)]
    else:
        yield path, value
        return
    for key, inner in items:
        yield from _leaves(inner, f"{path}.{key}" if path else key)
