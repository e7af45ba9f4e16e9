"""A small run made by the command line itself, once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from small_run import SMALL, Place, write_text

from genus.cli import main


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Return a folder with text, a task and a run."""
    made = Place(tmp_path_factory.mktemp("cli"))
    write_text(made.folder)
    assert main(["pretrain", "bert/mini", str(made.folder / "text.jsonl"), "--out", str(made.run), *SMALL]) == 0
    return made
