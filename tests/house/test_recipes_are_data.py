"""A recipe file holds a docstring, imports, and values made of literals, constructor calls and `replace`."""

from __future__ import annotations

import ast

import pytest
from source import ROOT, modules

RECIPES = [name for name in modules() if name.startswith("genus.recipes.")]


def is_data(node: ast.expr) -> bool:
    """Say whether an expression is a literal, a name, a named value's field, or a call of a name with these."""
    match node:
        case ast.Constant() | ast.Name():
            return True
        case ast.Attribute():
            return is_data(node.value) and not isinstance(node.value, ast.Constant)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant()):
            return True
        case ast.Tuple() | ast.List():
            return all(is_data(item) for item in node.elts)
        case ast.Call(func=ast.Name()):
            return all(map(is_data, node.args)) and all(word.arg and is_data(word.value) for word in node.keywords)
    return False


@pytest.mark.parametrize("module", RECIPES)
def test_only_data(module: str) -> None:
    docstring, *rest = modules()[module].body
    assert isinstance(docstring, ast.Expr), "a recipe begins with a docstring"
    for node in rest:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        assert isinstance(node, ast.Assign), f"{module}, line {node.lineno}: {ast.unparse(node)}"
        assert is_data(node.value), f"{module}, line {node.lineno}: a value that is not plain data"


@pytest.mark.parametrize("module", RECIPES)
def test_the_docstring_cites_the_paper(module: str) -> None:
    text = ast.get_docstring(modules()[module]) or ""
    assert any(mark in text for mark in ("arXiv:", "doi:", "ACL", "OpenAI"))


@pytest.mark.parametrize("module", RECIPES)
def test_numbers_say_where_they_come_from(module: str) -> None:
    """Every choice of a row that holds a number has a comment within its lines, which names the source."""
    lines = (ROOT / "src" / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8").splitlines()
    for row in modules()[module].body:
        if not (isinstance(row, ast.Assign) and isinstance(row.value, ast.Call)):
            continue
        for choice in row.value.keywords:
            numbers = [n for n in ast.walk(choice.value) if type(getattr(n, "value", None)) in (int, float)]
            first = choice.value.lineno
            cited = any("  # " in line for line in lines[first - 1 : choice.value.end_lineno])
            assert cited or not numbers, f"{module}, line {first}: {choice.arg} names no source"


@pytest.mark.parametrize("text", ["1 + 2", "[x for x in y]", "f(**k)", "B if C else D", "x.f(1)", "lambda: 1", "1 < 2"])
def test_the_rule_itself(text: str) -> None:
    assert not is_data(ast.parse(text, mode="eval").body)
