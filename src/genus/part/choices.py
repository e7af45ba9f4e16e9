"""The types that a choice may have, made of its annotation: each checks a value, reads it from JSON and writes it.

A choice is a plain value (`bool`, `int`, `float`, `str`), one of several literals, a number in a range, a part, a tuple
of these, or one of these or None.
"""

from __future__ import annotations

import functools
import math
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.part import Part
    from genus.part.ranges import Range

Problems = list[tuple[str, str]]
"""What is wrong, and the path at which it is."""


class Type(ABC):
    """What values a choice takes."""

    @abstractmethod
    def problem(self, value: object) -> str | None:
        """Return what is wrong with a value, after the path within it (`.1: expected int, got 6.5`); or None."""

    def read(self, value: object, path: str, problems: Problems) -> object:
        """Return the value of JSON, noting what is wrong with it under its path."""
        if problem := self.problem(value):
            step, _, words = problem.partition(": ")
            problems.append((path + step, words))
            return value
        return self.write(value)

    def write(self, value: Any) -> object:
        """Return a value as JSON."""
        return value


@dataclass(frozen=True)
class Plain(Type):
    """A value of one of Python's plain types: neither '6' nor 6.5 nor true is an integer."""

    type: type[Any]

    def problem(self, value: object) -> str | None:
        """Refuse a value of another type, and a number that is not finite; an integer is a float too."""
        accepted = (int, float) if self.type is float else self.type
        if not isinstance(value, accepted) or (isinstance(value, bool) and self.type is not bool):
            return f": expected {self.type.__name__}, got {value!r}"
        if isinstance(value, float) and not math.isfinite(value):
            return f": expected a finite number, got {value!r}"
        return None

    def write(self, value: Any) -> object:
        """Return the value: 1 and 1.0 are one float, with one hash."""
        return float(value) if self.type is float else value


@dataclass(frozen=True)
class Within(Type):
    """A number in a range."""

    inner: Type
    range: Range

    def problem(self, value: Any) -> str | None:
        """Refuse what is no such number, and a number out of the range."""
        if problem := self.inner.problem(value):
            return problem
        return None if self.range.holds(value) else f": expected {self.range.words}, got {value:g}"

    def write(self, value: Any) -> object:
        """Return the number."""
        return self.inner.write(value)


@dataclass(frozen=True)
class OneOf(Type):
    """One of several literals."""

    values: tuple[object, ...]

    def problem(self, value: object) -> str | None:
        """Refuse another value."""
        if value in self.values:
            return None
        return f": expected one of {', '.join(map(repr, self.values))}, got {value!r}"


@dataclass(frozen=True)
class Optional(Type):
    """A value, or None."""

    inner: Type

    def problem(self, value: object) -> str | None:
        """Refuse what the value may not be."""
        return None if value is None else self.inner.problem(value)

    def read(self, value: object, path: str, problems: Problems) -> object:
        """Return the value, or None."""
        return None if value is None else self.inner.read(value, path, problems)

    def write(self, value: Any) -> object:
        """Return the value, or None."""
        return None if value is None else self.inner.write(value)


@dataclass(frozen=True)
class Several(Type):
    """A tuple: of any number of values of one type, or of one value of each of several types. JSON has it as a list."""

    types: tuple[Type, ...]
    repeated: bool

    def problem(self, value: object) -> str | None:
        """Refuse what is no tuple, or holds what it may not."""
        if not isinstance(value, tuple):
            return f": expected a tuple, got {value!r}"
        if not self.repeated and len(value) != len(self.types):
            return f": expected {len(self.types)} values, got {list(value)!r}"
        found = ((number, self.at(number).problem(item)) for number, item in enumerate(value))
        return next((f".{number}{problem}" for number, problem in found if problem), None)

    def at(self, number: int) -> Type:
        """Return the type of the value at a place."""
        return self.types[0 if self.repeated else number]

    def read(self, value: object, path: str, problems: Problems) -> object:
        """Return the tuple of a list."""
        if not isinstance(value, list | tuple):
            problems.append((path, f"expected a list, got {value!r}"))
        elif not self.repeated and len(value) != len(self.types):
            problems.append((path, f"expected {len(self.types)} values, got {list(value)!r}"))
        else:
            read = (self.at(number).read(item, f"{path}.{number}", problems) for number, item in enumerate(value))
            return tuple(read)
        return ()

    def write(self, value: Sequence[Any]) -> object:
        """Return a list."""
        return [self.at(number).write(item) for number, item in enumerate(value)]


@dataclass(frozen=True)
class Slot(Type):
    """A part: of the class itself, or of any that stands in it as a slot. JSON has it as a table with its `kind`."""

    slot: type[Part]

    def problem(self, value: object) -> str | None:
        """Refuse what is no such part."""
        return None if isinstance(value, self.slot) else f": expected {self.slot.__name__}, got {value!r}"

    def read(self, value: object, path: str, problems: Problems) -> object:
        """Return the part of a table, or of a bare kind."""
        from genus.part.reading import read_part

        return read_part(self.slot, value, path, problems)

    def write(self, value: Part) -> object:
        """Return the part's table."""
        return value.to_json()


class Choice(NamedTuple):
    """A field of a part."""

    type: Type
    default: object
    """MISSING where there is none."""


_KNOWN: dict[type[Any], dict[str, Choice]] = {}


def choices_of(part: type[Any]) -> dict[str, Choice]:
    """Return the choices of a part by name, in order, those it inherits first."""
    if part not in _KNOWN:
        found = {}
        for field in fields(part):
            home = next(base for base in part.__mro__ if field.name in vars(base).get("__annotations__", {}))
            found[field.name] = Choice(_type_at(home, field.name), field.default)
        _KNOWN[part] = found
    return _KNOWN[part]


@functools.cache
def _type_at(home: type[Any], name: str) -> Type:
    """Return the type of the choice that a class annotates."""
    annotation = vars(home)["__annotations__"][name]
    if isinstance(annotation, str):
        annotation = eval(annotation, vars(sys.modules[home.__module__]))  # what `get_type_hints` does, once a class
    try:
        return type_of(annotation)
    except TypeError as error:
        raise TypeError(f"{home.__name__}.{name}: {error}") from None


def type_of(annotation: Any) -> Type:
    """Return the type that an annotation means.

    Raises:
        TypeError: it means none.
    """
    arguments = get_args(annotation)
    match get_origin(annotation):
        case _ if annotation in (bool, int, float, str):
            return Plain(annotation)
        case origin if origin is Annotated:
            return Within(type_of(arguments[0]), arguments[1])
        case origin if origin is Literal:
            return OneOf(arguments)
        case origin if origin is tuple:
            repeated = arguments[-1] is Ellipsis
            return Several(tuple(map(type_of, arguments[:-1] if repeated else arguments)), repeated)
        case origin if origin in (Union, UnionType) and len(arguments) == 2 and NoneType in arguments:
            return Optional(type_of(arguments[arguments[0] is NoneType]))
        case None if isinstance(annotation, type):
            return Slot(annotation)
    raise TypeError(f"{annotation} is no type of a choice")
