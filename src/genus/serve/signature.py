"""What models are asked over tensors: the inputs and outputs of each ability, and how they are answered.

Legend: N texts, E size of a vector, V labels, K choices.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict, Field

from genus.errors import UsageError, near, shown
from genus.serve.tensors import TEXT, Tensor
from genus.tasks.embed import embedder_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from genus.serve.served import Ability, Served
    from genus.tasks.answer import Answer

Inputs = Mapping[str, "NDArray[Any]"]
"""The inputs of a request by name: texts (N,) or (N, K), or whole numbers (N, L)."""
Values = dict[str, "Sequence[Any] | NDArray[Any]"]
"""Values of outputs by name."""
SINGLE, PAIR = Tensor("text", TEXT), Tensor("text_pair", TEXT)
IDS, MASK = (Tensor(name, "INT64", (-1, -1), {"optional": True}) for name in ("input_ids", "attention_mask"))
"""What stands in the place of single texts: the ids of their tokens, and 1 for each that is no padding."""
QUESTION, CONTEXT, CHOICES = Tensor("question", TEXT), Tensor("context", TEXT), Tensor("choices", TEXT, (-1, -1))


class Options(BaseModel):
    """Parameters of a request."""

    model_config = ConfigDict(strict=True, extra="ignore")

    truncate: bool = True
    """Whether texts that are too long lose their end; else they are refused."""
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Of vectors: how many of the first numbers are kept, after which vectors have the length 1."""
    normalize: bool = False
    """Of vectors: whether they have the length 1."""
    prompt: str | None = None
    """Of vectors: the name of the model's prompt that stands before each text."""
    top: Annotated[int, Field(ge=1, le=1000)] = 5
    """Of completions: tokens for each mask."""
    binary_data_output: bool = False
    """Whether outputs are binary data of which nothing else is said."""


class Asking(ABC):
    """An ability over tensors."""

    ability: ClassVar[Ability]

    def inputs(self, served: Served) -> list[Tensor]:
        """Return the inputs; here single texts."""
        return [SINGLE]

    def tokens(self, served: Served) -> list[Tensor]:
        """Return the inputs that may stand in the place of the texts; here none."""
        return []

    @abstractmethod
    def outputs(self, served: Served) -> list[Tensor]:
        """Return the outputs."""

    @abstractmethod
    def answer(self, served: Served, given: Inputs, options: Options) -> Values:
        """Return the values of all outputs."""


class Rows(Asking):
    """What is asked of texts, of pairs, or of either where it is not known of which a model learned."""

    def inputs(self, served: Served) -> list[Tensor]:
        """Return the texts, and those that each of them is paired with."""
        assert served.objective is not None
        number = served.objective.texts
        either = [] if number == 1 else [Tensor(PAIR.name, TEXT, parameters={"optional": True})]
        return [SINGLE, PAIR] if number == 2 else [SINGLE, *either]

    def tokens(self, served: Served) -> list[Tensor]:
        """Return the ids of single texts and their mask; pairs have none."""
        assert served.objective is not None
        return [] if served.objective.texts == 2 else [IDS, MASK]

    def predicted(self, served: Served, given: Inputs) -> list[Answer]:
        """Return what the model predicts of the texts, or of the ids of their tokens."""
        if IDS.name in given:
            return served.predict_ids(_ids(given), self.ability)
        return served.predict(_rows(given, "text", "text_pair"), self.ability)


class Labels(Rows):
    """The label of each text, and the probability of each label."""

    ability = "classify"

    def outputs(self, served: Served) -> list[Tensor]:
        """Return the label, of a model that tells several a list in JSON, and the probabilities (N, V)."""
        assert served.objective is not None
        names = [*served.objective.classes]
        return [Tensor("label", TEXT), Tensor("scores", "FP32", (-1, len(names)), {"labels": names})]

    def answer(self, served: Served, given: Inputs, options: Options) -> Values:
        """Return labels and probabilities."""
        found = self.predicted(served, given)
        labels = [one.predicted if isinstance(one.predicted, str) else _json(one.predicted) for one in found]
        return {"label": labels, "scores": [[*_named(one.scores).values()] for one in found]}


class Numbers(Rows):
    """A number for each text or pair, of a regression."""

    ability = "score"

    def outputs(self, served: Served) -> list[Tensor]:
        """Return the number."""
        return [Tensor("value", "FP32")]

    def answer(self, served: Served, given: Inputs, options: Options) -> Values:
        """Return the numbers."""
        return {"value": [one.predicted for one in self.predicted(served, given)]}


