"""The package's source as syntax trees, which the house rules are checked on."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "genus"


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Return {dotted name: tree} of every module; a package goes by its own name."""
    trees = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        trees[name] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return trees


def room(module: str) -> str:
    """Return the package or module right under `genus` that a module belongs to; the package itself is `__init__`."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(tree: ast.AST) -> list[tuple[int, str]]:
    """Return (line, dotted name) of every import, wherever it stands; a `from` import names what it takes too."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def own_imports(tree: ast.AST) -> list[tuple[int, str]]:
    """Return the imports of the package itself."""
    return [(line, name) for line, name in imports(tree) if name.split(".")[0] == "genus"]
