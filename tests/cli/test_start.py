"""How commands start: what they import, and that a look at the catalog takes hardly longer than PyTorch's import."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

LIMIT = 1.2
"""Times `import torch`, in processor time, which other work on the machine changes little."""


def imported(*arguments: str) -> set[str]:
    """Return the modules that are there when a command ends."""
    code = (
        "import sys, io, contextlib\n"
        "from genus.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    main({list(arguments)})\n"
        "print(*sys.modules)"
    )
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_help_imports_neither_pytorch_nor_numpy() -> None:
    assert not imported("--help") & {"torch", "numpy", "tokenizers", "genus.part"}


@pytest.mark.parametrize("arguments", [["list"], ["show", "bert"], ["show", "bert/tiny", "--set", "model.layers=3"]])
def test_a_look_at_the_catalog_does_not_load_the_compiler(arguments: list[str]) -> None:
    assert not imported(*arguments) & {"torch._dynamo", "sympy", "torch.distributed.fsdp", "transformers"}


def test_one_member_is_shown_without_the_others() -> None:
    members = {name for name in imported("show", "bert") if name.startswith("genus.recipes.")}
    assert members == {"genus.recipes.bert"}


def seconds(*arguments: str) -> float:
    """Return the least processor time of a Python process in three tries."""
    tries = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        tries.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(tries)


def test_list_and_show_take_hardly_longer_than_the_import_of_pytorch() -> None:
    unit = seconds("-c", "import torch")
    assert seconds("-m", "genus", "list") < LIMIT * unit
    assert seconds("-m", "genus", "show", "bert") < LIMIT * unit
    assert seconds("-m", "genus", "--help") < 0.5
