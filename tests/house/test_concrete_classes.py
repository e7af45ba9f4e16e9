"""Nobody asks whether something is of a concrete part or module but the room that owns it: heads and slots answer."""

from __future__ import annotations

import ast
import importlib
import inspect
from typing import TYPE_CHECKING

import pytest
from source import modules, room
from torch import nn

from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize("module", modules())
def test_concrete_parts_and_modules_are_known_to_their_room_only(module: str) -> None:
    for line, kind in asked(modules()[module]):
        elsewhere = room(kind.__module__) != room(module)
        concrete = issubclass(kind, nn.Module) or (issubclass(kind, Part) and one_of_several(kind))
        concrete = concrete and not inspect.isabstract(kind)
        assert not (elsewhere and concrete), (
            f"{module}, line {line}: isinstance of {kind.__name__}, which is concrete; ask its slot"
        )


def test_the_rule_sees_what_is_asked() -> None:
    tree = ast.parse(
        "from genus.model.transformer import Transformer\nfrom genus.objectives import Head\nimport genus\n"
        "def f(x):\n    return isinstance(x, (Transformer, str)) or isinstance(x, Head) or type(x) is Transformer\n"
    )
    assert [kind.__name__ for _, kind in asked(tree)] == ["Transformer", "Head", "Transformer"]


@pytest.mark.parametrize(
    ("imported", "named"),
    [
        ("from genus.model import transformer", "transformer.Transformer"),
        ("from genus.model import transformer as one", "one.Transformer"),
        ("import genus.model.transformer", "genus.model.transformer.Transformer"),
        ("import genus.model.transformer as one", "one.Transformer"),
        ("from genus import model", "model.transformer.Transformer"),
        ("from genus.model.transformer import Transformer as One", "One"),
        ("import genus", "genus.model.transformer.Transformer"),
    ],
)
def test_the_rule_sees_classes_by_any_name(imported: str, named: str) -> None:
    tree = ast.parse(f"{imported}\ndef f(x):\n    return isinstance(x, (str, {named} | int))\n")
    assert [kind.__name__ for _, kind in asked(tree)] == ["Transformer"]


def one_of_several(kind: type) -> bool:
    """Return whether a part is a choice beside others, as a recipe is not."""
    return kind.__bases__ != (Part,) or bool(kind.__subclasses__())


def asked(tree: ast.Module) -> Iterator[tuple[int, type]]:
    """Yield (line, class) of every class of this package that a test by `isinstance` or `type(...) is` names."""
    known = bindings(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, kinds]):
                named = kinds
            case ast.Compare(left=ast.Call(func=ast.Name(id="type")), comparators=[kinds]):
                named = kinds
            case _:
                continue
        for part in ast.walk(named):
            name, _, rest = (
                ast.unparse(part).partition(".") if isinstance(part, ast.Name | ast.Attribute) else ("",) * 3
            )
            value = found(f"{known[name]}.{rest}" if rest else known[name]) if name in known else None
            if inspect.isclass(value):
                yield node.lineno, value


def bindings(tree: ast.Module) -> dict[str, str]:
    """Return {name: what of this package it is bound to} of the imports of a module, wherever they stand."""
    bound = {}
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(home)):
                bound |= {alias.asname or alias.name: f"{home}.{alias.name}" for alias in node.names}
            case ast.Import():
                for alias in node.names:
                    bound[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else "genus"
    return {name: full for name, full in bound.items() if name == full == "genus" or full.startswith("genus.")}


def found(name: str) -> object:
    """Return what a dotted name means: attributes of the longest module in it; None where there is none."""
    steps, rest = name.split("."), list[str]()
    while steps:
        try:
            value: object = importlib.import_module(".".join(steps))
        except ModuleNotFoundError:
            rest.insert(0, steps.pop())
            continue
        for step in rest:
            value = getattr(value, step, None)
        return value
    return None
