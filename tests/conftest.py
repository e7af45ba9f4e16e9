"""Fixtures that all tests share; small members stand beside the tests."""

import functools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer.main
from hypothesis import settings

if TYPE_CHECKING:
    from genus.export.onnx.trace import Asked

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


@pytest.fixture(scope="module")
def graphs_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trace a network with the same weights once, for tests of what is made of its graph."""
    from genus.export.onnx.trace import write_graph
    from genus.export.weights import fingerprint

    made = tmp_path_factory.mktemp("graphs")

    def traced(what: "Asked", path: Path, name: str, *, segmented: bool) -> None:
        kept = made / f"{fingerprint(what.learner.state_dict())}-{what.head}-{segmented}"
        if kept.exists():
            shutil.copytree(kept, path.parent, dirs_exist_ok=True)
        else:
            write_graph(what, path, name, segmented=segmented)
            shutil.copytree(path.parent, kept)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genus.export.onnx.folder.write_graph", traced)
        yield
