"""Fixtures that all tests share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real datasets, vocabularies and weights beside the checkout; the test is skipped where it is missing."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared")
    return SHARED
