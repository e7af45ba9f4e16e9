"""Types of choices, derived from annotations: each validates a value, reads it from JSON and writes it to JSON.

A choice is a plain value (`bool`, `int`, `float`, `str`), one of several literals, a number in a range, a part, a tuple
of these, or optionally None.
"""

from __future__ import annotations

import functools
import math
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from genus.errors import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.part import Part
    from genus.part.ranges import Range

LARGEST = 2**63 - 1
"""The largest integer of PyTorch, NumPy and the tokenizers library."""
Problems = list[tuple[str, str]]
"""Validation errors as (path, message)."""


class Type(ABC):
    """The type of a choice: validation and conversion from and to JSON."""

    @abstractmethod
    def problem(self, value: object) -> str | None:
        """Return the error in a value, after the path within it (`.1: expected int, got 6.5`); None if it is valid."""

    def read(self, value: object, path: str, problems: Problems) -> object:
        """Convert a value from JSON; errors are added to `problems` with their paths."""
        if problem := self.problem(value):
            step, _, words = problem.partition(": ")
            problems.append((path + step, words))
            return value
        return self.write(value)

    def write(self, value: Any) -> object:
        """Convert a value to JSON; here it is unchanged."""
        return value


@dataclass(frozen=True)
class Plain(Type):
    """A value of one of Python's plain types, without coercion: '6', 6.5 and true are not integers."""

    type: type[Any]

    def problem(self, value: object) -> str | None:
        """Return an error for another type and for numbers without a form in 64 bits; an integer is a valid float."""
        accepted = (int, float) if self.type is float else self.type
        if not isinstance(value, accepted) or (isinstance(value, bool) and self.type is not bool):
            return f": expected {self.type.__name__}, got {shown(value)}"
        if isinstance(value, float) and not math.isfinite(value):
            return f": expected a finite number, got {shown(value)}"
        if isinstance(value, int) and abs(value) > (LARGEST if self.type is int else sys.float_info.max):
            return f": expected a number of at most {LARGEST if self.type is int else sys.float_info.max:.3g}"
        return None

    def write(self, value: Any) -> object:
        """Convert a number to float if the type is float, so that 1 and 1.0 have the same hash."""
        return float(value) if self.type is float else value


@dataclass(frozen=True)
class Within(Type):
    """A number in a range."""

    inner: Type
    range: Range

    def problem(self, value: Any) -> str | None:
        """Return an error for a value that is not a valid number or is out of the range."""
        if problem := self.inner.problem(value):
            return problem
        return None if self.range.holds(value) else f": expected {self.range.words}, got {value:g}"

    def write(self, value: Any) -> object:
        """Convert the number as the inner type does."""
        return self.inner.write(value)


@dataclass(frozen=True)
class OneOf(Type):
    """One of several literals."""

    values: tuple[object, ...]

    def problem(self, value: object) -> str | None:
        """Return an error for a value that is not one of the literals."""
        if value in self.values:
            return None
        return f": expected one of {', '.join(map(repr, self.values))}, got {shown(value)}"


@dataclass(frozen=True)
class Optional(Type):
    """A value of the inner type, or None."""

    inner: Type

    def problem(self, value: object) -> str | None:
        """Return the inner type's error, or None if the value is None."""
        return None if value is None else self.inner.problem(value)

    def read(self, value: object, path: str, problems: Problems) -> object:
        """Convert a value from JSON as the inner type does, with null as None."""
        return None if value is None else self.inner.read(value, path, problems)

    def write(self, value: Any) -> object:
        """Convert a value to JSON as the inner type does, with None as null."""
        return None if value is None else self.inner.write(value)


@dataclass(frozen=True)
class Several(Type):
    """A tuple, of any number of values of one type or of one value of each of several types; in JSON it is a list."""

    types: tuple[Type, ...]
    repeated: bool

    def problem(self, value: object) -> str | None:
        """Return an error for a value that is not a tuple, has another length or holds invalid values."""
        if not isinstance(value, tuple):
            return f": expected a tuple, got {shown(value)}"
        if not self.repeated and len(value) != len(self.types):
            return f": expected {len(self.types)} values, got {shown(list(value))}"
        found = ((number, self.at(number).problem(item)) for number, item in enumerate(value))
        return next((f".{number}{problem}" for number, problem in found if problem), None)

    def at(self, number: int) -> Type:
        """Return the type of the value at an index."""
        return self.types[0 if self.repeated else number]

    def read(self, value: object, path: str, problems: Problems) -> object:
        """Convert a list to a tuple; it is empty if the value is not a list or has another length."""
        if not isinstance(value, list | tuple):
            problems.append((path, f"expected a list, got {shown(value)}"))
        elif not self.repeated and len(value) != len(self.types):
            problems.append((path, f"expected {len(self.types)} values, got {shown(list(value))}"))
        else:
            read = (self.at(number).read(item, f"{path}.{number}", problems) for number, item in enumerate(value))
            return tuple(read)
        return ()

    def write(self, value: Sequence[Any]) -> object:
        """Convert a tuple to a list."""
        return [self.at(number).write(item) for number, item in enumerate(value)]


@dataclass(frozen=True)
class Slot(Type):
    """A part of a class or of its subclasses (the slot); in JSON it is a table with its `kind`."""

    slot: type[Part]

    def problem(self, value: object) -> str | None:
        """Return an error for a value that is not a part of the slot."""
        return None if isinstance(value, self.slot) else f": expected {self.slot.__name__}, got {shown(value)}"

    def read(self, value: object, path: str, problems: Problems) -> object:
        """Read a part from a table, or from the name of its kind alone."""
        from genus.part.reading import read_part

        return read_part(self.slot, value, path, problems)

    def write(self, value: Part) -> object:
        """Convert a part to its JSON table."""
        return value.to_json()


class Choice(NamedTuple):
    """A field of a part: its type and its default."""

    type: Type
    default: object
    """The default value, `dataclasses.MISSING` if the choice is required."""


_KNOWN: dict[type[Any], dict[str, Choice]] = {}


def choices_of(part: type[Any]) -> dict[str, Choice]:
    """Return the choices of a part class by name, in order, inherited ones first."""
    if part not in _KNOWN:
        found = {}
        for field in fields(part):
            home = next(base for base in part.__mro__ if field.name in vars(base).get("__annotations__", {}))
            found[field.name] = Choice(_type_at(home, field.name), field.default)
        _KNOWN[part] = found
    return _KNOWN[part]


@functools.cache
def _type_at(home: type[Any], name: str) -> Type:
    """Return the type of a choice from its annotation in the class that defines it."""
    annotation = vars(home)["__annotations__"][name]
    if isinstance(annotation, str):
        annotation = eval(annotation, vars(sys.modules[home.__module__]))  # as `get_type_hints` does, but per choice
    try:
        return type_of(annotation)
    except TypeError as error:
        raise TypeError(f"{home.__name__}.{name}: {error}") from None


def type_of(annotation: Any) -> Type:
    """Return the choice type of an annotation.

    Raises:
        TypeError: the annotation is not supported.
    """
    arguments = get_args(annotation)
    match get_origin(annotation):
        case _ if annotation in (bool, int, float, str):
            return Plain(annotation)
        case origin if origin is Annotated:
            return functools.reduce(Within, arguments[1:], type_of(arguments[0]))
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
