"""The Open Inference Protocol, version 2, of KServe, Triton and others, with Triton's binary data and repository.

Texts are inputs of the type BYTES; which a model takes and gives is in its metadata (`genus.serve.signature`). In the
place of single texts it takes `input_ids` and `attention_mask` (INT64), as graphs do. A model has one version, 1. A
request whose outputs are not named gets those of the model's head. Parameters are `truncate`, `dimensions`,
`normalize`, `prompt` and `top`; `notices` of a response say what was done to a text, such as that it lost its end, a
line each.

Source: kserve/open-inference-protocol, specification/protocol/inference_rest.md; triton-inference-server/server,
docs/protocol/extension_binary_data.md, extension_model_repository.md and extension_parameters.md. What the clients
read beyond them (`ready` of the server, 503 before): tritonclient 2.69.0, kserve 0.21.0.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from genus.errors import UsageError, near, shown
from genus.serve.service import service_of
from genus.serve.signature import Options, Values, chosen, inputs_of, interface
from genus.serve.tensors import Given, Tensor, Written, check_parameters, divided, read, written
from genus.serve.ticket import Refused

if TYPE_CHECKING:
    from genus.serve.served import Served
    from genus.serve.service import Done

VERSION = "1"
"""Of each model."""
HEAD = "Inference-Header-Content-Length"
"""The header that says how many bytes of a body are JSON, before binary data."""
RESERVED = ("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers", "content_type")
"""Parameters of requests that mean something elsewhere, and nothing here (extension_parameters.md; MLServer)."""
WINDOWS = {"gzip": 31, "deflate": 15}
"""zlib's `wbits` of encodings."""
Form = TypeVar("Form", bound=BaseModel)


class Output(BaseModel):
    """An output that a request names."""

    name: str
    parameters: dict[str, Any] = {}


class Inference(BaseModel):
    """A request for inference."""

    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[Given] = Field(min_length=1)
    outputs: list[Output] | None = None


class Listing(BaseModel):
    """A request for the list of models."""

    ready: bool = False


class Change(BaseModel):
    """A request to load or unload a model."""

    parameters: dict[str, Any] = {}


router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])


@router.get("")
async def server() -> dict[str, Any]:
    """Tell of the server."""
    extensions = ["binary_tensor_data", "model_repository", "parameters"]
    return {"name": "genus", "version": version("genus"), "extensions": extensions}


@router.get("/health/live")
async def live() -> dict[str, bool]:
    """Tell that the server answers."""
    return {"live": True}


@router.get("/health/ready")
async def ready(request: Request) -> JSONResponse:
    """Tell whether all models are loaded and warm, and requests are taken: 200 or 503."""
    service = service_of(request)
    able = service.ready and not service.ending
    return JSONResponse({"ready": able}, 200 if able else 503)


@router.get("/models/{model}/ready")
@router.get("/models/{model}/versions/{version}/ready")
async def model_ready(request: Request, model: str) -> JSONResponse:
    """Tell whether a model is loaded: 200 or 503."""
    _check_version(request)
    able = service_of(request).models.ready(model)
    return JSONResponse({"name": model, "ready": able}, 200 if able else 503)


@router.get("/models/{model}")
@router.get("/models/{model}/versions/{version}")
async def metadata(request: Request, model: str) -> dict[str, Any]:
    """Tell a model's inputs and outputs."""
    _check_version(request)
    done = await service_of(request).call(request, model, interface)
    return {"name": done.model, "versions": [VERSION], "platform": "genus", **done.value}


@router.post("/models/{model}/infer")
@router.post("/models/{model}/versions/{version}/infer")
async def infer(request: Request, model: str) -> Response:
    """Return a model's outputs for inputs."""
    _check_version(request)
    head, binary = _divided(request, await _body(request))
    asked = _read(Inference, head)
    options = _options(asked.parameters)
    done = await service_of(request).call(
        request, model, lambda served: _answered(served, asked, options, binary), truncate=options.truncate
    )
    return _response(asked, done)


@router.post("/repository/index")
async def index(request: Request) -> list[dict[str, str]]:
    """List the models, and whether each is loaded."""
    asked = _read(Listing, await _body(request) or b"{}")
    models = service_of(request).models
    found = []
    for name in models.names:
        if (able := models.ready(name)) or not asked.ready:
            state = {"state": "READY", "reason": ""} if able else {"state": "UNAVAILABLE", "reason": "not in memory"}
            found.append({"name": name, "version": VERSION, **state})
    return found


@router.post("/repository/models/{model}/load")
async def load(request: Request, model: str) -> Response:
    """Read a model's folder again; requests go to the old one until the new one is there."""
    asked = _read(Change, await _body(request) or b"{}")
    if asked.parameters:
        raise UsageError(f"parameter {shown(next(iter(asked.parameters)))}: a model is loaded as its folder has it")
    await asyncio.to_thread(service_of(request).models.reload, model)
    return Response()


@router.post("/repository/models/{model}/unload")
async def unload(request: Request, model: str) -> Response:
    """Free a model's memory once no request needs it; the next one loads it again."""
    _read(Change, await _body(request) or b"{}")
    await asyncio.to_thread(service_of(request).models.unload, model)
    return Response()


