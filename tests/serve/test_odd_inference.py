"""The Open Inference Protocol: what is odd, wrong or too much is refused in one line, and never fails."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import struct
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genus.serve.limits import Limits
from open_inference import HEAD, HEADS, tensor
from serving import running

if TYPE_CHECKING:
    from pathlib import Path


def binary_body(raw: bytes, size: object = None, **others: Any) -> tuple[bytes, dict[str, str]]:
    """Return a body of one text input of binary data, with its headers."""
    one: dict[str, Any] = {"name": "text", "shape": [1], "datatype": "BYTES"}
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
TEXT, QUESTION = tensor("text", ["a"]), tensor("question", ["a"])
WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "inputs: Field required": ("labels", {}),
    "at least 1 item": ("labels", {"inputs": []}),
    "input 'context' is missing": ("answers", {"inputs": [QUESTION]}),
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
    "not nested as": (
        "choices",
        {"inputs": [tensor("question", ["a"]), tensor("choices", [["a", "b"]]) | {"data": [["a"]]}]},
    ),
    "expected two or more": ("choices", {"inputs": [QUESTION, tensor("choices", [["a"]])]}),
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


@settings(max_examples=200, derandomize=True)
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
