"""Choices are read, and nothing behaves by name."""

from __future__ import annotations

import ast
import importlib
import inspect
from dataclasses import fields

import pytest
from source import modules, room

from genus.part import Part
from genus.part.slots import folder_of


def parts() -> list[type[Part]]:
    """Return every part of the package, having imported all of it."""
    for name in modules():
        if not name.endswith("__main__"):
            importlib.import_module(name)
    found, pending = [], list(Part.__subclasses__())
    while pending:
        part = pending.pop()
        pending += part.__subclasses__()
        if part.__module__.startswith("genus."):
            found.append(part)
    return sorted(set(found), key=lambda part: (part.__module__, part.__name__))


def reads() -> set[str]:
    """Return the name of every attribute that is read anywhere but in a recipe."""
    return {
        node.attr
        for name, tree in modules().items()
        if room(name) != "recipes"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def test_no_dead_knobs() -> None:
    read = reads()
    dead = [f"{part.__name__}.{field.name}" for part in parts() for field in fields(part) if field.name not in read]  # type: ignore[arg-type]
    assert not dead, f"nobody reads {', '.join(dead)}"


def slots(part: type[Part]) -> list[type[Part]]:
    """Return the slots in which a part stands."""
    return [base for base in part.__mro__ if base is not Part and issubclass(base, Part) and inspect.isabstract(base)]


def test_no_two_parts_of_a_slot_share_a_name_and_no_two_slots() -> None:
    names = [(slot.__name__, part.__name__) for part in parts() for slot in slots(part) if part is not slot]
    names += [("a slot", part.__name__) for part in parts() if inspect.isabstract(part)]
    names += [("no slot", part.__name__) for part in parts() if not slots(part)]
    assert not {name for name in names if names.count(name) > 1}


def test_a_part_stands_in_the_folder_of_its_slots() -> None:
    """Reading a part imports the slot's folder, and nothing else: what stands elsewhere would not be found."""
    for part in parts():
        for slot in slots(part):
            assert f"{part.__module__}.".startswith(f"{folder_of(slot)}."), f"{part.__name__} is no {slot.__name__}"


@pytest.mark.parametrize("module", [name for name in modules() if room(name) not in {"recipes", "export"}])
def test_nothing_behaves_by_the_name_of_a_member(module: str) -> None:
    """No comparison with, nor lookup of, a member's name; `export` alone knows names, those of foreign files."""
    members = {name.split(".")[2] for name in modules() if name.startswith("genus.recipes.")}
    for node in ast.walk(modules()[module]):
        match node:
            case ast.Compare():
                compared = [node.left, *node.comparators]
            case ast.Call(func=ast.Attribute(attr="startswith" | "endswith")):
                compared = node.args
            case _:
                continue
        words = {str(text.value).lower() for text in compared if isinstance(text, ast.Constant)}
        assert not words & members, f"{module}, line {node.lineno}: {ast.unparse(node)}"


def test_a_part_takes_no_loose_arguments() -> None:
    for part in parts():
        kinds = {parameter.kind for parameter in inspect.signature(part).parameters.values()}
        assert kinds <= {inspect.Parameter.KEYWORD_ONLY}, part.__name__
