"""Graphs that OpenVINO computes, where it is installed, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from genus.cli import main
from genus.errors import GenusError
from genus.objectives.supervised.sequence import SequenceClassification
from genus.serve.limits import Limits
from genus.serve.models import Models, Source
from genus.serve.ticket import Ticket, current
from genus.train.run import Run
from serving import small_model

if TYPE_CHECKING:
    from pathlib import Path

    from genus.serve.models import Backend

TEXTS = [("the old river",), ("a",), ("seven stones carry the long letter " * 12,)]
EQUAL, ROUNDED = 1e-5, 0.02
"""Between OpenVINO and ONNX Runtime, in float32 and in bfloat16; of probabilities."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model; beside it, as `graph`, that of its graph, where one can be written."""
    return small_model(
        tmp_path_factory.mktemp("models") / "plain", objective=SequenceClassification(labels=("x", "y"))
    )


def scores(graph: Path, backend: Backend, precision: str = "float32") -> np.ndarray:
    """Return the probabilities that a served graph gives."""
    run = Run.from_json({"device": "cpu", "precision": precision})
    models = Models([Source("m", graph, backend=backend)], Limits(), run)
    token = current.set(Ticket())
    try:
        with models.use("m") as one:
            return np.array([[*each.values()] for each in one.scores(TEXTS)])
    finally:
        current.reset(token)
        models.close()


@pytest.mark.slow
def test_openvino_answers_as_onnx_runtime_does(folder: Path) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    graph, small = folder.parent / "graph", folder.parent / "int8"
    assert main(["export", str(folder), "--format", "onnx", "--out", str(graph)]) == 0
    assert main(["quantize", str(folder), "--out", str(small)]) == 0
    plain = scores(graph, "genus")
    np.testing.assert_allclose(scores(graph, "openvino"), plain, atol=EQUAL)
    np.testing.assert_allclose(scores(graph, "openvino", "bfloat16"), plain, atol=ROUNDED)
    np.testing.assert_allclose(scores(small, "openvino"), scores(small, "genus"), atol=ROUNDED)
    (graph / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(GenusError, match=r"model\.onnx: is damaged"):
        scores(graph, "openvino")


def test_what_openvino_cannot_serve_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["serve", str(folder), "--backend", "openvino", "--port", "0"]
    monkeypatch.setattr("genus.export.onnx.openvino.find_spec", lambda name: None)
    assert main(asked) == 2
    assert capsys.readouterr().err == "genus: error: --backend openvino needs the library: pip install openvino\n"
    monkeypatch.setattr("genus.export.onnx.openvino.find_spec", lambda name: name)
    assert main(asked) == 2
    assert f"{folder} holds no graph; write one: genus export {folder} --format onnx" in capsys.readouterr().err
