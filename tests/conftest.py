"""Fixtures that all tests share; small members stand beside the tests."""

import functools
import sys
from pathlib import Path

import pytest
import typer.main
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("untimed", deadline=None)  # a test says what is right; benchmarks say how fast
settings.load_profile("untimed")
typer.main.get_command = functools.cache(typer.main.get_command)  # which is most of a call that fails at once

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data, vocabularies and weights beside the checkout; without it, the test is skipped."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared")
    return SHARED


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of made-up text."""
    from small import write_corpus

    return write_corpus(tmp_path_factory.mktemp("text"))
