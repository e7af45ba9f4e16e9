"""What a part is: a frozen value of choices, written as JSON with its `kind`, read back, overridden, compared, hashed.

A *slot* is an abstract subclass of `Part` (`Attention`, `Tokens`, `Objective`, ...). A part joins a slot by existing:
it is found by importing every module of the room (the package right under `genus`) in which the slot stands. There is
no list.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import json
import math
import pkgutil
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    Self,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn

from genus.errors import UsageError, near

P = TypeVar("P", bound="Part")
Json = dict[str, Any]


class Range(NamedTuple):
    """Which numbers a choice takes, in words and as a test; stands in `Annotated`, and is checked as a part is read."""

    words: str
    holds: Callable[[float], bool]


Count = Annotated[int, Range("at least 1", lambda number: number >= 1)]
Natural = Annotated[int, Range("at least 0", lambda number: number >= 0)]
Positive = Annotated[float, Range("more than 0", lambda number: number > 0)]
NotNegative = Annotated[float, Range("at least 0", lambda number: number >= 0)]
Share = Annotated[float, Range("a share from 0 to 1", lambda number: 0 <= number <= 1)]
Fraction = Annotated[float, Range("a fraction from 0 to below 1", lambda number: 0 <= number < 1)]


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Part:
    """A row of choices: every subclass is a frozen, keyword-only dataclass, made so as it is defined."""

    def __init_subclass__(cls) -> None:
        """Make the subclass a frozen, keyword-only dataclass."""
        from dataclasses import dataclass

        super().__init_subclass__()
        dataclass(frozen=True, kw_only=True)(cls)

    @property
    def in_words(self) -> str:
        """What a table says of this part: its kind in words, where it has no better ones; nothing of the usual."""
        words = re.sub(r"(?<=[a-z])(?=[A-Z][a-z]|[A-Z]{2})", " ", type(self).__name__).split()
        return " ".join(word.lower() if word[1:].islower() else word for word in words)

    def to_json(self) -> Json:
        """Return this part, and the parts inside it, as JSON values, each with its `kind`."""
        return _codec().unstructure(self)  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read a part back.

        Raises:
            UsageError: naming the path, the value, what was expected and the nearest valid name.
        """
        try:
            return _codec().structure(value, cls)
        except Exception as error:
            raise UsageError("; ".join(_explain(error, ""))) from None

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
        changes: Json = {}
        for path, value in values.items():
            *steps, last = path.split(".")
            table = changes
            for step in steps:
                if not isinstance(table.setdefault(step, {}), dict):
                    table[step] = {"kind": table[step]}  # a part was named before a choice of it
                table = table[step]
            table[last] = _toml_value(value) if isinstance(value, str) else value
        return self.overlay(changes)

    def overlay(self, changes: Mapping[str, object]) -> Self:
        """Return a copy with a nested table of changes laid over it, as a TOML overlay gives them."""
        return type(self).from_json(_merge(self.to_json(), changes, ""))


def slots_of(slot: type[P]) -> dict[str, type[P]]:
    """Return the concrete parts of a slot by kind, having imported every module of the slot's room."""
    _import_room(_room(slot))
    found: dict[str, type[P]] = {}
    pending: list[type[P]] = [slot]
    while pending:
        part = pending.pop()
        if not inspect.isabstract(part):
            found[part.__name__] = part
        pending.extend(part.__subclasses__())
    return dict(sorted(found.items()))


def parts_within(part: Part, slot: type[P]) -> list[P]:
    """Return the parts of a slot that a part holds at any depth, in order, those within a found one left out."""
    found: list[P] = []
    for field in fields(part):  # type: ignore[arg-type]
        value = getattr(part, field.name)
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


def _room(part: type[Part]) -> str:
    """Return the package right under `genus` in which a part stands."""
    return ".".join(part.__module__.split(".")[:2])


@functools.cache
def _import_room(room: str) -> None:
    package = importlib.import_module(room)
    for module in pkgutil.walk_packages(getattr(package, "__path__", []), f"{room}."):
        importlib.import_module(module.name)


@functools.cache
def _codec() -> cattrs.Converter:
    codec = cattrs.Converter(forbid_extra_keys=True, unstruct_collection_overrides={tuple: list})
    writers: dict[type[Any], Callable[[Any], Json]] = {}
    readers: dict[type[Any], Callable[[Any, Any], Any]] = {}

    def is_part(kind: object) -> bool:
        return isinstance(kind, type) and issubclass(kind, Part)

    @codec.register_unstructure_hook_factory(is_part)
    def write(_: type[Part]) -> Callable[[Part], Json]:
        def write_one(part: Part) -> Json:
            kind = type(part)
            if kind not in writers:
                writers[kind] = make_dict_unstructure_fn(kind, codec)
            return {"kind": kind.__name__, **writers[kind](part)}

        return write_one

    @codec.register_structure_hook_factory(is_part)
    def read(slot: type[Part]) -> Callable[[object, object], Part]:
        def read_one(value: object, _: object) -> Part:
            kind, choices = _choose(slot, value)
            if kind not in readers:
                readers[kind] = make_dict_structure_fn(_with_types(kind), codec)
            return readers[kind](choices, kind)  # type: ignore[no-any-return]

        return read_one

    for plain, accepted in ((bool, bool), (int, int), (float, (int, float)), (str, str)):
        codec.register_structure_hook(plain, functools.partial(_strict, plain, accepted))

    @codec.register_structure_hook_factory(_is_annotated)
    def read_within(kind: Any) -> Callable[[object, object], object]:
        plain, within = get_args(kind)
        return lambda value, _: _in_range(within, codec.structure(value, plain))

    codec.register_structure_hook_func(_is_literal, _one_of)
    codec.register_unstructure_hook(float, float)  # 1 and 1.0 are one value, with one hash
    return codec


