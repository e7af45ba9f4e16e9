"""What clients send that is wrong: it is refused with a status that says so, and never breaks the server."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from genus.serve.limits import Limits
from running_server import model_folders, served_models

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

RIGHT: dict[str, dict[str, Any]] = {
    "/embed": {"inputs": ["a", "b"], "truncate": True, "normalize": False, "prompt_name": "query", "dimensions": 3},
    "/embed_all": {"inputs": "the old river", "truncate": True},
    "/embed_sparse": {"inputs": [3, 4, 5], "model": "lm"},
    "/predict": {"inputs": [["a"], ["b"]], "raw_scores": True, "model": "classifier", "parameters": {"top_k": 1}},
    "/rerank": {"query": "a", "texts": ["b", "c"], "return_text": True, "model": "reranker"},
    "/similarity": {"inputs": {"source_sentence": "a", "sentences": ["b"]}, "parameters": {"truncate": True}},
    "/tokenize": {"inputs": "the old river", "add_special_tokens": True},
    "/decode": {"ids": [[3, 4], [5]], "skip_special_tokens": False},
    "/v1/embeddings": {"input": ["a", [5, 6]], "encoding_format": "base64", "dimensions": 4, "model": "embedder"},
    "/embeddings": {"input": "a"},
    "/": {"inputs": "a", "normalize": True},
}
VALUES: list[Any] = [
    None, True, 0, -1, 3, 1e400, 10**30, 0.5, "", "a", "embedder", "lm", "classifier", "reranker", "regressor",
    "\ud800", "\x00", "\U0001f600", "[MASK] [CLS]", "river " * 400, [], [[]], [""], ["a", "b"], [["a"], ["b", "c"]],
    [["a", "b", "c"]], [3, 4], [[3], [4, 5]], [99_999_999_999], ["a", 3], [None], [["a"], "b"], {}, {"inputs": "a"},
    {"source_sentence": "a", "sentences": []}, {"source_sentence": "a", "sentences": ["b"]}, ["a"] * 40,
]  # fmt: skip
PARAMETERS: list[Any] = [{"top_k": 0}, {"prompt_name": 3}, {"function_to_apply": "softmax"}, {"truncate": "\ud800"}]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folders = model_folders(tmp_path_factory.mktemp("models"))
    order = {name: folders[name] for name in ("embedder", "lm", "classifier", "reranker", "regressor")}
    with served_models(order, Limits(texts=32, tokens=4096, body_bytes=100_000)) as made:
        yield made


@pytest.mark.parametrize("path", RIGHT)
def test_what_is_right_is_answered(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json=RIGHT[path])
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", RIGHT)
def test_what_is_wrong_is_refused(client: httpx.Client, path: str) -> None:
    strict = path.startswith("/v1/")
    invalid = 400 if strict else 422
    wanted = RIGHT[path]
    field = next(name for name in ("input", "ids", "texts", "inputs") if name in wanted)
    listed: Any = {"sentences": ["a"] * 40, "source_sentence": "a"} if path == "/similarity" else [["a"]] * 40
    many = {"/predict": listed, "/similarity": listed, "/decode": [[3]] * 40}.get(path, ["a"] * 40)
    empty = {"source_sentence": "a", "sentences": []} if path == "/similarity" else []
    for body, status in [
        (wanted | {field: 3.5}, invalid),
        (wanted | {field: {"a": 1}}, invalid),
        ({name: value for name, value in wanted.items() if name != field}, invalid),
        (wanted | {field: empty}, 400),
        (wanted | {field: many}, 413),
        (wanted | {"model": "other"}, 404),
        (wanted | {"model": 3}, invalid),
        ([wanted], invalid),
    ]:
        answer = client.post(path, json=body)
        assert answer.status_code == status, (body, answer.text)
        told = answer.json()
        if strict:
            assert told["error"].keys() == {"message", "type", "param", "code"}
        else:
            assert told.keys() == {"error", "error_type"}
    for content, status in [(b"{", invalid), (b"\xff\xfe\xfa", 400), (b'{"a": "\xff"}', 400), (b"[" * 50_000, 400)]:
        answer = client.post(path, content=content, headers={"content-type": "application/json"})
        assert answer.status_code in (status, invalid), (content[:9], answer.text)
    assert client.post(path, content=b" " * 3_000_000).status_code == 413
    parts = (b" " * 70_000 for _ in range(2))
    assert client.post(path, content=parts).status_code == 413
    assert path == "/" or client.get(path).status_code == 405


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/embed", {"dimensions": 1000}, "dimensions: expected 1 to"),
        ("/embed", {"prompt_name": "other"}, "no prompt 'other'"),
        ("/embed", {"truncation_direction": "Left"}, "truncation_direction"),
        ("/embed_sparse", {"model": "regressor"}, "no masked language model"),
        ("/predict", {"model": "lm"}, "cannot classify or score"),
        ("/predict", {"inputs": [["a"], ["b", "c"]]}, "ask about them apart"),
        ("/predict", {"inputs": ["a", "b"]}, "fine-tuned on single texts"),
        ("/rerank", {"model": "classifier"}, "fine-tuned on single texts"),
        ("/decode", {"ids": [7, 100_000]}, "there is no token 100000"),
    ],
)
def test_what_does_not_fit_the_model_is_told(client: httpx.Client, path: str, body: dict[str, Any], says: str) -> None:
    answer = client.post(path, json=RIGHT[path] | body)
    assert answer.status_code in (400, 404, 422)
    assert says in answer.json()["error"]


@pytest.mark.parametrize("seed", range(4))
def test_a_fuzzer_finds_no_failure(client: httpx.Client, seed: int) -> None:
    """Bodies of right ones with fields that are changed, dropped, or of another route; some are cut as bytes."""
    draw = random.Random(seed)
    for _ in range(150):
        path = draw.choice([*RIGHT])
        body = dict(RIGHT[draw.choice([path, path, path, *RIGHT])])
        for name in draw.sample([*body], draw.randint(0, min(2, len(body)))):
            body[name] = draw.choice(VALUES)
        if draw.random() < 0.2:
            body["parameters"] = draw.choice([*VALUES, *PARAMETERS])
        content = json.dumps(body).encode()
        if draw.random() < 0.1:
            content = content[: draw.randrange(len(content))] + bytes(draw.choices(range(256), k=3))
        answer = client.post(path, content=content, headers={"content-type": "application/json"})
        assert answer.status_code in (200, 400, 404, 413, 422), (path, content, answer.text)
    assert client.get("/health").status_code == 200
