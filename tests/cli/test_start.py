"""What commands import when they start; `benchmarks/start.py` measures how long that takes."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest

LIGHT = {"genus", "typer", "shellingham", "annotated_doc", "pydantic", "pydantic_core", "annotated_types"}
LIGHT |= {"typing_inspection", "tokenizers"}
"""Packages that a look at the catalog may import beside PyTorch and what PyTorch itself imports."""


@functools.cache
def loaded(code: str) -> frozenset[str]:
    """Return the names of modules that a program prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return frozenset(done.stdout.split())


def imported(*arguments: str) -> frozenset[str]:
    """Return the modules that are there when a command ends."""
    code = (
        "import sys, io, contextlib\n"
        "from genus.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    main({list(arguments)})\n"
        "print(*sys.modules)"
    )
    return loaded(code)


def test_help_imports_neither_pytorch_nor_numpy() -> None:
    assert not imported("--help") & {"torch", "numpy", "tokenizers", "genus.part"}


@pytest.mark.parametrize("arguments", [["list"], ["show", "bert"], ["show", "bert/tiny", "--set", "model.layers=3"]])
def test_a_look_at_the_catalog_does_not_load_the_compiler(arguments: list[str]) -> None:
    assert not imported(*arguments) & {"torch._dynamo", "sympy", "torch.distributed.fsdp", "transformers"}


def test_one_member_is_shown_without_the_others() -> None:
    members = {name for name in imported("show", "bert") if name.startswith("genus.recipes.")}
    assert members == {"genus.recipes.bert"}


@pytest.mark.parametrize("arguments", [["list"], ["show", "bert"]])
def test_a_look_at_the_catalog_imports_little_beside_pytorch(arguments: list[str]) -> None:
    torch = loaded("import sys, torch; print(*sys.modules)")
    beside = {name.partition(".")[0] for name in imported(*arguments) - torch}
    packages = {name for name in beside if name not in sys.stdlib_module_names and not name.startswith("_")}
    assert packages <= LIGHT, packages - LIGHT
