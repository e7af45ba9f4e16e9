"""Graphs of ONNX Runtime behind the same routes as the models that they were made of, whole and quantized."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest

from genus.cli import main
from genus.objectives.supervised.embedding import SentenceEmbedder
from genus.objectives.supervised.sequence import SequenceClassification
from serving import running, small_model

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
TEXTS = ["the old river", "a", "seven stones carry the long letter " * 12]
EQUAL, ROUNDED = 1e-5, 0.02


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory, graphs_once: None) -> Iterator[httpx.Client]:
    """Yield a client of a server of models and their graphs."""
    where = tmp_path_factory.mktemp("graphs")
    folders = {
        "classifier": small_model(where / "classifier", objective=SequenceClassification(labels=("x", "y"))),
        "embedder": small_model(where / "embedder", objective=SentenceEmbedder(normalize=True)),
    }
    for name in list(folders):
        folders[f"{name} graph"] = where / f"{name}-graph"
        assert main(["export", str(folders[name]), "--format", "onnx", "--out", str(folders[f"{name} graph"])]) == 0
    folders["classifier int8"] = where / "int8"
    assert main(["quantize", str(folders["classifier"]), "--out", str(where / "int8")]) == 0
    with running(folders) as address, httpx.Client(base_url=f"http://{address}", timeout=60) as client:
        yield client


def test_graphs_answer_as_their_models(http: httpx.Client) -> None:
    scores = {}
    for name in ("classifier", "classifier graph", "classifier int8"):
        answer = http.post("/api/classify", json={"model": name, "texts": TEXTS}).json()
        scores[name] = np.array([[*one["scores"].values()] for one in answer["answers"]])
    np.testing.assert_allclose(scores["classifier graph"], scores["classifier"], atol=EQUAL)
    np.testing.assert_allclose(scores["classifier int8"], scores["classifier"], atol=ROUNDED)
    assert not np.array_equal(scores["classifier int8"], scores["classifier"])
    vectors = [
        http.post("/embed", json={"model": name, "inputs": TEXTS, "truncate": True}).json()
        for name in ("embedder", "embedder graph")
    ]
    np.testing.assert_allclose(vectors[1], vectors[0], atol=EQUAL)


def test_a_graph_can_what_its_head_can(http: httpx.Client) -> None:
    able = {one["name"]: one["abilities"] for one in http.get("/api/models").json()}
    assert able["classifier graph"] == able["classifier int8"] == ["classify"]
    assert able["embedder graph"] == ["embed"]
    assert http.post("/api/fill", json={"model": "classifier graph", "text": "a ___"}).status_code == 404
