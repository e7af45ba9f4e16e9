"""The routes of text-embeddings-inference.

Source: huggingface/text-embeddings-inference, router/src/http/server.rs (bc0fa32) and router/src/lib.rs (009f067).
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request  # noqa: TC002  # FastAPI reads annotations
from starlette.responses import JSONResponse, Response

from genus.objectives.pooling import First, Last, Mean, Pooling
from genus.objectives.supervised.multi_label import chances
from genus.serve.routes import tei_bodies as bodies
from genus.serve.routes.inputs import texts_of
from genus.serve.service import service_of
from genus.serve.ticket import Refused
from genus.serve.tokenwise import check_ids
from genus.tasks.embed import embedder_of, prompt_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from genus.serve.routes.tei_bodies import Cutting
    from genus.serve.served import Served
    from genus.tokens.tokenizer import Tokenizer

POOLINGS: dict[type[Pooling], str] = {First: "cls", Last: "last_token"}
"""What text-embeddings-inference calls poolings; others by their own names."""

TOKEN = 80
"""Bytes of a token that is told, about."""
T = TypeVar("T", bound=BaseModel)
router = APIRouter(tags=["text-embeddings-inference"])


@router.post("/embed")
async def embed(request: Request, body: bodies.Embed) -> Response:
    """Return the vector of each text."""

    def ask(served: Served) -> list[Any]:
        found = served.embed(
            texts_of(body.inputs), prompt=body.prompt_name, dimensions=body.dimensions, normalize=body.normalize
        )
        return [*found.tolist()]

    return await _answered(request, body.model, ask, body)


@router.post("/embed_all")
async def embed_all(request: Request, body: bodies.Prompted) -> Response:
    """Return the vector of each token of each text, special ones of the template included."""

    def ask(served: Served) -> list[Any]:
        return [one.tolist() for one in served.embed_tokens(texts_of(body.inputs), prompt=body.prompt_name)]

    return await _answered(request, body.model, ask, body)


@router.post("/embed_sparse")
async def embed_sparse(request: Request, body: bodies.Prompted) -> Response:
    """Return the terms of the vocabulary that have a weight for each text."""

    def ask(served: Served) -> list[Any]:
        weights_NV = served.embed_terms(texts_of(body.inputs), prompt=body.prompt_name)
        return [[{"index": i, "value": float(own[i])} for i in np.flatnonzero(own).tolist()] for own in weights_NV]

    return await _answered(request, body.model, ask, body)


@router.post("/predict")
async def predict(request: Request, body: bodies.Predict) -> Response:
    """Return the score of each label, the largest first: of one text a list, of several a list each."""
    texts = [(body.inputs,)] if isinstance(body.inputs, str) else _pairs(body.inputs)
    several = isinstance(body.inputs, list) and not any(isinstance(one, str) for one in body.inputs)
    chosen = body.parameters or bodies.Parameters()

    def ask(served: Served) -> list[Any]:
        function = chosen.function_to_apply
        found = served.scores(texts, raw=body.raw_scores or function is not None)
        told = [_sorted(_applied(each, function))[: chosen.top_k] for each in found]
        return told if several or body.parameters is not None else told[0]

    return await _answered(request, body.model, ask, body)


def _pairs(inputs: list[str] | list[list[str]]) -> list[tuple[str, ...]]:
    """Return a list of one or two texts as one pair, a list of lists as several."""
    if inputs and isinstance(inputs[0], str):
        return [tuple(inputs)]
    return [tuple(each) for each in inputs]


def _applied(scores: dict[str, float], function: str | None) -> dict[str, float]:
    """Return scores after a function of a pipeline."""
    values = np.array([*scores.values()], np.float64)
    if function == "sigmoid":
        values = chances(values)
    elif function == "softmax":
        values = np.exp(values - values.max()) / np.exp(values - values.max()).sum()
    return dict(zip(scores, values.tolist(), strict=True))


def _sorted(scores: dict[str, float]) -> list[dict[str, Any]]:
    told = [{"score": score, "label": label} for label, score in scores.items()]
    return sorted(told, key=lambda one: -float(str(one["score"])))


@router.post("/rerank")
async def rerank(request: Request, body: bodies.Rerank) -> Response:
    """Return the numbers of the texts, those that fit the query best first, with their scores."""

    def ask(served: Served) -> list[Any]:
        scores = served.rank(body.query, body.texts, raw=body.raw_scores)
        order = sorted(range(len(scores)), key=lambda number: -scores[number])
        told = [{"text": text} for text in body.texts] if body.return_text else [{} for _ in body.texts]
        return [{"index": number, **told[number], "score": scores[number]} for number in order]

    return await _answered(request, body.model, ask, body)


@router.post("/similarity")
async def similarity(request: Request, body: bodies.Similarity) -> Response:
    """Return the cosine of a sentence and each of others."""
    chosen = body.parameters or bodies.Comparing(truncate=None)

    def ask(served: Served) -> list[Any]:
        if not body.inputs.sentences:
            raise Refused(400, "inputs.sentences: there is no sentence; give one at least")
        both = [body.inputs.source_sentence, *body.inputs.sentences]
        source, *others = served.embed(both, prompt=chosen.prompt_name, normalize=True)
        return [float(source @ other) for other in others]

    return await _answered(request, body.model, ask, chosen)


@router.post("/tokenize")
async def tokenize(request: Request, body: bodies.Tokenize) -> Response:
    """Return the tokens of each text, with the characters [start, stop) that they are."""
    texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs

    def ask(served: Served) -> list[Any]:
        served.take(texts)
        prompt = "" if served.embedder is None else prompt_of(served.embedder, body.prompt_name)
        found = [(text, *served.tokenizer.encode_with_offsets(text)) for text in (prompt + each for each in texts)]
        served.bear(TOKEN * sum(len(ids) for _, ids, _ in found))
        return [_tokens(served.tokenizer, *each, framed=body.add_special_tokens) for each in found]

    return await _answered(request, body.model, ask)


def _tokens(
    tokenizer: Tokenizer, text: str, ids: NDArray[np.unsignedinteger], spans: NDArray[np.int64], *, framed: bool
) -> list[dict[str, Any]]:
    """Tell the tokens of a text, with the special ones of the template if it is framed."""
    places = iter(spans.tolist())
    numbers, fixed = ids.astype(np.int64), np.zeros(len(ids), np.bool_)
    if framed:
        numbers, _, fixed = tokenizer.vocabulary.frame(numbers)
    found = []
    for number, special in zip(numbers.tolist(), fixed.tolist(), strict=True):
        start, stop = (None, None) if special else next(places)
        told = tokenizer.pieces[number] if special else text[start:stop]
        found.append({"id": number, "text": told, "special": special, "start": start, "stop": stop})
    return found


@router.post("/decode")
async def decode(request: Request, body: bodies.Decode) -> Response:
    """Return the texts of ids."""
    one = bool(body.ids) and isinstance(body.ids[0], int)
    several: Sequence[Any] = [body.ids] if one else body.ids

    def ask(served: Served) -> list[Any]:
        served.take(several)
        for ids in several:
            check_ids(served.tokenizer, ids)
        return [served.tokenizer.backend.decode(ids, skip_special_tokens=body.skip_special_tokens) for ids in several]

    return await _answered(request, body.model, ask)


@router.post("/")
async def by_kind(request: Request, body: dict[str, Any]) -> Response:
    """Do what the model is for, as clients ask that know a server's address only: /predict, /rerank, /embed, ..."""
    if "texts" in body:
        return await rerank(request, _read(bodies.Rerank, body))
    if isinstance(body.get("inputs"), dict):
        return await similarity(request, _read(bodies.Similarity, body))
    plain = _read(bodies.Request, body)
    done = await service_of(request).call(request, plain.model, lambda served: served.abilities)
    if done.value & {"classify", "score"}:
        return await predict(request, _read(bodies.Predict, body))
    return await embed(request, _read(bodies.Embed, body))


