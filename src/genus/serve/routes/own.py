"""Our own routes, for what no other protocol has: every ability of a model, with typed bodies.

`notices` of an answer say what was done to a text, such as that it lost its end.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, cast

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request  # noqa: TC002  # FastAPI reads annotations
from starlette.responses import StreamingResponse  # noqa: TC002  # FastAPI reads annotations

from genus.serve.routes.events import events
from genus.serve.service import service_of
from genus.serve.writing import Wish

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.generate import Piece
    from genus.serve.served import Served


class Body(BaseModel):
    """A request, of which no unknown field is passed over."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="Name of the model; left out: the first one.")
    truncate: bool = Field(True, description="Whether texts that are too long lose their end; else they are refused.")


class Texts(Body):
    """Texts to classify; of a model of pairs, lists of two."""

    texts: list[str | tuple[str, str]]


class Text(Body):
    """One text."""

    text: str


class Masked(Text):
    """A text with masks, written `[MASK]`, `<mask>` or `___`."""

    top: Annotated[int, Field(ge=1, le=1000)] = 5


class Question(Body):
    """A question about a context."""

    question: str
    context: str


class Choosing(Body):
    """A question with its choices."""

    question: str
    choices: Annotated[list[str], Field(min_length=2)]


class Several(Body):
    """Single texts."""

    texts: list[str]


class Writing(Body):
    """A prompt that is continued, or a source for which a text is written; what is left out is as the model says."""

    prompt: str
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    samples: Annotated[int, Field(ge=1, le=64)] = 1
    stop: list[Annotated[str, Field(min_length=1)]] = []
    temperature: Annotated[float, Field(ge=0, le=10)] | None = Field(None, description="0: the likeliest token.")
    top_k: Annotated[int, Field(ge=1)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    beams: Annotated[int, Field(ge=1, le=64)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    stream: bool = Field(False, description="Whether pieces are sent as they are written, as server-sent events.")

    def wish(self) -> Wish:
        """Return what is asked of a model."""
        given = self.model_dump(exclude={"model", "truncate", "stream"})
        return Wish(**given | {"stop": tuple(self.stop)})


class Answered(BaseModel):
    """The answer to a request."""

    model: str
    notices: list[str]
    answers: list[Any]


router = APIRouter(prefix="/api", tags=["genus"])


@router.get("/models")
async def models(request: Request) -> list[dict[str, Any]]:
    """List the models, and what each can be asked once it is loaded."""
    found = []
    for name, slot in service_of(request).models.slots.items():
        able = sorted(slot.served.abilities) if slot.served is not None else None
        found.append({"name": name, "loaded": slot.served is not None, "abilities": able})
    return found


@router.get("/load")
async def load(request: Request) -> dict[str, int]:
    """Return what is worked on at the moment, and the tokens so far; of this process alone."""
    service = service_of(request)
    return {"requests": service.working, "waiting_tokens": service.models.waiting_tokens, "tokens": service.tokens}


@router.post("/classify")
async def classify(request: Request, body: Texts) -> Answered:
    """Return the label of each text, or its number, with the probability of each label."""
    texts = [(text,) if isinstance(text, str) else text for text in body.texts]

    def ask(served: Served) -> list[Any]:
        found = served.predict(texts, "classify", "score")
        return [{"label": one.predicted, "scores": one.scores} for one in found]

    return await answered(request, body, ask)


@router.post("/tag")
async def tag(request: Request, body: Text) -> Answered:
    """Return the entities of a text, with the characters [start, end) that they are."""
    return await answered(request, body, lambda served: [asdict(one) for one in served.tags([body.text])[0]])


@router.post("/answer")
async def answer(request: Request, body: Question) -> Answered:
    """Return the answer to a question, cut out of the context; an empty one where there is none."""

    def ask(served: Served) -> list[Any]:
        found = served.predict([(body.question, body.context)], "answer")
        return [{"answer": one.predicted, **cast("dict[str, float]", one.scores)} for one in found]

    return await answered(request, body, ask)


@router.post("/choose")
async def choose(request: Request, body: Choosing) -> Answered:
    """Return the number of the choice that fits best, from 0, with the probability of each."""

    def ask(served: Served) -> list[Any]:
        found = served.predict([(body.question, *body.choices)], "choose")
        scores = [[*cast("dict[str, float]", one.scores).values()] for one in found]
        return [{"choice": int(str(one.predicted)), "scores": own} for one, own in zip(found, scores, strict=True)]

    return await answered(request, body, ask)


@router.post("/fill")
async def fill(request: Request, body: Masked) -> Answered:
    """Return for each mask of a text the most probable tokens."""
    return await answered(
        request, body, lambda served: [[asdict(one) for one in mask] for mask in served.fills([body.text], body.top)[0]]
    )


@router.post("/likelihood")
async def likelihood(request: Request, body: Several) -> Answered:
    """Return the log-likelihood of each text in nats, and the tokens and bytes by which it can be divided."""
    return await answered(request, body, lambda served: [asdict(one) for one in served.likelihood(body.texts)])


@router.post("/generate", response_model=None)
async def generate(request: Request, body: Writing) -> Answered | StreamingResponse:
    """Return texts after a prompt, or for a source; an event of a stream has `sample` and `text`, the last `reason`."""
    wish = body.wish()
    if body.stream:
        pieces = await service_of(request).stream(request, body.model, lambda served: served.write(wish))
        return events(_told(piece) async for piece in pieces)

    def ask(served: Served) -> list[Any]:
        served.need("generate", "write")
        return [{"text": one.text, "reason": one.reason, "tokens": len(one.ids)} for one in served.writer.results(wish)]

    return await answered(request, body, ask)


def _told(piece: Piece) -> dict[str, Any]:
    """Return what an event says of a piece."""
    ended = {} if piece.result is None else {"reason": piece.result.reason, "tokens": len(piece.result.ids)}
    return {"sample": piece.sample, "text": piece.text, **ended}


async def answered(request: Request, body: Body, ask: Callable[[Served], list[Any]]) -> Answered:
    """Return what a model answers as a response."""
    done = await service_of(request).call(request, body.model, ask, truncate=body.truncate)
    return Answered(model=done.model, notices=done.notices, answers=done.value)
