"""OpenAI's completions, whole or streamed.

Source: OpenAI's API reference (Completions), as the `openai` package sends and reads it. What has no counterpart here
is refused where it would change the text: `suffix`, `echo`, `logit_bias`, penalties of presence and of frequency, and
`best_of` above `n`.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request  # noqa: TC002  # FastAPI reads annotations
from starlette.responses import StreamingResponse  # noqa: TC002  # FastAPI reads annotations

from genus.errors import UsageError
from genus.serve.routes.events import events
from genus.serve.routes.inputs import Inputs, texts_of  # FastAPI reads annotations
from genus.serve.service import service_of
from genus.serve.tokenwise import check_ids
from genus.serve.writing import Wish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from genus.generate import Piece, Result
    from genus.serve.served import Served
    from genus.tokens.tokenizer import Tokenizer

USUAL_TOKENS = 16
"""`max_tokens` where nothing is said."""


class StreamOptions(BaseModel):
    """What a stream tells beside its text."""

    include_usage: bool = False


class Unsupported(BaseModel):
    """Fields that would change the text, and have no counterpart here."""

    suffix: str | None = None
    echo: bool | None = False
    logit_bias: dict[str, float] | None = None
    presence_penalty: float | None = 0.0
    frequency_penalty: float | None = 0.0

    def check(self) -> None:
        """Refuse what has no counterpart here.

        Raises:
            UsageError: something of it is asked for.
        """
        if given := [name for name in Unsupported.model_fields if getattr(self, name)]:
            raise UsageError(f"{given[0]}: is not there; leave it out")


class Completion(Unsupported):
    """A request for completions; fields that are not here, such as `user`, change nothing."""

    model: str | None = Field(None, description="Name of the model; left out: the first one.")
    prompt: Inputs
    max_tokens: Annotated[int, Field(ge=1)] | None = USUAL_TOKENS
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    n: Annotated[int, Field(ge=1, le=128)] | None = 1
    best_of: Annotated[int, Field(ge=1)] | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=1)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None

    def check(self) -> None:
        """Refuse what has no counterpart here.

        Raises:
            UsageError: something of it is asked for.
        """
        super().check()
        if self.best_of not in (None, self.n):
            raise UsageError("best_of: is not there; leave it out")

    def wishes(self) -> list[Wish]:
        """Return what is asked of a model for each prompt."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        temperature = 1.0 if self.temperature is None else self.temperature
        return [
            Wish(
                prompt=prompt, max_tokens=self.max_tokens or USUAL_TOKENS, samples=self.n or 1, stop=stop,
                temperature=temperature, top_p=(self.top_p or 1.0) if temperature else 1.0, seed=self.seed,
            )
            for prompt in texts_of(self.prompt)
        ]  # fmt: skip


@dataclass(frozen=True)
class Written:
    """A piece of a choice, and its result with the last one."""

    index: int
    text: str
    result: Result | None


router = APIRouter(tags=["OpenAI"])


@router.post("/v1/completions", response_model=None)
async def complete(request: Request, body: Completion) -> dict[str, Any] | StreamingResponse:
    """Return texts that go on from prompts."""
    body.check()
    wishes, service = body.wishes(), service_of(request)
    head = {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": int(time.time())}
    names: list[str] = []
    prompt_tokens: list[int] = []

    def ask(served: Served) -> Iterator[Written]:
        names.append(served.name)
        yield from _written(served, wishes, prompt_tokens)

    def told(choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**head, "model": names[0], "choices": choices}

    def whole(served: Served) -> list[dict[str, Any]]:
        found = [one for one in ask(served) if one.result is not None]
        generated.extend(one.result for one in found if one.result is not None)
        ordered = sorted(found, key=lambda one: one.index)
        return [_choice(one, one.result.text if one.result else "", served.tokenizer, body.logprobs) for one in ordered]

    generated: list[Result] = []
    if not body.stream:
        done = await service.call(request, body.model, whole)
        return told(done.value) | {"usage": _usage(prompt_tokens, generated)}

    async def chunks(pieces: AsyncIterator[Written]) -> AsyncIterator[dict[str, Any]]:
        async for one in pieces:
            if one.result is not None:
                generated.append(one.result)
            yield told([_choice(one, one.text, None, None)])
        if body.stream_options and body.stream_options.include_usage:
            yield told([]) | {"usage": _usage(prompt_tokens, generated)}

    return events(chunks(await service.stream(request, body.model, ask)), last="[DONE]")


def _written(served: Served, wishes: list[Wish], prompt_tokens: list[int]) -> Iterator[Written]:
    """Yield pieces of all choices: the texts of several prompts are written at the same time, and told in order."""
    served.need("generate", "write")
    served.take(wishes)
    for wish in wishes:
        if not isinstance(wish.prompt, str):
            check_ids(served.tokenizer, wish.prompt)
        prompt_tokens.append(served.writer.tokens_of(wish))
    number = 0
    for pieces in served.writer.together(wishes):
        yield from (_numbered(piece, number) for piece in pieces)
        number += wishes[0].samples


def _numbered(piece: Piece, first: int) -> Written:
    return Written(first + piece.sample, piece.text, piece.result)


def _choice(one: Written, text: str, tokenizer: Tokenizer | None, logprobs: int | None) -> dict[str, Any]:
    """Return a choice, or what a stream adds to it."""
    reasons = {None: None, "length": "length"}
    reason = reasons.get(None if one.result is None else one.result.reason, "stop")
    told: dict[str, Any] = {"index": one.index, "text": text, "finish_reason": reason, "logprobs": None}
    if logprobs is not None and one.result is not None and tokenizer is not None:
        tokens = [tokenizer.decode([number]) for number in one.result.ids]
        offsets = [sum(map(len, tokens[:number])) for number in range(len(tokens))]
        likely = [*one.result.log_probabilities]
        told["logprobs"] = {
            "tokens": tokens, "token_logprobs": likely, "top_logprobs": None, "text_offset": offsets,
        }  # fmt: skip
    return told


def _usage(prompts: list[int], generated: list[Result]) -> dict[str, int]:
    """Return the numbers of tokens."""
    read, written = sum(prompts), sum(len(one.ids) for one in generated)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