def _with_types(kind: type[P]) -> type[P]:
    """Return a part whose fields have types, not the names of types, which cattrs reads without their ranges."""
    types = get_type_hints(kind, include_extras=True)
    for field in fields(kind):  # type: ignore[arg-type]
        field.type = types[field.name]
    return kind


def _choose(slot: type[P], value: object) -> tuple[type[P], Json]:
    """Return the part of a slot that a JSON value names (a table with its kind, or the bare kind), and its choices."""
    parts = slots_of(slot)
    table = {"kind": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping):
        raise TypeError(f"expected a table of {slot.__name__}, got {value!r}")
    kind = table.get("kind", slot.__name__)
    if "kind" not in table and kind not in parts:
        raise ValueError(f"name the kind of {slot.__name__}.{near('', list(parts))}")
    if kind not in parts:
        raise ValueError(f"there is no {slot.__name__} {kind!r}.{near(str(kind), list(parts))}")
    choices = {key: choice for key, choice in table.items() if key != "kind"}
    known = {field.name: field for field in fields(parts[kind])}  # type: ignore[arg-type]
    for key in choices:
        if key not in known:
            raise ValueError(f"{kind} has no choice {key!r}.{near(key, list(known))}")
    for key, field in known.items():
        if key not in choices and field.default is MISSING:
            raise ValueError(f"{kind} needs the choice {key!r}")
    return parts[kind], choices


def _strict(plain: type, accepted: type | tuple[type, ...], value: object, _: object) -> object:
    """Take a plain value of the right type only: neither '6' nor 6.5 nor true is an integer."""
    if not isinstance(value, accepted) or (isinstance(value, bool) and plain is not bool):
        raise TypeError(f"expected {plain.__name__}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r}")
    return plain(value)


def _in_range(within: Range, number: float) -> float:
    """Take a number that a choice takes."""
    if not within.holds(number):
        raise ValueError(f"expected {within.words}, got {number:g}")
    return number


def _is_annotated(kind: object) -> bool:
    return get_origin(kind) == Annotated


def _is_literal(kind: object) -> bool:
    return get_origin(kind) == Literal


def _one_of(value: object, kind: Any) -> object:
    """Take one of the literals that a choice lists."""
    if value not in get_args(kind):
        raise ValueError(f"expected one of {', '.join(map(repr, get_args(kind)))}, got {value!r}")
    return value


def _explain(error: BaseException, path: str) -> list[str]:
    """Return 'path: reason' for every leaf of a cattrs error group."""
    from cattrs.errors import AttributeValidationNote, BaseValidationError, IterableValidationNote

    if not isinstance(error, BaseValidationError):
        return [f"{path}: {error}" if path else str(error)]
    lines: list[str] = []
    for inner in error.exceptions:
        step = path
        for note in getattr(inner, "__notes__", []):
            if isinstance(note, AttributeValidationNote):
                step = f"{path}.{note.name}" if path else note.name
            elif isinstance(note, IterableValidationNote):
                step = f"{path}.{note.index}" if path else str(note.index)
        lines += _explain(inner, step)
    return lines


def _toml_value(text: str) -> object:
    """Return the TOML value that a text is, the text itself where it is none, and None for `null`, which TOML lacks."""
    if text == "null":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _merge(old: object, new: object, path: str) -> object:
    """Lay `new` over `old`: tables merge, lists take a table of positions, a new kind keeps the choices it shares."""
    if isinstance(old, list) and isinstance(new, Mapping):
        for key in new:
            if not (key.isdigit() and int(key) < len(old)):
                raise UsageError(f"{path}: {key!r} is not a position in a list of {len(old)}")
        return [_merge(item, new[str(i)], f"{path}.{i}") if str(i) in new else item for i, item in enumerate(old)]
    if isinstance(old, list) and not isinstance(new, list):
        raise UsageError(f"{path}: expected a list, or a position in it, got {new!r}")
    if not isinstance(old, Mapping) or "kind" not in old:
        return new
    if isinstance(new, str):
        new = {"kind": new}
    if not isinstance(new, Mapping):
        return new
    kind = new.get("kind", old["kind"])
    if kind != old["kind"]:
        shared = _choices_shared(str(old["kind"]), str(kind))
        old = {key: value for key, value in old.items() if key in shared}
    merged = dict(old)
    for key, value in new.items():
        merged[key] = _merge(old.get(key), value, f"{path}.{key}" if path else key)
    return merged


def _choices_shared(old: str, new: str) -> set[str]:
    """Return the names of the new kind's choices; it stands in the room of the old kind."""
    known = _find_kind(old)
    if known is not None:
        _import_room(_room(known))
    wanted = _find_kind(new)
    return {field.name for field in fields(wanted)} if wanted else set()  # type: ignore[arg-type]


def _find_kind(kind: str) -> type[Part] | None:
    pending: list[type[Part]] = [Part]
    while pending:
        part = pending.pop()
        if part.__name__ == kind and part is not Part:
            return part
        pending.extend(part.__subclasses__())
    return None


def _leaves(value: object, path: str) -> list[tuple[str, object]]:
    items: list[tuple[str, object]]
    if isinstance(value, Mapping):
        items = [(key, inner) for key, inner in value.items()]
    elif isinstance(value, list) and any(isinstance(inner, (Mapping, list)) for inner in value):
        items = [(str(index), inner) for index, inner in enumerate(value)]
    else:
        return [(path, value)]
    return [leaf for key, inner in items for leaf in _leaves(inner, f"{path}.{key}" if path else key)]
