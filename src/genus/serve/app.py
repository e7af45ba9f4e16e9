"""The application: routes over a service, its errors in the form that each route's clients read, and its gates."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse

from genus.errors import GenusError
from genus.serve.gates import BodyLimit, Token
from genus.serve.metrics import Metrics, Observed
from genus.serve.routes import completions, images, open_inference, openai, own, page, tei
from genus.serve.service import Service
from genus.serve.ticket import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.requests import Request

    from genus.serve.limits import Limits
    from genus.serve.models import Models

log = logging.getLogger("genus.serve")
KINDS = dict.fromkeys((400, 404, 408, 413, 422), "Validation") | {429: "Overloaded", 503: "Unhealthy"}
"""What text-embeddings-inference calls errors, by status; others are of the backend."""


Loaded = Callable[[Exception | None], None]
"""Called when the models are loaded, or with the error for which they cannot be."""


def told_in_the_log(error: Exception | None) -> None:
    """Log the error, of an application in a server that does not ask for it; it never becomes ready."""
    if error is not None:
        log.error("%s", error)


def application(
    models: Models,
    limits: Limits,
    *,
    token: str | None = None,
    origins: Sequence[str] = (),
    loaded: Loaded = told_in_the_log,
) -> FastAPI:
    """Return the application that answers for models.

    Args:
        models: loaded when the application starts; until then it lives and is not ready.
        limits: of requests.
        token: that requests must bear (`Authorization: Bearer TOKEN`), but for health; None: anybody may ask.
        origins: whose pages in a browser may read answers (CORS); none: the server's own.
        loaded: called when the application is ready, or never will be.
    """
    service, metrics = Service(models, limits), Metrics(models)
    models.watch = metrics.passed

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading, returning = asyncio.create_task(_load(service, loaded)), asyncio.create_task(service.return_memory())
        yield
        returning.cancel()
        await service.drained()
        models.closed = True
        await loading
        models.close()

    app = FastAPI(title="genus", summary="Models of text", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service, app.state.metrics = service, metrics
    for made in (page, own, images, openai, completions, tei, open_inference):
        app.include_router(made.router)
    app.add_exception_handler(GenusError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(BodyLimit, most=limits.body_bytes, seconds=limits.seconds)
    if token is not None:
        app.add_middleware(Token, token=token)
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=[*origins], allow_methods=["*"], allow_headers=["*"])
    app.add_middleware(Observed, metrics=metrics)
    return app


async def _load(service: Service, loaded: Loaded) -> None:
    """Load the models."""
    try:
        await asyncio.to_thread(service.models.load_all)
    except Exception as error:  # whatever it is, nothing can be answered
        loaded(error)
        return
    service.ready = True
    loaded(None)


def body(path: str, status: int, message: str) -> dict[str, Any]:
    """Return an error as the clients of a route read it: OpenAI's, the Open Inference Protocol's, or all others."""
    if path.startswith("/v1/"):
        kind = "invalid_request_error" if status < 500 else "server_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": status}}
    if path.startswith("/v2"):
        return {"error": message}
    return {"error": message, "error_type": KINDS.get(status, "Backend")}


def answer(request: Request, status: int, message: str) -> JSONResponse:
    """Return the response of a request that fails."""
    message = message.encode(errors="replace").decode()  # names of fields may hold what is no character
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    return JSONResponse(body(request.url.path, status, message), status, headers)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    return answer(request, error.status if isinstance(error, Refused) else 400, str(error))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Tell the first thing that is wrong with a body, without repeating what was given."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    strict = request.url.path.startswith(("/v1/", "/v2"))
    return answer(request, 400 if strict else 422, f"{where}: {first['msg']}")


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return answer(request, error.status_code, f"{request.method} {request.url.path}: {error.detail}")


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    """Tell that something is wrong here; the log has where, and nothing of the user's texts."""
    log.error("unexpected %s at %s %s", type(error).__name__, request.method, request.url.path)
    told = answer(request, 500, f"unexpected {type(error).__name__}; the server's log says where")
    told.headers["Connection"] = "close"  # the server closes it after an error
    return told
