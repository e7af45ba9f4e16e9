"""The bodies of text-embeddings-inference's requests, with its defaults.

Fields that are not here change nothing, as there. `model` is ours, for a server of several models.

Source: huggingface/text-embeddings-inference, router/src/http/types.rs (265deb2), and its OpenAPI description.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from genus.serve.routes.inputs import Id, Inputs  # noqa: TC001  # pydantic reads annotations

Pair = Annotated[list[str], Field(min_length=1, max_length=2)]


class Request(BaseModel):
    """What every request may say."""

    model: str | None = Field(None, description="Name of the model; left out: the first one.")


class Cutting(BaseModel):
    """What is done to texts that are too long."""

    truncate: bool | None = Field(None, description="Whether texts lose their end; else they are refused (413).")
    truncation_direction: Literal["Right", "right"] = "Right"


class Prompted(Request, Cutting):
    """Texts to embed: token by token (`/embed_all`), or as weights of terms (`/embed_sparse`)."""

    inputs: Inputs
    prompt_name: str | None = None


class Embed(Prompted):
    """Texts to embed."""

    normalize: bool = True
    dimensions: Annotated[int, Field(ge=1)] | None = None


class Parameters(BaseModel):
    """What a pipeline is asked to do with scores, as huggingface_hub's client of `text-classification` says it."""

    top_k: Annotated[int, Field(ge=1)] | None = None
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None


class Predict(Request, Cutting):
    """A text, a pair, or a list of lists of one or two texts, to classify.

    With `parameters`, which clients of pipelines send, each text has a list in the answer, as in theirs.
    """

    inputs: str | Pair | list[Pair]
    raw_scores: bool = False
    parameters: Parameters | None = None


class Rerank(Request, Cutting):
    """A query, and texts to sort by how well they fit it."""

    query: str
    texts: list[str]
    raw_scores: bool = False
    return_text: bool = False


class Compared(BaseModel):
    """A sentence, and those that it is compared with."""

    source_sentence: str
    sentences: list[str]


class Comparing(Cutting):
    """How sentences are embedded."""

    prompt_name: str | None = None


class Similarity(Request):
    """Sentences to compare."""

    inputs: Compared
    parameters: Comparing | None = None


class Tokenize(Request):
    """Texts to tokenize."""

    inputs: str | list[str]
    add_special_tokens: bool = True
    prompt_name: str | None = None


class Decode(Request):
    """Ids of tokens to write as texts."""

    ids: list[Id] | list[list[Id]]
    skip_special_tokens: bool = True