class Entities(Asking):
    """The entities of each text, or its tags."""

    ability = "tag"

    def outputs(self, served: Served) -> list[Tensor]:
        """Return a list in JSON for each text."""
        return [Tensor("entities", TEXT)]

    def answer(self, served: Served, given: Inputs, options: Options) -> Values:
        """Return entities with the characters [start, end) that they are."""
        return {"entities": [_json([*map(asdict, found)]) for found in served.tags(given["text"].tolist())]}


class Spans(Asking):
    """The answer to a question, cut out of its context; an empty one where there is none."""

    ability = "answer"

    def inputs(self, served: Served) -> list[Tensor]:
        """Return question and context."""
        return [QUESTION, CONTEXT]

    def outputs(self, served: Served) -> list[Tensor]:
        """Return the answer, its characters [start, end), the sum of its logits and its probability."""
        numbers = {"start": "INT64", "end": "INT64", "score": "FP32", "probability": "FP32"}
        return [Tensor("answer", TEXT), *(Tensor(name, datatype) for name, datatype in numbers.items())]

    def answer(self, served: Served, given: Inputs, options: Options) -> Values:
        """Return answers and where they are."""
        found = served.predict(_rows(given, "question", "context"), self.ability)
        names = ("start", "end", "score", "probability")
        places: Values = {name: [_named(one.scores)[name] for one in found] for name in names}
        return {"answer": [one.predicted for one in found], **places}


class Choosing(Asking):
    """The number of the choice that fits a question best."""

    ability = "choose"

    def inputs(self, served: Served) -> list[Tensor]:
        """Return questions (N,) and their choices (N, K)."""
        return [QUESTION, CHOICES]

    def outputs(self, served: Served) -> list[Tensor]:
        """Return the number, from 0, and the probability of each choice."""
        return [Tensor("choice", "INT64"), Tensor("scores", "FP32", (-1, -1))]

    def answer(self, served: Served, given: Inputs, options: Options) -> Values:
        """Return choices and probabilities."""
        questions, choices = given["question"].tolist(), given["choices"].tolist()
        if given["choices"].shape[1] < 2:
            raise UsageError("input 'choices': expected two or more for each question")
        rows = [(question, *own) for question, own in zip(questions, choices, strict=True)]
        found = served.predict(rows, self.ability)
        scores = [[*_named(one.scores).values()] for one in found]
        return {"choice": [int(str(one.predicted)) for one in found], "scores": scores}


class Vectors(Asking):
    """The vector of each text."""

    ability = "embed"

    def tokens(self, served: Served) -> list[Tensor]:
        """Return the ids of the texts' tokens, and their mask."""
        return [IDS, MASK]

    def outputs(self, served: Served) -> list[Tensor]:
        """Return the vectors (N, E)."""
        assert served.embedder is not None
        projection = embedder_of(served.embedder).projection
        size = served.embedder.recipe.model.width if projection is None else projection.size
        return [Tensor("embedding", "FP32", (-1, size))]

    def answer(self, served: Served, given: Inputs, options: Options) -> Values:
        """Return the vectors."""
        chosen = {"prompt": options.prompt, "dimensions": options.dimensions, "normalize": options.normalize}
        texts = _ids(given) if IDS.name in given else given["text"].tolist()
        return {"embedding": served.embed(texts, **cast("dict[str, Any]", chosen))}


class Completions(Asking):
    """The most probable tokens for each mask of a text."""

    ability = "fill"

    def outputs(self, served: Served) -> list[Tensor]:
        """Return a list in JSON for each text, of which each mask has a list."""
        return [Tensor("completions", TEXT)]

    def answer(self, served: Served, given: Inputs, options: Options) -> Values:
        """Return the tokens with their probabilities."""
        found = served.fills(given["text"].tolist(), options.top)
        return {"completions": [_json([[asdict(one) for one in mask] for mask in masks]) for masks in found]}


class Likelihoods(Asking):
    """The log-likelihood of each text in nats, and the tokens by which it can be divided."""

    ability = "likelihood"

    def outputs(self, served: Served) -> list[Tensor]:
        """Return both."""
        return [Tensor("likelihood", "FP64"), Tensor("tokens", "INT64")]

    def answer(self, served: Served, given: Inputs, options: Options) -> Values:
        """Return both."""
        found = served.likelihood(given["text"].tolist())
        return {"likelihood": [one.nats for one in found], "tokens": [one.tokens for one in found]}


