"""A model as it is served: in evaluation mode on its device, with everything that it can be asked.

Every method may be called by any thread; what threads ask at the same time is computed together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from genus.errors import GenusError, UsageError, heard
from genus.evaluate.fill import Completion, fill_mask
from genus.evaluate.likelihood import Likelihood, log_likelihoods
from genus.evaluate.tags import LENIENT, entities, of_names
from genus.evaluate.token_prediction import Predictor
from genus.generate.reader import writing
from genus.serve.batching import Batching
from genus.serve.ticket import Refused, current
from genus.tasks import task_of
from genus.tasks.embed import as_embedder, embed, prompt_of
from genus.tasks.predict import objective_of, predict
from genus.train.world import device_of_run

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from genus.export.folder import LoadedModel
    from genus.objectives.supervised import FineTuned
    from genus.serve.limits import Limits
    from genus.tasks import Task
    from genus.tasks.answer import Answer
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

Ability = Literal["embed", "classify", "score", "tag", "answer", "choose", "fill", "generate", "write", "likelihood"]
"""What a model can be asked; `score`: a number for a text or a pair; `write`: a text for a source."""
WORD = re.compile(r"\w+|[^\w\s]")
"""A word of a text that is given to a model of words."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Characters [start, end) of a text, with a label."""

    start: int
    end: int
    label: str
    text: str
    score: float | None
    """The probability of the label: of several words the least."""


