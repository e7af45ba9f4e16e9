"""The Open Inference Protocol: real clients get the library's answers, and odd requests get one line that says why."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import struct
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genus.evaluate.fill import fill_mask
from genus.evaluate.likelihood import log_likelihoods
from genus.export.folder import load
from genus.objectives.supervised.choice import MultipleChoice
from genus.objectives.supervised.embedding import Prompt, SentenceEmbedder
from genus.objectives.supervised.multi_label import MultiLabelClassification
from genus.objectives.supervised.sequence import SequenceClassification, SequenceRegression
from genus.objectives.supervised.span_extraction import SpanExtraction
from genus.objectives.supervised.token import TokenClassification
from genus.serve.limits import Limits
from genus.tasks.embed import as_embedder, embed
from genus.tasks.predict import predict
from serving import running, small_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD = "Inference-Header-Content-Length"
TEXTS = ["the old river", "Größe 東京 🚂", "seven stones carry the long letter in winter", ""]
HEADS = {
    "embedder": SentenceEmbedder(prompts=(Prompt(name="query", text="seven "),)),
    "labels": SequenceClassification(labels=("good", "bad", "größer"), texts=1),
    "several": MultiLabelClassification(labels=("a", "b"), texts=1),
    "pairs": SequenceRegression(texts=2),
    "relevance": MultiLabelClassification(labels=("relevant",), texts=2),
    "tags": TokenClassification(labels=("B-PER", "I-PER", "O"), usual="O"),
    "answers": SpanExtraction(null_threshold=0.0),
    "choices": MultipleChoice(),
}
LIMITS = Limits(texts=32, tokens=4000, body_bytes=100_000)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders by name."""
    where = tmp_path_factory.mktemp("models")
    found = {name: small_model(where / name, objective=head) for name, head in HEADS.items()}
    return found | {"masked": small_model(where / "masked"), "causal": small_model(where / "causal", "gpt/tiny")}


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


@pytest.fixture(scope="module")
def triton(server: str) -> Iterator[Any]:
    """Triton's client."""
    client = pytest.importorskip("tritonclient.http").InferenceServerClient(server)
    yield client
    client.close()


