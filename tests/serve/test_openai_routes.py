"""OpenAI's embeddings, asked by OpenAI's own client: vectors are those of the library, whatever else is asked."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from genus.export.folder import load
from genus.tasks.embed import as_embedder, embed
from running_server import model_folders, served_models
from small import documents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx
    from numpy.typing import NDArray

openai: Any = pytest.importorskip("openai")
TEXTS = documents()[:12]
SHORT = ["the old river", "a small train remembers", "our neighbor"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    every = model_folders(tmp_path_factory.mktemp("models"))
    return {name: every[name] for name in ("embedder", "lm", "classifier")}


@pytest.fixture(scope="module")
def http(folders: dict[str, Path]) -> Iterator[httpx.Client]:
    with served_models(folders) as client:
        yield client


@pytest.fixture(scope="module")
def client(http: httpx.Client) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{http.base_url}/v1", api_key="none", max_retries=0) as made:
        yield made


def expected(folder: Path, texts: list[str]) -> NDArray[np.float32]:
    """Return the library's vectors, of the length 1."""
    found = embed(as_embedder(load(folder)), texts)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def vectors(client: Any, texts: Any, model: str = "embedder", **asked: Any) -> NDArray[np.float32]:
    found = client.embeddings.create(input=texts, model=model, **asked).data
    assert [one.index for one in found] == [*range(len(found))]
    return np.array([one.embedding for one in found], np.float32)


@pytest.mark.parametrize("model", ["embedder", "lm"])
def test_vectors_are_those_of_the_library(client: Any, folders: dict[str, Path], model: str) -> None:
    np.testing.assert_allclose(vectors(client, SHORT, model), expected(folders[model], SHORT), atol=1e-5)
    np.testing.assert_allclose(vectors(client, SHORT[0], model), expected(folders[model], SHORT[:1]), atol=1e-5)


def test_base64_holds_the_numbers_of_float(client: Any, http: httpx.Client) -> None:
    plain = vectors(client, SHORT, encoding_format="float")
    np.testing.assert_array_equal(plain, vectors(client, SHORT))  # of which the client asks for base64
    body = {"input": SHORT, "encoding_format": "base64"}
    written = [one["embedding"] for one in http.post("/v1/embeddings", json=body).json()["data"]]
    np.testing.assert_array_equal([np.frombuffer(base64.b64decode(one), "<f4") for one in written], plain)


def test_ids_are_their_text_with_and_without_special_tokens(client: Any, http: httpx.Client) -> None:
    tokens = http.post("/tokenize", json={"inputs": SHORT}).json()
    framed = [[token["id"] for token in own] for own in tokens]
    plain = [[token["id"] for token in own if not token["special"]] for own in tokens]
    texts = vectors(client, SHORT)
    for ids in (framed, plain):
        np.testing.assert_allclose(vectors(client, ids), texts, atol=1e-5)
        np.testing.assert_allclose(vectors(client, ids[1]), texts[1:2], atol=1e-5)


def test_dimensions_are_the_first_numbers_of_length_1(client: Any) -> None:
    whole, part = vectors(client, SHORT), vectors(client, SHORT, dimensions=5)
    first = whole[:, :5]
    np.testing.assert_allclose(part, first / np.linalg.norm(first, axis=1, keepdims=True), atol=1e-6)


def test_tokens_are_counted(client: Any, http: httpx.Client) -> None:
    tokens = sum(map(len, http.post("/tokenize", json={"inputs": SHORT}).json()))
    used = client.embeddings.create(input=SHORT, model="embedder").usage
    assert (used.prompt_tokens, used.total_tokens) == (tokens, tokens)


def test_clients_at_once_get_each_their_own(client: Any, folders: dict[str, Path]) -> None:
    asked = [TEXTS[start : start + 3] for start in range(10)] * 2
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda texts: vectors(client, [text[:90] for text in texts]), asked)]
    for texts, own in zip(asked, found, strict=True):
        np.testing.assert_allclose(own, expected(folders["embedder"], [text[:90] for text in texts]), atol=1e-5)


def test_models_are_listed(client: Any) -> None:
    assert [one.id for one in client.models.list()] == ["embedder", "lm", "classifier"]
    assert client.models.retrieve("lm").object == "model"
    with pytest.raises(openai.NotFoundError, match="there is no model 'other'"):
        client.models.retrieve("other")


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"model": "other"}, openai.NotFoundError, "there is no model 'other'"),
        ({"dimensions": 0}, openai.BadRequestError, "dimensions"),
        ({"dimensions": 10_000}, openai.BadRequestError, "dimensions: expected 1 to"),
        ({"input": []}, openai.BadRequestError, "no text"),
        ({"input": [1, "a", 2]}, openai.BadRequestError, "input"),
        ({"input": [[-1]]}, openai.BadRequestError, "input"),
        ({"input": [[99_999]]}, openai.BadRequestError, "there is no token 99999"),
        ({"input": 5}, openai.BadRequestError, "input"),
        ({"encoding_format": "hex"}, openai.BadRequestError, "encoding_format"),
        ({"input": ["a"] * 300}, openai.APIStatusError, "300 texts"),
        ({"input": "river " * 500}, openai.APIStatusError, "longer than what the model reads"),
    ],
)
def test_what_is_wrong_is_told(client: Any, asked: dict[str, Any], error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        client.embeddings.create(**{"input": "a", "model": "embedder"} | asked)


def test_a_full_server_says_when_to_come_again(folders: dict[str, Path]) -> None:
    from genus.serve.limits import Limits

    with served_models({"embedder": folders["embedder"]}, Limits(requests=1)) as client, ThreadPoolExecutor(24) as pool:
        body = {"input": [text[:100] for text in documents()[:200]]}
        found = [*pool.map(lambda _: client.post("/v1/embeddings", json=body), range(24))]
    refused = [one for one in found if one.status_code != 200]
    assert len(refused) < len(found)
    assert refused
    assert {one.status_code for one in refused} == {429}
    assert all(one.headers["retry-after"] == "1" for one in refused)
    assert refused[0].json()["error"]["code"] == 429


def test_a_token_is_asked_for(folders: dict[str, Path]) -> None:
    with served_models({"embedder": folders["embedder"]}, token="secret") as client:
        base = f"{client.base_url}/v1"
        stranger = openai.OpenAI(base_url=base, api_key="wrong", max_retries=0)
        with stranger, pytest.raises(openai.AuthenticationError):
            stranger.embeddings.create(input="a", model="embedder")
        with openai.OpenAI(base_url=base, api_key="secret", max_retries=0) as friend:
            assert vectors(friend, "a").shape[0] == 1
        for path in ("/embed", "/"):  # of which GET is the page, which asks for the token
            assert client.post(path, json={"inputs": "a"}).status_code == 401
        assert client.get("/metrics").status_code == 401
        assert client.get("/ping").status_code == 200
