"""The Open Inference Protocol: real clients get the library's answers."""

from __future__ import annotations

import asyncio
import json
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from genus.evaluate.fill import fill_mask
from genus.evaluate.likelihood import log_likelihoods
from genus.export.folder import load
from genus.tasks.embed import as_embedder, embed
from genus.tasks.predict import predict
from open_inference import HEADS, tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import httpx

TEXTS = ["the old river", "Größe 東京 🚂", "seven stones carry the long letter in winter", ""]


@pytest.fixture(scope="module")
def triton(server: str) -> Iterator[Any]:
    """Triton's client."""
    client = pytest.importorskip("tritonclient.http").InferenceServerClient(server)
    yield client
    client.close()


def answers(folder: Path, texts: Sequence[tuple[str, ...]]) -> tuple[list[Any], list[Any]]:
    """Return what the library predicts of texts, and the scores."""
    found = predict(load(folder), texts)
    return [one.predicted for one in found], [one.scores for one in found]


def inferred(http: httpx.Client, model: str, *inputs: dict[str, Any], **others: Any) -> dict[str, Any]:
    """Return the values of a model's outputs by name."""
    response = http.post(f"/v2/models/{model}/infer", json={"inputs": [*inputs], **others})
    assert response.status_code == 200, response.text
    found = {}
    for one in response.json()["outputs"]:
        assert int(np.prod(one["shape"])) == len(one["data"])
        found[one["name"]] = np.array(one["data"]).reshape(one["shape"]).tolist()
    return found


def asked_triton(triton: Any, model: str, inputs: dict[str, list[Any]], *, binary: bool, **others: Any) -> Any:
    """Return the result of a request of Triton's client."""
    library = pytest.importorskip("tritonclient.http")
    tensors = []
    for name, data in inputs.items():
        array = np.array(data, dtype=object)
        tensors.append(library.InferInput(name, [*array.shape], "BYTES"))
        tensors[-1].set_data_from_numpy(array, binary_data=binary)
    return triton.infer(model, tensors, **others)


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_gets_the_vectors(triton: Any, folders: dict[str, Path], binary: bool) -> None:
    library = pytest.importorskip("tritonclient.http")
    expected = embed(load(folders["embedder"]), TEXTS)
    outputs = None if binary else [library.InferRequestedOutput("embedding", binary_data=False)]
    found = asked_triton(triton, "embedder", {"text": TEXTS}, binary=binary, outputs=outputs, request_id="42")
    assert found.as_numpy("embedding").dtype == np.float32
    np.testing.assert_allclose(found.as_numpy("embedding"), expected, atol=1e-5)
    response = found.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == ("embedder", "1", "42")
    assert ("data" in response["outputs"][0]) is not binary
    column = asked_triton(triton, "embedder", {"text": [[text] for text in TEXTS]}, binary=binary, model_version="1")
    np.testing.assert_allclose(column.as_numpy("embedding"), expected, atol=1e-5)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_tritonclient_may_compress(triton: Any, folders: dict[str, Path], algorithm: str) -> None:
    ways = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
    found = asked_triton(triton, "embedder", {"text": TEXTS}, binary=True, **ways)
    np.testing.assert_allclose(found.as_numpy("embedding"), embed(load(folders["embedder"]), TEXTS), atol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_gets_labels_and_answers(triton: Any, folders: dict[str, Path], binary: bool) -> None:
    found = asked_triton(triton, "labels", {"text": TEXTS}, binary=binary)
    labels, scores = answers(folders["labels"], [(text,) for text in TEXTS])
    assert [one.decode() for one in found.as_numpy("label")] == labels
    np.testing.assert_allclose(found.as_numpy("scores"), [[*one.values()] for one in scores], atol=1e-5)
    asked = {"question": ["who", "what"], "context": TEXTS[:2]}
    found = asked_triton(triton, "answers", asked, binary=binary)
    spans, scores = answers(folders["answers"], [*zip(*asked.values(), strict=True)])
    assert [one.decode() for one in found.as_numpy("answer")] == spans
    for name in ("start", "end", "score", "probability"):
        np.testing.assert_allclose(found.as_numpy(name), [one[name] for one in scores], atol=1e-5)


def test_tritonclient_reads_health_and_metadata(triton: Any) -> None:
    library = pytest.importorskip("tritonclient.utils")
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("labels")
    assert triton.is_model_ready("labels", "1")
    assert not triton.is_model_ready("labels", "2")
    assert not triton.is_model_ready("nothing")
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    text = {"name": "text", "datatype": "BYTES", "shape": [-1]}
    names = {"labels": [*HEADS["labels"].classes]}
    instead = [
        {"name": name, "datatype": "INT64", "shape": [-1, -1], "parameters": {"optional": True}}
        for name in ("input_ids", "attention_mask")
    ]
    assert triton.get_model_metadata("labels", "1") == {
        "name": "labels", "versions": ["1"], "platform": "genus", "inputs": [text, *instead],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "scores", "datatype": "FP32", "shape": [-1, 3], "parameters": names},
            {"name": "embedding", "datatype": "FP32", "shape": [-1, 128]},
        ],
    }  # fmt: skip
    with pytest.raises(library.InferenceServerException, match="there is no model 'nothing'") as error:
        triton.get_model_metadata("nothing")
    assert error.value.status() == "404"


def test_tritonclient_loads_and_unloads(triton: Any) -> None:
    library = pytest.importorskip("tritonclient.utils")
    triton.unload_model("several")
    states = {one["name"]: one["state"] for one in triton.get_model_repository_index()}
    assert states == {name: "READY" for name in states} | {"several": "UNAVAILABLE"}
    assert not triton.is_model_ready("several")
    triton.load_model("several")
    assert triton.is_model_ready("several")
    with pytest.raises(library.InferenceServerException, match="there is no model 'nothing'"):
        triton.load_model("nothing")
    with pytest.raises(library.InferenceServerException, match="as its folder has it"):
        triton.load_model("several", config="{}")


