"""Shape letters: each has one meaning in all of `model`, that of the table in docs/names.md."""

from __future__ import annotations

import ast
import re

import pytest
from source import ROOT, modules, room

TABLE = (ROOT / "docs" / "names.md").read_text(encoding="utf-8").split("\n## Shape letters\n")[1]
ROWS = re.findall(r"^\| (\S.*) \| (\S.*) \|$", TABLE, re.MULTILINE)[2:]  # below the heading and its rule
MEANINGS = dict(ROWS)
SUFFIX = re.compile(r"[a-z]\w*_([0-9A-Za-z]*[A-Z][0-9A-Za-z]*)")
"""A name such as `q_TAD`; a constant or a class begins with a capital letter or an underscore."""

MODULES = [name for name in modules() if room(name) in {"model", "batch"}]


def legend(module: str) -> dict[str, str]:
    """Return {letter: meaning} of the paragraph `Legend:` of a module's docstring; nothing if there is none."""
    paragraphs = [" ".join(part.split()) for part in (ast.get_docstring(modules()[module]) or "").split("\n\n")]
    lines = [line.removeprefix("Legend: ").removesuffix(".") for line in paragraphs if line.startswith("Legend: ")]
    assert not any("Legend" in line for line in paragraphs if not line.startswith("Legend: ")), module
    assert len(lines) < 2, module
    return dict(item.split(" ", 1) for line in lines for item in line.split("; "))  # type: ignore[misc]


def names(tree: ast.Module) -> set[str]:
    """Return the names of variables, parameters, attributes and keyword arguments."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                found.add(name)
    return found


def test_each_letter_of_the_table_has_one_row_and_each_meaning_one_letter() -> None:
    letters, meanings = zip(*ROWS, strict=True)
    assert [letter for letter in letters if len(letter) > 1 or letters.count(letter) > 1] == []
    assert [meaning for meaning in meanings if meanings.count(meaning) > 1 or ";" in meaning] == []


@pytest.mark.parametrize("module", [name for name in MODULES if "Legend" in (ast.get_docstring(modules()[name]) or "")])
def test_a_legend_repeats_the_table(module: str) -> None:
    found = legend(module)
    assert found == {letter: MEANINGS.get(letter) for letter in found}


@pytest.mark.parametrize("module", MODULES)
def test_a_suffix_consists_of_letters_of_the_table(module: str) -> None:
    suffixes = {match[1]: name for name in names(modules()[module]) if (match := SUFFIX.fullmatch(name))}
    strange = {
        name for suffix, name in suffixes.items() for mark in suffix if not mark.isdigit() and mark not in MEANINGS
    }
    assert not strange
