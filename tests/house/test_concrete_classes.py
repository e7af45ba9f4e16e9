"""Nobody asks whether something is of a concrete part or module but the room that owns it: heads and slots answer."""

from __future__ import annotations

import ast
import importlib
import inspect
from typing import TYPE_CHECKING

import pytest
from source import modules, own_imports, room
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


def one_of_several(kind: type) -> bool:
    """Return whether a part is a choice beside others, as a recipe is not."""
    return kind.__bases__ != (Part,) or bool(kind.__subclasses__())


def asked(tree: ast.Module) -> Iterator[tuple[int, type]]:
    """Yield (line, class) of every class of this package that a test by `isinstance` or `type(...) is` names."""
    known = {name.rpartition(".")[2]: name for _, name in own_imports(tree)}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, kinds]):
                named = kinds
            case ast.Compare(left=ast.Call(func=ast.Name(id="type")), comparators=[kinds]):
                named = kinds
            case _:
                continue
        for part in ast.walk(named):
            if isinstance(part, ast.Name) and part.id in known:
                home, _, attribute = known[part.id].rpartition(".")
                value = getattr(importlib.import_module(home), attribute, None)
                if inspect.isclass(value):
                    yield node.lineno, value
