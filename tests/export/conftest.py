"""The oracle and the folders stand beside the tests."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("oracle")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a tiny BERT."""
    from folders import tiny

    from genus.export.folder import save

    save(tmp_path / "model", *tiny("bert", tmp_path))
    return tmp_path / "model"
