"""Fixtures of the tests of the Open Inference Protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from open_inference import LIMITS, model_folders
from serving import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders by name."""
    return model_folders(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(folders: dict[str, Path]) -> Iterator[str]:
    """The address of a server of them."""
    with running(folders, LIMITS) as address:
        yield address


@pytest.fixture(scope="module")
def http(server: str) -> Iterator[httpx.Client]:
    """A client without a protocol."""
    with httpx.Client(base_url=f"http://{server}", timeout=60) as client:
        yield client