def tensor(name: str, data: Any) -> dict[str, Any]:
    """Return an input of texts in JSON."""
    return {"name": name, "shape": [*np.array(data, object).shape], "datatype": "BYTES", "data": data}


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
    expected = predict(load(folders["labels"]), [(text,) for text in TEXTS])
    assert [one.decode() for one in found.as_numpy("label")] == [one.predicted for one in expected]
    np.testing.assert_allclose(found.as_numpy("scores"), [[*one.scores.values()] for one in expected], atol=1e-5)
    asked = {"question": ["who", "what"], "context": TEXTS[:2]}
    found = asked_triton(triton, "answers", asked, binary=binary)
    expected = predict(load(folders["answers"]), [*zip(*asked.values(), strict=True)])
    assert [one.decode() for one in found.as_numpy("answer")] == [one.predicted for one in expected]
    for name in ("start", "end", "score", "probability"):
        np.testing.assert_allclose(found.as_numpy(name), [one.scores[name] for one in expected], atol=1e-5)


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
    assert triton.get_model_metadata("labels", "1") == {
        "name": "labels", "versions": ["1"], "platform": "genus", "inputs": [text],
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
    expected = predict(load(folders["several"]), [(text,) for text in TEXTS])
    assert [json.loads(one) for one in several["label"]] == [one.predicted for one in expected]
    np.testing.assert_allclose(several["scores"], [[*one.scores.values()] for one in expected], atol=1e-5)
    found = inferred(http, "pairs", *both)["value"]
    np.testing.assert_allclose(found, [one.predicted for one in predict(load(folders["pairs"]), pairs)], atol=1e-5)
    found = inferred(http, "relevance", *both)["scores"]
    expected = predict(load(folders["relevance"]), pairs)
    np.testing.assert_allclose(found, [[one.scores["relevant"]] for one in expected], atol=1e-5)
    choices = [["old", "a new one"], ["seven", "stones"]]
    found = inferred(http, "choices", tensor("question", ["river", "stone"]), tensor("choices", choices))
    expected = predict(load(folders["choices"]), [("river", *choices[0]), ("stone", *choices[1])])
    assert found["choice"] == [int(one.predicted) for one in expected]
    np.testing.assert_allclose(found["scores"], [[*one.scores.values()] for one in expected], atol=1e-5)


def test_what_needs_no_fine_tuning_answers_as_the_library(http: httpx.Client, folders: dict[str, Path]) -> None:
    masked, causal = load(folders["masked"]), load(folders["causal"])
    texts = ["the ___ river", "a [MASK] ___"]
    named = [{"name": "completions"}]
    found = inferred(http, "masked", tensor("text", texts), outputs=named, parameters={"top": 3})["completions"]
    for text, own in zip(texts, found, strict=True):
        expected = [[asdict(one) for one in mask] for mask in fill_mask(masked.learner, masked.tokenizer, text, 3)]
        for mask, known in zip(json.loads(own), expected, strict=True):
            assert [one["text"] for one in mask] == [one["text"] for one in known]
            np.testing.assert_allclose([o["probability"] for o in mask], [o["probability"] for o in known], atol=1e-5)
    for name, model in [("masked", masked), ("causal", causal)]:
        outputs = [{"name": "tokens"}, {"name": "likelihood"}]
        found = inferred(http, name, tensor("text", TEXTS[:3]), outputs=outputs)
        assert [*found] == ["tokens", "likelihood"]
        expected = log_likelihoods(model.learner, model.tokenizer, TEXTS[:3], None)
        assert found["tokens"] == [one.tokens for one in expected]
        np.testing.assert_allclose(found["likelihood"], [one.nats for one in expected], atol=1e-4)
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


def binary_body(raw: bytes, size: object = None, **others: Any) -> tuple[bytes, dict[str, str]]:
    """Return a body of one text input of binary data, with its headers."""
    one = {"name": "text", "shape": [1], "datatype": "BYTES"}
    one |= {"parameters": {"binary_data_size": len(raw) if size is None else size}}
    head = json.dumps({"inputs": [one | others]}).encode()
    return head + raw, {HEAD: str(len(head))}


GOOD = struct.pack("<I", 3) + b"abc"
WRONG_BINARY = {
    "no UTF-8": binary_body(struct.pack("<I", 2) + b"\xff\xfe"),
    "ends after": binary_body(struct.pack("<I", 9) + b"abc"),
    "ends after the": binary_body(b"ab"),
    "does not have 2 elements": binary_body(GOOD * 2),
    "binary_data_size: expected a size": binary_body(GOOD, 1000),
    "expected a size of at most": binary_body(GOOD, -1),
    "got 'x'": binary_body(GOOD, "x"),
    "belong to no input": binary_body(GOOD + b"x", len(GOOD)),
    "either data or": binary_body(GOOD, data=["abc"]),
    "expected 1 to": (GOOD, {HEAD: "100"}),
    "got '-1'": (GOOD, {HEAD: "-1"}),
    "got '0'": (GOOD, {HEAD: "0"}),
    "no gzip": (GOOD, {"content-encoding": "gzip"}),
    "before its gzip does": (gzip.compress(GOOD)[:-4], {"content-encoding": "gzip"}),
    "expected gzip or deflate": (GOOD, {"content-encoding": "br"}),
}
TEXT = tensor("text", ["a"])
WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "inputs: Field required": ("labels", {}),
    "at least 1 item": ("labels", {"inputs": []}),
    "input 'context' is missing": ("answers", {"inputs": [tensor("question", ["a"])]}),
    "'text' is named twice": ("labels", {"inputs": [TEXT, TEXT]}),
    "input 'txt': there is none of this name. Did you mean 'text'": ("labels", {"inputs": [TEXT | {"name": "txt"}]}),
    "output 'labl'": ("labels", {"inputs": [TEXT], "outputs": [{"name": "labl"}]}),
    "'label' is named twice": ("labels", {"inputs": [TEXT], "outputs": [{"name": "label"}] * 2}),
    "expected the datatype BYTES, got 'FP32'": ("labels", {"inputs": [TEXT | {"datatype": "FP32", "data": [1.0]}]}),
    "expected texts, got nan": ("labels", {"inputs": [TEXT | {"data": [float("nan")]}]}),
    "expected texts, got None": ("labels", {"inputs": [TEXT | {"data": [None]}]}),
    "does not have 1 elements": ("labels", {"inputs": [TEXT | {"shape": [2]}]}),
    "expected the shape [-1], got [1, 2]": ("labels", {"inputs": [TEXT | {"shape": [1, 2]}]}),
    "greater than or equal to 0": ("labels", {"inputs": [TEXT | {"shape": [-1]}]}),
    "there is no text": ("labels", {"inputs": [TEXT | {"shape": [0], "data": []}]}),
    "not nested as": ("choices", {"inputs": [tensor("question", ["a"]), tensor("choices", [["a", "b"]]) | {"data": [["a"]]}]}),
    "expected two or more": ("choices", {"inputs": [tensor("question", ["a"]), tensor("choices", [["a"]])]}),
    "first dimensions differ": ("pairs", {"inputs": [TEXT, tensor("text_pair", ["a", "b"])]}),
    "there is no 'trunc'. Did you mean 'truncate'": ("labels", {"inputs": [TEXT], "parameters": {"trunc": True}}),
    "parameters.top: Input should be less": ("masked", {"inputs": [TEXT], "parameters": {"top": 5000}}),
    "expected 1 to 128": ("embedder", {"inputs": [TEXT], "parameters": {"dimensions": 129}}),
    "has no prompt 'x'": ("embedder", {"inputs": [TEXT], "parameters": {"prompt": "x"}}),
    "has no mask": ("masked", {"inputs": [TEXT], "outputs": [{"name": "completions"}]}),
    "expected true or false": (
        "labels",
        {"inputs": [TEXT], "outputs": [{"name": "label", "parameters": {"binary_data": 1}}]},
    ),
    "no classification": (
        "labels",
        {"inputs": [TEXT], "outputs": [{"name": "scores", "parameters": {"classification": 2}}]},
    ),
}