def _check_version(request: Request) -> None:
    given = request.path_params.get("version", VERSION)
    if given != VERSION:
        raise Refused(404, f"there is no version {shown(given)}; each model has one, {VERSION}")


async def _body(request: Request) -> bytes:
    """Return the body of a request, without the compression that it may have.

    Raises:
        Refused: it is larger than the server takes, or the client has left.
        UsageError: it is compressed otherwise, or damaged.
    """
    try:
        body = await request.body()
    except ClientDisconnect:
        raise Refused(499, "the client has left") from None
    encoding = request.headers.get("content-encoding", "identity")
    if encoding == "identity":
        return body
    if encoding not in WINDOWS:
        raise UsageError(f"Content-Encoding: expected {' or '.join(WINDOWS)}, got {shown(encoding)}")
    most, stream = service_of(request).limits.body_bytes, zlib.decompressobj(WINDOWS[encoding])
    try:
        found = stream.decompress(body, most + 1)
    except zlib.error:
        raise UsageError(f"the body is no {encoding}") from None
    if len(found) > most:
        raise Refused(413, f"the body has more than {most:,} bytes; ask for less at once")
    if not stream.eof:
        raise UsageError(f"the body ends before its {encoding} does")
    return found


def _divided(request: Request, body: bytes) -> tuple[bytes, bytes]:
    """Return the JSON of a body and its binary data.

    Raises:
        UsageError: the header of its length says something else.
    """
    given = request.headers.get(HEAD)
    if given is None:
        return body, b""
    if not (given.isascii() and given.isdigit() and 0 < len(given) < 20 and 0 < int(given) <= len(body)):
        raise UsageError(f"{HEAD}: expected 1 to {len(body)}, the bytes of the body, got {shown(given)}")
    return body[: int(given)], body[int(given) :]


def _read(form: type[Form], text: bytes) -> Form:
    """Return a body as a form.

    Raises:
        UsageError: it is no such JSON.
    """
    try:
        return form.model_validate_json(text)
    except ValidationError as error:
        raise UsageError(_first(error)) from None


def _options(parameters: dict[str, Any]) -> Options:
    """Return the parameters of a request.

    Raises:
        UsageError: one is unknown, or another type.
    """
    for name in parameters:
        if name not in (*Options.model_fields, *RESERVED) and not name.startswith("triton_"):
            raise UsageError(f"parameters: there is no {shown(name)}.{near(name, [*Options.model_fields])}")
    try:
        return Options.model_validate(parameters)
    except ValidationError as error:
        raise UsageError(f"parameters.{_first(error)}") from None


def _first(error: ValidationError) -> str:
    """Return the first thing that is wrong, without repeating what was given."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part)[:80] for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def _answered(served: Served, asked: Inference, options: Options, binary: bytes) -> list[Written]:
    """Return a model's outputs as they are sent.

    Raises:
        UsageError: inputs or outputs are not the model's.
    """
    names = None if not asked.outputs else [one.name for one in asked.outputs]
    for output in asked.outputs or ():
        check_parameters(output.parameters, f"output {shown(output.name)}")
    pairs = chosen(served, names)
    inputs = inputs_of(served, [asking for asking, _ in pairs], [one.name for one in asked.inputs])
    own = zip(asked.inputs, divided(asked.inputs, binary), strict=True)
    given = {one.name: read(one, inputs[one.name], data) for one, data in own}
    if len({len(one) for one in given.values()}) > 1:
        raise UsageError("inputs: expected as many texts of each; their first dimensions differ")
    tensors: dict[str, Tensor] = {}
    values: Values = {}
    for asking, outputs in pairs:
        tensors |= {one.name: one for one in outputs}
        values |= asking.answer(served, given, options)
    wanted = asked.outputs or [Output(name=name) for name in tensors]
    return [written(tensors[one.name], values[one.name], binary=_is_binary(one, options)) for one in wanted]


def _is_binary(output: Output, options: Options) -> bool:
    """Return whether an output is to be binary data.

    Raises:
        UsageError: its parameter is no yes or no.
    """
    found = output.parameters.get("binary_data", options.binary_data_output)
    if not isinstance(found, bool):
        raise UsageError(f"output {shown(output.name)}: binary_data: expected true or false, got {shown(found)}")
    return found


def _response(asked: Inference, done: Done[list[Written]]) -> Response:
    """Return a response, whose binary data stand behind its JSON."""
    told: dict[str, Any] = {"model_name": done.model, "model_version": VERSION}
    told |= {} if asked.id is None else {"id": asked.id}
    told |= {"parameters": {"notices": "\n".join(done.notices)}} if done.notices else {}
    outputs = b", ".join(one.head for one in done.value)
    head = json.dumps(told).encode()[:-1] + b', "outputs": [' + outputs + b"]}"
    data = [one.binary for one in done.value if one.binary is not None]
    if not data:
        return Response(head, media_type="application/json")
    return Response(head + b"".join(data), media_type="application/octet-stream", headers={HEAD: str(len(head))})
