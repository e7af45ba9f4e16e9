"""Texts that a server writes: those of the library, whole or streamed, whatever else is written at the same time."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from genus.export.folder import load
from genus.generate import Request
from genus.generate.beam import BeamSearch
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy, Sampling
from genus.serve.limits import Limits
from serving import running, small_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from genus.generate import Decoding

PROMPTS = ["the old river", "seven stones in winter", "a", "every teacher remembers the long letter"]
MOST = 12


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a decoder, an encoder-decoder, and a model that writes nothing."""
    where = tmp_path_factory.mktemp("writers")
    rows = {"gpt": "gpt2/tiny", "t5": "t5/tiny", "bert": "bert/tiny"}
    return {name: small_model(where / name, row) for name, row in rows.items()}


@pytest.fixture(scope="module")
def http(folders: dict[str, Path]) -> Iterator[httpx.Client]:
    """Yield a client of their server."""
    limits = Limits(generated_tokens=400, slots=4)
    with running(folders, limits) as address, httpx.Client(base_url=f"http://{address}", timeout=60) as client:
        yield client


def library(folder: Path, prompt: str, decoding: Decoding, samples: int = 1, **asked: Any) -> list[str]:
    """Return the library's texts for a prompt alone."""
    model = load(folder)
    engine = Engine(model.learner, model.recipe.model, model.tokenizer, seed=asked.pop("seed", 0))
    (found,) = engine.generate([Request(prompt, MOST, samples, key=0, **asked)], decoding)
    return [one.text for one in found]


def streamed(http: httpx.Client, path: str, body: dict[str, Any]) -> list[str]:
    """Return the data of all events."""
    with http.stream("POST", path, json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        return [line.removeprefix("data: ") for line in response.iter_lines() if line]


@pytest.mark.parametrize("model", ["gpt", "t5"])
def test_texts_are_those_of_the_library(http: httpx.Client, folders: dict[str, Path], model: str) -> None:
    asked = [
        ({}, Greedy(), {}),
        ({"temperature": 0.9, "top_p": 0.8, "seed": 3}, Sampling(temperature=0.9, top_p=0.8), {"seed": 3}),
        ({"temperature": 1.3, "top_k": 5, "samples": 2}, Sampling(temperature=1.3, top_k=5), {"samples": 2}),
        ({"beams": 2}, BeamSearch(beams=2), {}),
    ]
    bodies = [
        ({"model": model, "prompt": prompt, "max_tokens": MOST, **more}, library(folders[model], prompt, how, **given))
        for prompt in PROMPTS
        for more, how, given in asked
    ]
    with ThreadPoolExecutor(8) as threads:
        answers = [*threads.map(lambda one: http.post("/api/generate", json=one[0]).json(), bodies)]
    for (_, expected), answer in zip(bodies, answers, strict=True):
        assert [one["text"] for one in answer["answers"]] == expected


def test_the_pieces_of_a_stream_are_the_text(http: httpx.Client, folders: dict[str, Path]) -> None:
    body = {"model": "gpt", "prompt": PROMPTS[0], "max_tokens": MOST, "stream": True, "stop": ["st"]}
    told = [json.loads(one) for one in streamed(http, "/api/generate", body)]
    (expected,) = library(folders["gpt"], PROMPTS[0], Greedy(), stop=("st",))
    assert "".join(one["text"] for one in told) == expected
    assert [one["reason"] for one in told if "reason" in one] == [told[-1]["reason"]]


def test_openais_client_gets_completions(http: httpx.Client, folders: dict[str, Path]) -> None:
    openai = pytest.importorskip("openai")
    expected = [library(folders["gpt"], prompt, Greedy())[0] for prompt in PROMPTS]
    with openai.OpenAI(base_url=f"{http.base_url}/v1", api_key="none", max_retries=0) as client:
        given = {"model": "gpt", "max_tokens": MOST, "temperature": 0}
        whole = client.completions.create(prompt=PROMPTS, logprobs=1, **given)
        assert [one.text for one in whole.choices] == expected
        assert [one.index for one in whole.choices] == [0, 1, 2, 3]
        assert whole.usage.completion_tokens == sum(len(one.logprobs.tokens) for one in whole.choices)
        assert {one.finish_reason for one in whole.choices} <= {"length", "stop"}
        several = client.completions.create(prompt=PROMPTS[0], n=2, seed=5, **given | {"temperature": 1})
        drawn = library(folders["gpt"], PROMPTS[0], Sampling(temperature=1), 2, seed=5)
        assert [one.text for one in several.choices] == drawn
        pieces = [*client.completions.create(
            prompt=PROMPTS[:2], stream=True, stream_options={"include_usage": True}, **given
        )]  # fmt: skip
        for index in range(2):
            own = [one.choices[0] for one in pieces if one.choices and one.choices[0].index == index]
            assert "".join(one.text for one in own) == expected[index]
            assert own[-1].finish_reason is not None
        assert pieces[-1].usage.total_tokens == pieces[-1].usage.prompt_tokens + pieces[-1].usage.completion_tokens
        ids = load(folders["gpt"]).tokenizer.encode([PROMPTS[0]])[0]
        assert client.completions.create(prompt=ids, **given).choices[0].text == expected[0]


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/api/generate", {"model": "bert", "prompt": "a"}, 404, "cannot generate or write"),
        ("/api/generate", {"model": "gpt", "prompt": "a", "max_tokens": 401}, 400, "a request may ask for 400"),
        ("/api/generate", {"model": "gpt", "prompt": "a", "max_tokens": 0}, 422, "max_tokens"),
        ("/api/generate", {"model": "gpt", "prompt": "a " * 5000}, 400, "positions"),
        ("/api/generate", {"model": "gpt", "prompt": "a", "beams": 2, "temperature": 1}, 400, "beams"),
        ("/api/generate", {"model": "gpt", "prompt": "a", "stream": True, "max_tokens": 401}, 400, "may ask for"),
        ("/v1/completions", {"model": "gpt", "prompt": "a", "echo": True}, 400, "echo"),
        ("/v1/completions", {"model": "gpt", "prompt": [10**6]}, 400, "no token"),
        ("/v1/completions", {"model": "gpt", "prompt": []}, 400, "no text"),
        ("/v1/completions", {"model": "gpt", "prompt": "a", "stop": ""}, 400, "stop"),
        ("/v1/completions", {"model": "none", "prompt": "a"}, 404, "no model 'none'"),
    ],
)
def test_what_cannot_be_is_refused(http: httpx.Client, path: str, body: Any, status: int, told: str) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert told in (error if isinstance(error, str) else error["message"])


def test_a_client_that_leaves_ends_its_text(http: httpx.Client) -> None:
    body = {"model": "gpt", "prompt": "the", "max_tokens": 400, "temperature": 1.0, "stream": True}
    with http.stream("POST", "/api/generate", json=body) as response:
        next(response.iter_lines())
    until = time.monotonic() + 10
    while (load := http.get("/api/load").json())["requests"] and time.monotonic() < until:
        time.sleep(0.02)
    assert load["requests"] == 0
    assert http.post("/api/generate", json={"model": "gpt", "prompt": "a", "max_tokens": 2}).status_code == 200


def test_time_is_limited(folders: dict[str, Path]) -> None:
    with (
        running({"gpt": folders["gpt"]}, Limits(seconds=0.05)) as address,
        httpx.Client(base_url=f"http://{address}", timeout=60) as client,
    ):
        answer = client.post("/api/generate", json={"prompt": "the", "max_tokens": 2000, "temperature": 1.0})
        assert answer.status_code == 504