def told(response: httpx.Response) -> str:
    """Return the error of a response, which is one line."""
    body = response.json()
    assert [*body] == ["error"]
    assert "\n" not in body["error"]
    return str(body["error"])


@pytest.mark.parametrize("expected", WRONG)
def test_what_is_wrong_is_told(http: httpx.Client, expected: str) -> None:
    model, body = WRONG[expected]
    response = http.post(f"/v2/models/{model}/infer", content=json.dumps(body))
    assert response.status_code == 400
    assert expected in told(response)


@pytest.mark.parametrize("expected", WRONG_BINARY)
def test_wrong_binary_data_are_told(http: httpx.Client, expected: str) -> None:
    body, headers = WRONG_BINARY[expected]
    response = http.post("/v2/models/labels/infer", content=body, headers=headers)
    assert response.status_code == 400
    assert expected in told(response)


def test_limits_and_unknown_names(http: httpx.Client) -> None:
    assert http.post("/v2/models/labels/infer", content=b"[" * 200_000).status_code == 413
    bomb = gzip.compress(b"[" * 10_000_000)
    assert http.post("/v2/models/labels/infer", content=bomb, headers={"content-encoding": "gzip"}).status_code == 413
    assert http.post("/v2/models/labels/infer", json={"inputs": [tensor("text", ["a"] * 33)]}).status_code == 413
    for path in ("nothing/infer", "labels/versions/2/infer"):
        response = http.post(f"/v2/models/{path}", json={"inputs": [TEXT]})
        assert response.status_code == 404
        assert "there is no" in told(response)
    assert told(http.get("/v2/models/labels/stats"))


def test_a_full_server_says_come_again(folders: dict[str, Path]) -> None:
    limits = Limits(requests=1)
    with running({"labels": folders["labels"]}, limits) as address:
        body = {"inputs": [tensor("text", ["river " * 200] * 64)]}

        async def ask() -> list[httpx.Response]:
            async with httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as client:
                return await asyncio.gather(*(client.post("/v2/models/labels/infer", json=body) for _ in range(4)))

        found = asyncio.run(ask())
    assert {one.status_code for one in found} == {200, 429}
    late = next(one for one in found if one.status_code == 429)
    assert late.headers["Retry-After"] == "1"
    assert "busy" in told(late)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("a") | st.just("text"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "data", "x"]), inner),
    max_leaves=6,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data())
def test_odd_bodies_are_answered_or_refused(http: httpx.Client, data: st.DataObject) -> None:
    """Valid requests with something else in some places, of any model."""
    inputs = {
        "answers": [tensor("question", ["who"]), tensor("context", ["a river"])],
        "choices": [tensor("question", ["who"]), tensor("choices", [["a", "b"]])],
        "pairs": [tensor("text", ["a"]), tensor("text_pair", ["b"])],
        "relevance": [tensor("text", ["a"]), tensor("text_pair", ["b"])],
    }
    model = data.draw(st.sampled_from([*HEADS, "masked", "causal"]))
    body: Any = {"id": "1", "parameters": {}, "inputs": inputs.get(model, [tensor("text", ["a ___"])])}
    body = json.loads(json.dumps(body))
    for _ in range(data.draw(st.integers(1, 3))):
        place: Any = body
        while True:
            key = data.draw(st.sampled_from([*place] if isinstance(place, dict) else [*range(len(place))]))
            if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
                break
            place = place[key]
        if data.draw(st.booleans()):
            place[key] = data.draw(JSON)
        elif isinstance(place, list):
            place.append(data.draw(st.text(max_size=40) | JSON))
    names = ["embedding", "label", "scores", "completions", "likelihood", "value", "entities", "answer", "choice"]
    if isinstance(body, dict) and data.draw(st.booleans()):
        body["outputs"] = [{"name": name} for name in data.draw(st.lists(st.sampled_from(names), max_size=2))]
    response = http.post(f"/v2/models/{model}/infer", content=json.dumps(body))
    assert response.status_code in (200, 400, 413), response.text
    if response.status_code != 200:
        assert told(response)


def test_damaged_binary_bodies_are_answered_or_refused(http: httpx.Client) -> None:
    draw = random.Random(0)
    body, headers = binary_body(GOOD)
    for _ in range(150):
        damaged = bytearray(body)
        for _ in range(draw.randint(1, 3)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        cut = bytes(damaged[: draw.choice([len(damaged), draw.randrange(1, len(damaged))])])
        sent = {HEAD: draw.choice([headers[HEAD], str(draw.randrange(len(body) + 5)), "", "1e3", "9" * 30])}
        response = http.post("/v2/models/labels/infer", content=cut, headers=sent)
        assert response.status_code in (200, 400), response.text
        if response.status_code == 400:
            assert told(response)