class Served:
    """A loaded model that answers."""

    def __init__(self, name: str, model: LoadedModel, limits: Limits, run: Run, lock: threading.Lock) -> None:
        """Take a model to its device.

        Args:
            name: by which requests name it.
            model: as it was loaded.
            limits: of its queue and its passes.
            run: device and precision.
            lock: held by each forward pass, so that the passes of several models do not take each other's cores.
        """
        self.name, self.model, self.limits, self.run, self.lock = name, model, limits, run, lock
        self.model.learner.eval().to(device_of_run(run))
        self.inference = Batching(limits, lock, run.precision)

    def warm(self) -> None:
        """Ask for something short and something long, so that what is set up once is there before the first request."""
        if "embed" in self.abilities:
            with heard():
                self.embed(["a", "a " * 200])

    def close(self) -> None:
        """Answer what waits, and end."""
        self.inference.close()

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.model.tokenizer

    @property
    def weights(self) -> dict[int, int]:
        """Bytes of the weights in memory, by address: adapters share those of their base."""
        tensors = (*self.model.learner.parameters(), *self.model.learner.buffers())
        return {one.data_ptr(): one.nbytes for one in tensors}

    @property
    def longest(self) -> int | None:
        """The most tokens of a text."""
        return self.model.recipe.model.max_length

    @cached_property
    def objective(self) -> FineTuned | None:
        """What the model was fine-tuned for; None: it was not."""
        try:
            return objective_of(self.model)
        except GenusError:
            return None

    @cached_property
    def task(self) -> Task | None:
        """The task that its head does; None: it has no such head."""
        return None if self.objective is None or self.objective.embeds else task_of(self.objective)

    @cached_property
    def embedder(self) -> LoadedModel | None:
        """The model with a head of embeddings, or with the means of hidden states for vectors; None: it gives none."""
        try:
            return as_embedder(self.model)
        except GenusError:
            return None

    @cached_property
    def abilities(self) -> frozenset[Ability]:
        """What it can be asked."""
        found = set[Ability]()
        if self.task is not None and self.task.answers is not None:
            found |= {self.task.answers}
        learner = self.model.learner
        if Predictor.find(learner, "masked", "permuted"):
            found |= {"fill", "likelihood"}
        if (head := writing(learner)) is not None:
            source = "source" in self.model.recipe.model.streams
            found |= {"write"} if source else {"generate"}
            if not source and Predictor(*head).head.predicts == "following":
                found |= {"likelihood"}
        if self.embedder is not None:
            found |= {"embed"}
        return frozenset(found)

    def need(self, *abilities: Ability) -> None:
        """Check that the model can be asked one of these.

        Raises:
            Refused: it cannot.
        """
        if not self.abilities & {*abilities}:
            able = ", ".join(sorted(self.abilities)) or "nothing"
            raise Refused(404, f"model {self.name!r} cannot {' or '.join(abilities)}; it can {able}")

    def take(self, texts: Sequence[str]) -> None:
        """Count the texts of a request against its limits, before anything is computed.

        Raises:
            Refused: they are too many, or too long together.
            UsageError: there is none.
        """
        if not texts:
            raise UsageError("there is no text; give one at least")
        if len(texts) > self.limits.texts:
            raise Refused(413, f"{len(texts):,} texts in one request, of which it may have {self.limits.texts:,}")
        current.get().check()

    def embed(
        self, texts: Sequence[str], *, prompt: str | None = None, dimensions: int | None = None, normalize: bool = False
    ) -> NDArray[np.float32]:
        """Return the vectors (N, E) of texts.

        Args:
            texts: single texts.
            prompt: name of the model's prompt that stands before each; None: its usual one, if it has any.
            dimensions: how many of the first numbers are kept, after which vectors are normalized; None: all.
            normalize: whether vectors have the length 1; those of some models have it anyway.

        Raises:
            Refused: the model gives no vectors, or the request is too large.
            UsageError: it has no such prompt, or not so many dimensions.
        """
        self.need("embed")
        assert self.embedder is not None
        self.take(texts)
        found = embed(self.embedder, texts, prompt_of(self.embedder, prompt), engine=self.inference)
        if dimensions is not None and not 1 <= dimensions <= found.shape[1]:
            raise UsageError(f"dimensions: expected 1 to {found.shape[1]}, got {dimensions}")
        found = found[:, :dimensions]
        return unit(found) if normalize or dimensions is not None else found

    def predict(self, texts: Sequence[tuple[str, ...]], *abilities: Ability) -> list[Answer]:
        """Return the answer of the model's head for each text, pair, list of words, or question with its choices.

        Raises:
            Refused: the model cannot do one of `abilities`, or the request is too large.
            UsageError: single texts for a model of pairs, or the reverse.
        """
        self.need(*abilities)
        self.take(["" for _ in texts])
        return predict(self.model, texts, engine=self.inference)

    def rank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the score of each text for a query, larger for those that fit better: a probability or a number.

        Raises:
            Refused: the model gives no score to pairs, or the request is too large.
        """
        self.need("score", "classify")
        answers = self.predict([(query, text) for text in texts], "score", "classify")
        return [_relevance(answer) for answer in answers]

    def tag(self, text: str) -> list[Mark]:
        """Return the entities of a text, as characters of it.

        A model of words gets the text's words, which are runs of letters and digits, and single other characters.

        Raises:
            Refused: the model does not tag, or the request is too large.
        """
        self.need("tag")
        assert self.objective is not None
        if not self.objective.of_words:
            (answer,) = self.predict([(text,)], "tag")
            spans, scores = cast("list[dict[str, Any]]", answer.predicted), cast("list[float]", answer.scores)
            return [
                _mark(text, span["start"], span["end"], span["label"], score)
                for span, score in zip(spans, scores, strict=True)
            ]
        places = [match.span() for match in WORD.finditer(text)]
        if not places:
            return []
        (answer,) = self.predict([tuple(text[slice(*place)] for place in places)], "tag")
        tags, chances = cast("list[str]", answer.predicted), cast("list[float | None]", answer.scores)
        found = entities(tags, LENIENT)
        if not of_names(self.objective.classes):
            found = {(number, number + 1, tag) for number, tag in enumerate(tags)}
        return [
            _mark(text, places[first][0], places[after - 1][1], label, _least(chances[first:after]))
            for first, after, label in sorted(found)
        ]

    def fill(self, text: str, top: int = 5) -> list[list[Completion]]:
        """Return the most probable tokens for each mask of a text.

        Raises:
            Refused: the model fills no masks.
            UsageError: the text has no mask, or is too long.
        """
        self.need("fill")
        return fill_mask(self.model.learner, self.tokenizer, text, top, self.longest, self.inference)

    def likelihood(self, texts: Sequence[str]) -> list[Likelihood]:
        """Return the log-likelihood of each text; of a model that reads both sides, the pseudo-log-likelihood.

        Raises:
            Refused: the model predicts no tokens.
            UsageError: a text is too long.
        """
        self.need("likelihood")
        self.take(texts)
        with self.lock:
            return log_likelihoods(self.model.learner, self.tokenizer, texts, self.longest, self.run.precision)


def unit(vectors_NE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors of the length 1; the vector 0 stays."""
    lengths = np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    return np.asarray(vectors_NE / np.where(lengths == 0, 1, lengths), np.float32)


def _mark(text: str, start: int, end: int, label: str, score: float | None) -> Mark:
    return Mark(start, end, label, text[start:end], score)


def _least(chances: Sequence[float | None]) -> float | None:
    return min((chance for chance in chances if chance is not None), default=None)


def _relevance(answer: Answer) -> float:
    """Return one number of an answer to a pair: what a regression says, else the probability of the last label."""
    if isinstance(answer.predicted, float):
        return answer.predicted
    assert isinstance(answer.scores, dict)
    return [*answer.scores.values()][-1]
