"""No module needs, as it is imported, one that needs it in turn: each can be the first that is imported."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from source import modules

if TYPE_CHECKING:
    from collections.abc import Collection

Graph = dict[str, set[str]]


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert cycle({name: needed(name, tree, modules().keys()) for name, tree in modules().items()}) == []


def test_the_rule_sees_a_cycle() -> None:
    sources = {
        "genus": "from genus.a import x",
        "genus.a": "from genus import b",
        "genus.b": "from typing import TYPE_CHECKING\nimport genus.c.d\nif TYPE_CHECKING:\n    import genus.a",
        "genus.c": "def f():\n    import genus.a",
        "genus.c.d": "import os",
    }
    trees = {name: ast.parse(source) for name, source in sources.items()}
    assert needed("genus.b", trees["genus.b"], trees.keys()) == {"genus.c.d", "genus.c"}
    assert cycle({name: needed(name, tree, trees.keys()) for name, tree in trees.items()}) == []
    trees["genus.c.d"] = ast.parse(
        "class C:\n    try:\n        from genus.a import x\n    except ImportError:\n        x = 1"
    )
    found = cycle({name: needed(name, tree, trees.keys()) for name, tree in trees.items()})
    assert sorted(found) == ["genus.a", "genus.b", "genus.c.d"]


def needed(module: str, tree: ast.Module, known: Collection[str]) -> set[str]:
    """Return the modules that a module needs when it is imported: not within functions, nor for types alone.

    With a module come the packages above it, except those that the module itself is in: they are being imported.
    """
    names = set[str]()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                continue
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pending += node.orelse
                continue
            case ast.Import():
                names |= {alias.name for alias in node.names}
            case ast.ImportFrom():
                taken = [f"{node.module}.{alias.name}" for alias in node.names]
                names |= {name if name in known else str(node.module) for name in taken}
        pending += ast.iter_child_nodes(node)
    above = {name[:place] for name in names for place, letter in enumerate(name) if letter == "."}
    own = {module[:place] for place, letter in enumerate(module) if letter == "."}
    return {name for name in names | (above - own) if name in known} - {module}


def cycle(graph: Graph) -> list[str]:
    """Return the modules of a cycle, none where there is none."""
    done = set[str]()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := visit(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := visit(name, []))), [])
