"""Nobody reads the weight of a module that it does not stand in.

What wraps, quantizes or splits a linear map from outside replaces the module. Who reads its weight passes that by.
"""

from __future__ import annotations

import ast

import pytest
from source import modules, room

DRAWING = {"__init__", "init_weights", "tie"}
"""Functions in which modules are made, drawn and tied."""
EXEMPT = {"genus.model.initialization", "genus.model.embedding.growth"}
"""Where PyTorch's own modules are drawn, and where tables are copied from one model to another."""
DATA = {"self", "targets"}
"""Names of what has a weight and is no other module."""
TABLES = {"export", "recipes"}
"""Rooms that copy weights from file to module, or hold none."""
TIED = {"genus.model.embedding.adaptive"}
"""Embeddings whose tables an output layer shares."""


def readings(tree: ast.Module) -> list[str]:
    """Return line and source of every `x.weight` that is read, but for `self.weight` and where modules are drawn."""
    found = []
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef) and node.name in DRAWING:
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Attribute) and node.attr == "weight" and isinstance(node.ctx, ast.Load):
            own = isinstance(node.value, ast.Name) and node.value.id in DATA
            found += [] if own else [f"line {node.lineno}: {ast.unparse(node)}"]
    return found


@pytest.mark.parametrize(
    "module", [name for name in modules() if room(name) not in TABLES and name not in EXEMPT | TIED]
)
def test_no_weight_of_another_module_is_read(module: str) -> None:
    assert not readings(modules()[module])


@pytest.mark.parametrize("module", sorted(TIED))
def test_exceptions_are_needed(module: str) -> None:
    assert readings(modules()[module]), f"{module} reads no weight: take it out of TIED"


def test_what_is_found() -> None:
    tree = ast.parse("class A:\n def __init__(self): self.b.weight\n def f(self): return self.weight + self.b.weight\n")
    assert readings(tree) == ["line 3: self.b.weight"]