ASKINGS = (
    Labels(), Numbers(), Entities(), Spans(), Choosing(), Vectors(), Completions(), Likelihoods()
)  # fmt: skip
"""What is asked where a request names no output is the first of these: what a head was fine-tuned for, else vectors."""


def askings(served: Served) -> list[Asking]:
    """Return what a model can be asked over tensors, its usual ability first, and others that need no other inputs.

    Raises:
        Refused: it can be asked nothing.
    """
    able = [one for one in ASKINGS if one.ability in served.abilities]
    if not able:
        served.need(*(one.ability for one in ASKINGS))
    inputs = able[0].inputs(served)
    return [one for one in able if one is able[0] or _names(one.inputs(served)) <= _names(inputs)]


def interface(served: Served) -> dict[str, Any]:
    """Return the inputs and outputs of a model for its metadata."""
    outputs = [one for asking in askings(served) for one in asking.outputs(served)]
    return {"inputs": [one.told() for one in _inputs(served)], "outputs": [one.told() for one in outputs]}


def chosen(served: Served, names: Sequence[str] | None) -> list[tuple[Asking, list[Tensor]]]:
    """Return what is to be asked for outputs, each with its outputs; None: the model's usual ones.

    Raises:
        UsageError: it has no such output, or one is asked for twice.
    """
    able = [(asking, asking.outputs(served)) for asking in askings(served)]
    if names is None:
        return able[:1]
    _check_names(names, [one.name for _, outputs in able for one in outputs], f"model {served.name!r}: output")
    return [(asking, outputs) for asking, outputs in able if _names(outputs) & {*names}]


def inputs_of(served: Served, asked: Iterable[Asking], given: Sequence[str]) -> dict[str, Tensor]:
    """Return a model's inputs by name, of which those are given that are needed.

    Raises:
        UsageError: one is missing, given twice, or none of the model's; texts are given, and the ids of their tokens.
    """
    where = f"model {served.name!r}: input"
    known = {one.name: one for one in _inputs(served)}
    _check_names(given, [*known], where)
    if IDS.name in given and SINGLE.name in given:
        raise UsageError(f"{where} {IDS.name!r}: stands in the place of {SINGLE.name!r}; give one of them")
    if MASK.name in given and IDS.name not in given:
        raise UsageError(f"{where} {IDS.name!r} is missing, of which {MASK.name!r} tells the padding")
    for asking in asked:
        there = {*given} | ({SINGLE.name} if IDS.name in given and asking.tokens(served) else set())
        for one in asking.inputs(served):
            if one.name not in there and not one.parameters.get("optional"):
                raise UsageError(f"{where} {one.name!r} is missing")
    return known


def _inputs(served: Served) -> list[Tensor]:
    """Return the inputs of a model: those of its usual ability, and what may stand in their place for any."""
    able = askings(served)
    instead = next((found for each in able if (found := each.tokens(served))), [])
    return [*able[0].inputs(served), *instead]


def _check_names(given: Sequence[str], known: list[str], what: str) -> None:
    for number, name in enumerate(given):
        if name not in known:
            raise UsageError(f"{what} {shown(name)}: there is none of this name.{near(name, known)}")
        if name in given[:number]:
            raise UsageError(f"{what} {name!r} is named twice")


def _names(tensors: Iterable[Tensor]) -> set[str]:
    return {one.name for one in tensors}


def _ids(given: Inputs) -> list[list[int]]:
    """Return the ids of each text, but for those that the mask leaves out as padding."""
    ids, mask = given[IDS.name], given.get(MASK.name)
    if mask is None:
        return cast("list[list[int]]", ids.tolist())
    if mask.shape != ids.shape:
        raise UsageError(
            f"input {MASK.name!r}: expected the shape of {IDS.name!r}, {[*ids.shape]}, got {[*mask.shape]}"
        )
    return [row[kept].tolist() for row, kept in zip(ids, mask != 0, strict=True)]


def _rows(given: Inputs, *names: str) -> list[tuple[str, ...]]:
    """Return the rows of those inputs that are given."""
    return [*zip(*(given[name].tolist() for name in names if name in given), strict=True)]


def _named(scores: object) -> dict[str, float]:
    assert isinstance(scores, dict)
    return scores


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