def test_the_client_of_kserve(server: str, folders: dict[str, Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies
        kserve = pytest.importorskip("kserve")
    expected = embed(load(folders["embedder"]), TEXTS)

    async def ask(binary: bool) -> Any:
        async with kserve.InferenceRESTClient(kserve.inference_client.RESTConfig(protocol="v2")) as client:
            assert await client.is_server_live(f"http://{server}") is True
            assert await client.is_server_ready(f"http://{server}") is True
            assert await client.is_model_ready(f"http://{server}", "embedder") is True
            one = kserve.InferInput("text", [len(TEXTS)], "BYTES")
            one.set_data_from_numpy(np.array(TEXTS, object), binary_data=binary)
            asked = kserve.InferRequest("embedder", [one], request_id="7", parameters={"binary_data_output": binary})
            return await client.infer(f"http://{server}", asked, model_name="embedder")

    for binary in (True, False):
        found = asyncio.run(ask(binary))
        np.testing.assert_allclose(found.outputs[0].as_numpy(), expected, atol=1e-5)
        assert (found.model_name, found.id) == ("embedder", "7")


def test_every_head_answers_as_the_library(http: httpx.Client, folders: dict[str, Path]) -> None:
    single, pairs = tensor("text", TEXTS), [("the old river", text) for text in TEXTS]
    both = [tensor("text", [one for one, _ in pairs]), tensor("text_pair", TEXTS)]
    several = inferred(http, "several", single)
    labels, scores = answers(folders["several"], [(text,) for text in TEXTS])
    assert [json.loads(one) for one in several["label"]] == labels
    np.testing.assert_allclose(several["scores"], [[*one.values()] for one in scores], atol=1e-5)
    numbers, _ = answers(folders["pairs"], pairs)
    np.testing.assert_allclose(inferred(http, "pairs", *both)["value"], numbers, atol=1e-5)
    _, scores = answers(folders["relevance"], pairs)
    found = inferred(http, "relevance", *both)["scores"]
    np.testing.assert_allclose(found, [[one["relevant"]] for one in scores], atol=1e-5)
    choices = [["old", "a new one"], ["seven", "stones"]]
    found = inferred(http, "choices", tensor("question", ["river", "stone"]), tensor("choices", choices))
    best, scores = answers(folders["choices"], [("river", *choices[0]), ("stone", *choices[1])])
    assert found["choice"] == [int(one) for one in best]
    np.testing.assert_allclose(found["scores"], [[*one.values()] for one in scores], atol=1e-5)


def test_what_needs_no_fine_tuning_answers_as_the_library(http: httpx.Client, folders: dict[str, Path]) -> None:
    masked, causal = load(folders["masked"]), load(folders["causal"])
    texts = ["the ___ river", "a [MASK] ___"]
    named = [{"name": "completions"}]
    found = inferred(http, "masked", tensor("text", texts), outputs=named, parameters={"top": 3})["completions"]
    for text, own in zip(texts, found, strict=True):
        expected = [[asdict(one) for one in mask] for mask in fill_mask(masked.learner, masked.tokenizer, text, 3)]
        for mask, other in zip(json.loads(own), expected, strict=True):
            assert [one["text"] for one in mask] == [one["text"] for one in other]
            np.testing.assert_allclose([o["probability"] for o in mask], [o["probability"] for o in other], atol=1e-5)
    for name, model in [("masked", masked), ("causal", causal)]:
        outputs = [{"name": "tokens"}, {"name": "likelihood"}]
        found = inferred(http, name, tensor("text", TEXTS[:3]), outputs=outputs)
        assert [*found] == ["tokens", "likelihood"]
        known = log_likelihoods(model.learner, model.tokenizer, TEXTS[:3], None)
        assert found["tokens"] == [one.tokens for one in known]
        np.testing.assert_allclose(found["likelihood"], [one.nats for one in known], rtol=1e-5)
        vectors = inferred(http, name, tensor("text", TEXTS))["embedding"]
        np.testing.assert_allclose(vectors, embed(as_embedder(model), TEXTS), atol=1e-5)


def test_tags_are_characters_of_each_text(http: httpx.Client, folders: dict[str, Path]) -> None:
    found = [json.loads(one) for one in inferred(http, "tags", tensor("text", TEXTS))["entities"]]
    assert len(found) == len(TEXTS)
    assert found[-1] == []
    for text, marks in zip(TEXTS, found, strict=True):
        assert all(text[one["start"] : one["end"]] == one["text"] for one in marks)
    own = http.post("/api/tag", json={"model": "tags", "text": TEXTS[1]}).json()["answers"]
    assert [(one["start"], one["label"]) for one in found[1]] == [(one["start"], one["label"]) for one in own]


def test_parameters_of_vectors(http: httpx.Client, folders: dict[str, Path]) -> None:
    expected = embed(load(folders["embedder"]), TEXTS, "seven ")[:, :5]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    chosen = {"prompt": "query", "dimensions": 5, "priority": 1, "triton_x": "y"}
    found = inferred(http, "embedder", tensor("text", TEXTS), parameters=chosen)
    np.testing.assert_allclose(found["embedding"], expected, atol=1e-5)
    long = ["river " * 2000]
    asked = {"inputs": [tensor("text", long)]}
    response = http.post("/v2/models/embedder/infer", json=asked)
    assert "lose their end" in response.json()["parameters"]["notices"]
    response = http.post("/v2/models/embedder/infer", json=asked | {"parameters": {"truncate": False}})
    assert response.status_code == 413
