"""Our own routes of images: their vectors, classes that texts name, and cosines with texts.

Texts' vectors in the same space are those of all routes of vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request  # noqa: TC002  # FastAPI reads annotations

from genus.serve.images import read_base64
from genus.serve.routes.own import Answered, Body, answered
from genus.tasks.image_text import ZeroShot

if TYPE_CHECKING:
    from genus.serve.served import Served

BYTES = {"requestBody": {"required": True, "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}}
TEMPLATES = [*ZeroShot().templates]


class Images(Body):
    """Images, each the bytes of a file in base64 or a data URL."""

    images: list[str]

    @property
    def files(self) -> list[bytes]:
        """The bytes of each."""
        return [read_base64(image, number) for number, image in enumerate(self.images, 1)]


class Classes(Images):
    """Images, and the names of the classes of which they may be."""

    labels: list[str]
    templates: Annotated[list[Annotated[str, Field(pattern=r"\{\}")]], Field(min_length=1)] = TEMPLATES


class Captions(Images):
    """Images, and texts to compare them with."""

    texts: list[str]


router = APIRouter(prefix="/api/images", tags=["genus"])


@router.post("/embed")
async def embed(request: Request, body: Images) -> Answered:
    """Return the vector of each image, of the length 1."""
    return await answered(request, body, lambda served: served.images.embed(body.files).tolist())


@router.post("/file", openapi_extra=BYTES)
async def embed_file(request: Request, model: str | None = None) -> Answered:
    """Return the vector of the image whose file is the body itself."""
    data, named = await request.body(), Body(model=model, truncate=True)
    return await answered(request, named, lambda served: served.images.embed([data]).tolist())


@router.post("/classify")
async def classify(request: Request, body: Classes) -> Answered:
    """Return the likeliest label of each image, with the probability of each; a template's {} is the label's name."""

    def ask(served: Served) -> list[Any]:
        found = served.images.classify(body.files, body.labels, ZeroShot(templates=tuple(body.templates)))
        return [{"label": max(scores, key=scores.__getitem__), "scores": scores} for scores in found]

    return await answered(request, body, ask)


@router.post("/similarity")
async def similarity(request: Request, body: Captions) -> Answered:
    """Return for each image its cosine with each text."""
    return await answered(request, body, lambda served: served.images.compare(body.files, body.texts).tolist())
