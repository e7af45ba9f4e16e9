"""What a server is watched by: its metrics over all processes, its log, its spans; nothing of a text is in them."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from running_server import model_folders, served_models

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "zanzibarquux"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folders(tmp_path_factory.mktemp("models"))["embedder"]


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    with served_models({"embedder": folder}) as made:
        yield made


def samples(client: httpx.Client) -> dict[tuple[str, ...], float]:
    """Return what is told, by its name and the values of its labels."""
    found = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            found[(sample.name, *sample.labels.values())] = sample.value
    return found


def test_requests_passes_and_tokens_are_counted(client: httpx.Client) -> None:
    before = samples(client)
    for texts in (["a", "b"], ["c"]):
        assert client.post("/embed", json={"inputs": texts}).status_code == 200
    tokens = int(client.post("/embed", json={"inputs": ["d e"]}).headers["x-compute-tokens"])
    assert client.post("/embed", json={"inputs": []}).status_code == 400
    assert client.get(f"/v1/models/{SECRET}").status_code == 404
    assert client.get(f"/{SECRET}").status_code == 404
    after = samples(client)

    def more(*name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    assert more("genus_requests_total", "POST", "/embed", "200") == 3
    assert more("genus_requests_total", "POST", "/embed", "400") == 1
    assert more("genus_requests_total", "GET", "/v1/models/{model}", "404") == 1
    assert more("genus_requests_total", "GET", "none", "404") == 1
    assert more("genus_request_seconds_count", "/embed") == 4
    assert 0 < more("genus_request_seconds_sum", "/embed") < 60
    assert more("genus_batch_works_sum") == 4
    assert more("genus_batch_works_count") == 3
    assert more("genus_tokens_total") == more("genus_batch_tokens_sum") == 3 * 3 + tokens
    assert after["genus_running_requests",] == 1  # the one that asks
    assert after["genus_waiting_tokens",] == 0
    assert not [name for name in after if SECRET in "".join(name)]


def test_a_failure_is_counted_and_told_without_what_failed(client: httpx.Client, monkeypatch: Any) -> None:
    from genus.serve.served import Served

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError(SECRET)

    monkeypatch.setattr(Served, "embed", fail)
    before = samples(client)
    answer = client.post("/embed", json={"inputs": "a"})
    assert answer.status_code == 500
    assert SECRET not in answer.text
    after = samples(client)
    for name in (("genus_errors_total", "/embed"), ("genus_requests_total", "POST", "/embed", "500")):
        assert after[name] == before.get(name, 0.0) + 1


def test_a_line_of_the_log_for_each_request(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "genus.serve"):
        tokens = int(client.post("/embed", json={"inputs": [SECRET, "a"]}).headers["x-compute-tokens"])
        client.get(f"/{SECRET}")
        until = time.monotonic() + 5  # a line is written when its answer has been sent
        while sum(one.name == "genus.serve" for one in caplog.records) < 2 and time.monotonic() < until:
            time.sleep(0.01)
    lines = [json.loads(one.getMessage()) for one in caplog.records if one.name == "genus.serve"]
    assert [one.pop("ms") > 0 for one in lines] == [True, True]
    assert lines == [
        {"method": "POST", "route": "/embed", "status": 200, "model": "embedder", "texts": 2, "tokens": tokens},
        {"method": "GET", "route": "none", "status": 404},
    ]
    assert SECRET not in caplog.text


def test_spans(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A span below the client's, of which OpenTelemetry's API is told; its SDK would send it."""
    trace = pytest.importorskip("opentelemetry.trace")
    seen: list[Any] = []

    class Kept(trace.NonRecordingSpan):  # type: ignore[misc, name-defined]
        def update_name(self, name: str) -> None:
            self.told = {"name": name}

        def set_attributes(self, attributes: dict[str, Any]) -> None:
            self.told |= attributes

    class Tracer(trace.NoOpTracer):  # type: ignore[misc, name-defined]
        def start_as_current_span(self, name: str, context: Any = None, **given: Any) -> Any:
            above = trace.get_current_span(context).get_span_context()
            seen.append((Kept(above), above.trace_id, given["kind"]))
            return trace.use_span(seen[-1][0])

    monkeypatch.setattr(trace, "get_tracer", lambda name: Tracer())
    number = "0af7651916cd43dd8448eb211c80319c"
    client.post("/embed", json={"inputs": "a"}, headers={"traceparent": f"00-{number}-b7ad6b7169203331-01"})
    (span, found, kind), *_ = seen
    until = time.monotonic() + 5  # a span ends when its answer has been sent
    while not hasattr(span, "told") and time.monotonic() < until:
        time.sleep(0.01)
    assert found == int(number, 16)
    assert kind is trace.SpanKind.SERVER
    assert span.told == {
        "name": "POST /embed",
        "http.request.method": "POST",
        "http.route": "/embed",
        "http.response.status_code": 200,
    }


DEAD = """
from genus.serve.metrics import Metrics
metrics = Metrics(None)
metrics.running.inc(7)
metrics.answered("POST", "/embed", 200, 0.1)
"""


@pytest.mark.slow
def test_workers_are_summed_and_the_dead_forgotten(folder: Path, tmp_path: Path) -> None:
    """What is told is of all processes; of one that is no more the requests count that it answered, and no others."""
    command = [sys.executable, "-m", "genus", "serve", str(folder), "--port", "0", "--workers", "2"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--run", "device=cpu"], stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip().replace("localhost", "127.0.0.1")
            metrics = wait_for_workers(tmp_path, url)
            with ThreadPoolExecutor(8) as pool:
                assert {*pool.map(lambda _: embed_once(url), range(40))} == {200}
            environment["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
            subprocess.run([sys.executable, "-c", DEAD], check=True, env=environment)
            with httpx.Client(base_url=url) as client:
                found = samples(client)
            assert found["genus_requests_total", "POST", "/embed", "200"] == 41
            assert found["genus_running_requests",] == 1
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert not metrics.exists()


def wait_for_workers(where: Path, url: str) -> Path:
    """Return the folder of the metrics once two workers have theirs there, and the server answers."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        folders = {path.parent for path in where.glob("genus-metrics-*/gauge_livesum_*.db")}
        if folders and len([*next(iter(folders)).glob("gauge_livesum_*.db")]) == 2:
            try:
                httpx.get(f"{url}/health")
                return folders.pop()
            except httpx.TransportError:
                pass
        time.sleep(0.1)
    raise AssertionError("the workers did not come up")


def embed_once(url: str) -> int:
    with httpx.Client(base_url=url, timeout=60) as client:
        return client.post("/embed", json={"inputs": "a"}).status_code
