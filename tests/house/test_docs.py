"""The pages: links lead somewhere, members' pages are current, commands and examples work."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from source import ROOT

from genus import catalog
from genus.cli import main
from genus.cli.page import member_page
from genus.part import diff
from genus.recipe import Recipe

if TYPE_CHECKING:
    from pathlib import Path

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
STATIONS = {"text", "tokens", "examples", "model", "objectives", "train", "tasks", "export", "evaluate", "cli"}


def blocks(page: Path, language: str) -> list[str]:
    """Return the code of a page in a language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Return the arguments of every `genus` command of a page."""
    lines = "\n".join(blocks(page, "sh")).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("genus ")]


def test_every_station_has_a_page() -> None:
    assert {page.stem for page in PAGES} >= STATIONS | {"design", "adding-a-member"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


PLACES = ("src", "tests", "benchmarks")
FILES = {f"/{path.relative_to(ROOT)}" for place in PLACES for path in (ROOT / place).rglob("*.py")}
OF_USERS = "mine.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_files_that_a_page_names_are_there(page: Path) -> None:
    """By their path, or the end of it."""
    named = set(re.findall(r"`([\w/-]+\.py)`", page.read_text(encoding="utf-8")))
    assert not [
        name for name in named if not name.endswith(OF_USERS) and not any(file.endswith(f"/{name}") for file in FILES)
    ]


@pytest.mark.parametrize("member", catalog.members())
def test_the_page_of_a_member_is_current(member: str) -> None:
    page = ROOT / "docs" / "members" / f"{member}.md"
    assert page.read_text(encoding="utf-8") == member_page(member), f"genus show {member} --markdown > {page}"


def test_the_readme_names_every_member() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [member for member in catalog.members() if f"docs/members/{member}.md" not in text]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_exists_with_its_options(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in commands(page):
        assert main([*arguments, "--help"]) == 0, arguments
    capsys.readouterr()


def test_the_example_of_a_new_member() -> None:
    code = blocks(ROOT / "docs" / "adding-a-member.md", "python")[0]
    values: dict[str, Any] = {}
    exec(compile(code, "mine.py", "exec"), values)
    recipe = values["BASE"]
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    changed = {path.split(".")[0] for path, _, _ in diff(catalog.load("bert"), recipe)}
    assert changed == {"name", "published", "examples", "model", "objectives"}


def test_the_example_of_a_new_part() -> None:
    """In a process of its own: a part, once defined, stays in its slot."""
    program = f"""
import genus.model.norm
exec({blocks(ROOT / "docs" / "adding-a-member.md", "python")[1]!r}, vars(genus.model.norm))
from genus import catalog, cost
recipe = catalog.load("bert/tiny", ["model.norm=SimpleNorm"])
assert recipe.to_json()["model"]["norm"] == {{"kind": "SimpleNorm", "eps": 1e-12}}
assert cost.cost(recipe).parameters == sum(weight.numel() for weight in recipe.learner().parameters())
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_overlay_of_the_readme(tmp_path: Path) -> None:
    (tmp_path / "ours.toml").write_text(blocks(ROOT / "README.md", "toml")[0])
    recipe = catalog.load(tmp_path / "ours.toml")
    assert (recipe.name, recipe.budget.amount, recipe.budget.unit) == ("ours/mini", 600.0, "seconds")
