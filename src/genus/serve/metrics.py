"""What a server is watched by: metrics for Prometheus, a line of the log for each request, and spans of OpenTelemetry.

Nothing of a user's text is in them; routes are told by their templates, so that their number is bounded.
"""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.datastructures import Headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from genus.serve.models import Models
    from genus.serve.ticket import Ticket

log = logging.getLogger("genus.serve")
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder in which prometheus-client keeps the metrics of several processes.

It must be set before prometheus-client is imported, so the parent of the processes sets it.
"""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
POWERS = tuple(float(2**power) for power in range(15))
"""Upper ends of the histograms' ranges: seconds, and numbers of works and tokens."""
NO_ROUTE = "none"
"""Of a request that comes to no route: the gates refuse it, or nothing is at its path."""
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
NOT_NOW = 503
"""The status of a server that is not ready, or ends."""


class Metrics:
    """The metrics of a process; `told` tells those of all processes of the server."""

    def __init__(self, models: Models) -> None:
        """Make the metrics, which watch the queues of models."""
        self.models = models
        own: dict[str, Any] = {"registry": CollectorRegistry()}
        self.registry: CollectorRegistry = own["registry"]
        self.requests = Counter("genus_requests", "Answered requests.", ["method", "route", "status"], **own)
        self.errors = Counter("genus_errors", "Requests without an answer (5xx but 503).", ["route"], **own)
        self.seconds = Histogram(
            "genus_request_seconds", "From the arrival of a request to its answer.", ["route"], buckets=SECONDS, **own
        )
        self.running = Gauge("genus_running_requests", "Requests being answered.", multiprocess_mode="livesum", **own)
        self.waiting = Gauge("genus_waiting_tokens", "Tokens that wait for a pass.", multiprocess_mode="livesum", **own)
        self.works = Histogram("genus_batch_works", "Works of a forward pass.", buckets=POWERS, **own)
        self.batch_tokens = Histogram("genus_batch_tokens", "Tokens of a forward pass.", buckets=POWERS, **own)
        self.batch_seconds = Histogram("genus_batch_seconds", "Time of a forward pass.", buckets=SECONDS, **own)
        self.tokens = Counter("genus_tokens", "Tokens that went through forward passes.", **own)

    def passed(self, works: int, tokens: int, seconds: float) -> None:
        """Count a forward pass."""
        self.works.observe(works)
        self.batch_tokens.observe(tokens)
        self.batch_seconds.observe(seconds)
        self.tokens.inc(tokens)
        self.waiting.set(self.models.waiting_tokens)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(method if method in METHODS else "other", route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)
        if status >= 500 and status != NOT_NOW:
            self.errors.labels(route).inc()

    def told(self) -> bytes:
        """Return the metrics in Prometheus' text format, summed over the processes of the server."""
        self.waiting.set(self.models.waiting_tokens)
        folder = os.environ.get(FOLDER)
        if not folder:
            return generate_latest(self.registry)
        _forget_the_dead(Path(folder))
        together = CollectorRegistry()
        MultiProcessCollector(together, folder)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def _forget_the_dead(folder: Path) -> None:
    """Drop what processes said of their present that are no more, such as requests that they work on."""
    for number in {int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_live*.db")}:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            mark_process_dead(number, str(folder))  # type: ignore[no-untyped-call]


class Observed:
    """Counts and times each request, and logs it; the outermost layer, so that it sees what others refuse."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.metrics.running.inc()
        with traced(scope) as end:
            try:
                await self.app(scope, receive, noted)
            finally:
                self.metrics.running.dec()
                route = getattr(scope.get("route"), "path", NO_ROUTE)
                seconds = time.perf_counter() - begun
                self.metrics.answered(scope["method"], route, status, seconds)
                log.info(line(scope, route, status, seconds))
                end(route, status)


def line(scope: Scope, route: str, status: int, seconds: float) -> str:
    """Return a request's line of the log, in JSON."""
    ticket: Ticket | None = scope.get("state", {}).get("ticket")
    asked = {} if ticket is None else {"model": ticket.model, "texts": ticket.texts, "tokens": ticket.tokens}
    told = {"method": scope["method"], "route": route, "status": status, "ms": round(seconds * 1e3, 3)}
    return json.dumps(told | asked)


@contextmanager
def traced(scope: Scope) -> Iterator[Callable[[str, int], None]]:
    """Context manager: OpenTelemetry's span of a request, below that of its client; gives what tells how it ended.

    Without OpenTelemetry nothing is traced, and without its SDK, which the process that embeds the application or
    `opentelemetry-instrument` sets up, spans go nowhere.
    """
    try:
        from opentelemetry import propagate, trace
    except ImportError:
        yield lambda route, status: None
        return
    above = propagate.extract(dict(Headers(scope=scope).items()))
    tracer = trace.get_tracer("genus.serve")
    with tracer.start_as_current_span(scope["method"], above, kind=trace.SpanKind.SERVER) as span:

        def end(route: str, status: int) -> None:
            span.update_name(f"{scope['method']} {route}")
            span.set_attributes(
                {"http.request.method": scope["method"], "http.route": route, "http.response.status_code": status}
            )

        yield end