def _read(kind: type[T], body: dict[str, Any]) -> T:
    """Return a body as one of a kind."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


@router.get("/info")
async def info(request: Request, model: str | None = None) -> Response:
    """Describe a model, and the limits of requests."""
    return await _answered(request, model, _described)


def _described(served: Served) -> dict[str, Any]:
    limits, longest = served.limits, served.model.recipe.finetuning.max_length
    return {
        "model_id": served.name,
        "model_sha": None,
        "model_dtype": served.run.precision,
        "model_type": _kind(served),
        "max_concurrent_requests": limits.requests,
        "max_input_length": longest,
        "max_batch_tokens": limits.batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": limits.texts,
        "auto_truncate": False,
        "tokenization_workers": limits.requests,
        "version": version("genus"),
        "sha": None,
        "docker_label": None,
    }


def _kind(served: Served) -> dict[str, Any]:
    """Return what text-embeddings-inference calls a model of this kind; nothing of one that it does not know."""
    if served.objective is not None and served.abilities & {"classify", "score"}:
        labels = served.labels
        numbers = {"id2label": {str(i): one for i, one in enumerate(labels)}}
        kind = "classifier" if len(labels) > 1 else "reranker"
        return {kind: numbers | {"label2id": {one: i for i, one in enumerate(labels)}}}
    if served.embedder is None:
        return {}
    pooling = type(embedder_of(served.embedder).pooling or Mean())
    return {"embedding": {"pooling": POOLINGS.get(pooling, pooling.__name__.lower())}}


@router.get("/health")
@router.get("/ping")
async def health(request: Request) -> Response:
    """Answer 200 when all models are loaded, 503 before, and when the server ends."""
    service = service_of(request)
    if not service.ready or service.ending:
        raise Refused(503, "the server is " + ("shutting down" if service.ending else "loading its models"))
    return Response()


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    return Response(request.app.state.metrics.told(), media_type="text/plain; version=0.0.4")


async def _answered(
    request: Request, model: str | None, ask: Callable[[Served], Any], cutting: Cutting | None = None
) -> Response:
    """Return what a model answers as a response; its header says how many tokens were computed."""
    truncate = cutting is None or bool(cutting.truncate)
    done = await service_of(request).call(request, model, ask, truncate=truncate)
    return JSONResponse(done.value, headers={"x-compute-tokens": str(done.tokens)})
