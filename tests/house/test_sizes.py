"""Files, functions and dataclasses stay small; module names say something."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest
from source import PACKAGE, ROOT, modules

if TYPE_CHECKING:
    from pathlib import Path

FILE_LINES, FUNCTION_LINES, FIELDS = 400, 60, 16
SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base", "core", "stuff"}

FILES = sorted(path for folder in (PACKAGE, ROOT / "tests", ROOT / "benchmarks") for path in folder.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_length(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_name(path: Path) -> None:
    assert path.stem not in SAY_NOTHING


@pytest.mark.parametrize("module", modules())
def test_function_length(module: str) -> None:
    for node in ast.walk(modules()[module]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < FUNCTION_LINES, f"{module}.{node.name}, line {node.lineno}"


@pytest.mark.parametrize("module", modules())
def test_number_of_fields(module: str) -> None:
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.ClassDef):
            notes = [ast.unparse(item.annotation) for item in node.body if isinstance(item, ast.AnnAssign)]
            fields = [note for note in notes if "ClassVar" not in note]
            assert len(fields) <= FIELDS, f"{module}.{node.name}, line {node.lineno}"
