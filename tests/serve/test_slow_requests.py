"""Requests that take long: bodies that come slowly, works of many passes, clients that leave meanwhile."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from genus.serve.limits import Limits
from running_server import served_models
from serving import small_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 1.0
LONG = {"texts": [f"{number} old river runs to the sea " * 40 for number in range(250)]}
"""A request of more passes than its time is enough for."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = small_model(tmp_path_factory.mktemp("models") / "lm")
    return found


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with served_models({"lm": folder}, Limits(seconds=SECONDS)) as made:
        yield made


def connected(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=30)


def head(path: str, *fields: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", "Content-Type: application/json", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings", "/v2/models/lm/infer", "/api/likelihood"])
@pytest.mark.parametrize("field", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_not_waited_for(client: httpx.Client, path: str, field: str) -> None:
    begun = time.monotonic()
    with connected(client) as slow:
        slow.sendall(head(path, field) + (b'5\r\n{"inp\r\n' if "chunked" in field else b'{"inp'))
        assert client.post("/embed", json={"inputs": "a"}).status_code == 200
        with slow.makefile("rb") as answer:
            assert answer.readline() == b"HTTP/1.1 408 Request Timeout\r\n"
            assert b"connection: close\r\n" in [line.lower() for line in answer]  # until the server closes it
    assert SECONDS <= time.monotonic() - begun < SECONDS + 10


def test_a_body_that_comes_bit_by_bit_is_answered(client: httpx.Client) -> None:
    body = b'{"inputs": "a"}'
    with connected(client) as slow:
        slow.sendall(head("/embed", f"Content-Length: {len(body)}"))
        for byte in body:
            slow.sendall(bytes([byte]))
            time.sleep(0.01)
        assert slow.recv(15) == b"HTTP/1.1 200 OK"


def test_a_large_body_that_is_refused_is_not_waited_for(client: httpx.Client) -> None:
    with connected(client) as slow:
        slow.sendall(head("/embed", "Content-Length: 5000000") + b'{"inp')
        assert slow.recv(12) == b"HTTP/1.1 413"


def test_many_passes_end_with_the_time_and_let_others_compute(client: httpx.Client) -> None:
    begun = time.monotonic()
    with connected(client) as long:
        body = httpx.Request("POST", "http://a", json=LONG).content
        long.sendall(head("/api/likelihood", f"Content-Length: {len(body)}") + body)
        while client.get("/api/load").json()["requests"] == 0:
            time.sleep(0.01)
        assert client.post("/embed", json={"inputs": "a"}).status_code == 200
        assert client.get("/api/load").json()["requests"] == 1, "the long one is still worked on"
        assert long.recv(12) == b"HTTP/1.1 504"
    assert time.monotonic() - begun < SECONDS + 10


def test_many_passes_end_when_the_client_leaves(folder: Path) -> None:
    with served_models({"lm": folder}, Limits(seconds=600)) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/api/likelihood", json=LONG, timeout=0.3)
        until = time.monotonic() + 20
        while client.get("/api/load").json()["requests"]:
            assert time.monotonic() < until
            time.sleep(0.05)


@pytest.mark.parametrize(
    "limits", [Limits(texts=1), Limits(tokens=5), Limits(waiting_tokens=3), Limits(batch_tokens=1)]
)
def test_small_limits_do_not_keep_a_server_from_its_start(folder: Path, limits: Limits) -> None:
    with served_models({"lm": folder}, limits) as client:
        assert client.post("/embed", json={"inputs": "a"}).status_code == 200


LARGE = {
    "/api/fill": {"text": "[MASK] " * 100, "top": 300},
    "/embed_all": {"inputs": ["the old river"] * 30},
    "/embed_sparse": {"inputs": ["the old river"] * 30},
    "/tokenize": {"inputs": "the old river " * 300},
}


@pytest.mark.parametrize("path", LARGE)
def test_a_small_request_has_no_huge_answer(client: httpx.Client, folder: Path, path: str) -> None:
    assert client.post(path, json=LARGE[path]).status_code == 200
    with served_models({"lm": folder}, Limits(answer_bytes=10_000)) as strict:
        answer = strict.post(path, json=LARGE[path])
        assert answer.status_code == 413
        assert "of which it may have 10,000" in answer.json()["error"]
