"""OpenAI's routes: the list of models, and embeddings.

Source: OpenAI's API reference (Embeddings, Models), as the `openai` package sends and reads it.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request  # noqa: TC002  # FastAPI reads annotations
from starlette.responses import JSONResponse

from genus.serve.routes.inputs import Inputs, texts_of  # FastAPI reads annotations
from genus.serve.service import service_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from genus.serve.models import Slot
    from genus.serve.served import Served


class Embeddings(BaseModel):
    """A request for vectors; fields that are not here, such as `user`, change nothing."""

    input: Inputs
    model: str | None = Field(None, description="Name of the model; left out: the first one.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None


router = APIRouter(tags=["OpenAI"])


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """List the models."""
    slots = service_of(request).models.slots.values()
    return {"object": "list", "data": [_described(slot) for slot in slots]}


@router.get("/v1/models/{model}")
async def show_model(request: Request, model: str) -> dict[str, Any]:
    """Describe a model."""
    models = service_of(request).models
    models.ready(model)  # refuses unknown names
    return _described(models.slots[model])


@router.post("/v1/embeddings")
@router.post("/embeddings")
async def create_embeddings(request: Request, body: Embeddings) -> JSONResponse:
    """Return the vectors of texts, of the length 1."""

    def ask(served: Served) -> NDArray[np.float32]:
        return served.embed(texts_of(body.input), dimensions=body.dimensions, normalize=True)

    done = await service_of(request).call(request, body.model, ask, truncate=False)
    written = map(_base64, done.value) if body.encoding_format == "base64" else done.value.tolist()
    data = [{"object": "embedding", "index": number, "embedding": one} for number, one in enumerate(written)]
    usage = {"prompt_tokens": done.tokens, "total_tokens": done.tokens}
    return JSONResponse({"object": "list", "data": data, "model": done.model, "usage": usage})


def _base64(vector: NDArray[np.float32]) -> str:
    """Return the numbers as 32-bit floats, least significant byte first, in base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _described(slot: Slot) -> dict[str, Any]:
    source = slot.source
    created = int(source.folder.stat().st_mtime) if source.folder.exists() else 0
    return {"id": source.name, "object": "model", "created": created, "owned_by": "genus"}
