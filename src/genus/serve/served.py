"""A model as it is served: in evaluation mode on its device, with everything that it can be asked.

Every method may be called by any thread; what threads ask at the same time is computed together.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from genus.errors import GenusError, UsageError, heard, say
from genus.evaluate.fill import BLANK, Completion, fill_masks
from genus.evaluate.likelihood import Likelihood, log_likelihoods
from genus.evaluate.token_prediction import Predictor
from genus.generate.reader import writing
from genus.objectives.supervised.multi_label import chances
from genus.serve import marks
from genus.serve.images import Images
from genus.serve.limits import NUMBER
from genus.serve.placing import batching_of, place
from genus.serve.ticket import Refused, Ticket, current
from genus.serve.tokenwise import (
    SPLADE_TOKENS,
    STATES,
    EveryToken,
    TermWeights,
    Text,
    encoded,
    to_embed,
    unit,
    with_states,
    with_terms,
    works,
)
from genus.serve.writing import Writer
from genus.tasks import task_of
from genus.tasks.answer import answers, outputs
from genus.tasks.dataset import LabeledRow
from genus.tasks.embed import as_embedder, embedder_of, prompt_of
from genus.tasks.predict import asked, objective_of, predict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from genus.export.folder import LoadedModel
    from genus.generate import Piece
    from genus.objectives import Learner
    from genus.objectives.supervised import FineTuned
    from genus.serve.batching import Batching
    from genus.serve.limits import Limits
    from genus.serve.passes import Passes
    from genus.serve.writing import Wish
    from genus.tasks import Task
    from genus.tasks.answer import Answer
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

Ability = Literal[
    "embed", "classify", "score", "tag", "answer", "choose", "fill", "generate", "write", "likelihood", "see"
]  # fmt: skip
"""What a model can be asked; `score`: a number for a text or a pair; `write`: a text for a source; `see`: what images
show, by texts."""
LABEL = "LABEL_0"
"""What Hugging Face's classes call an output without a label."""


class Served:
    """A loaded model that answers."""

    def __init__(self, name: str, model: LoadedModel, limits: Limits, run: Run, passes: Passes,
                 beside: Served | None = None, *, is_base: bool = False) -> None:  # fmt: skip
        """Take a model to its device.

        Args:
            name: by which requests name it.
            model: as it was loaded.
            limits: of its queue and its passes.
            run: device and precision.
            passes: the thread that makes its forward passes, and those of other models.
            beside: the base of an adapter, whose forward passes it shares if both can be mixed.
            is_base: whether adapters may share its weights.
        """
        self.name, self.model, self.limits, self.run = name, model, limits, run
        place(model, run, is_base=is_base)
        self.inference: Batching = batching_of(model.learner, limits, run, passes, beside)
        self.writer, self.images = Writer(model, limits, run.precision, passes), Images(self)

    def warm(self) -> None:
        """Ask for something short and something long, so that what is set up once is there before the first request."""
        token = current.set(Ticket())
        try:
            if "embed" in self.abilities:
                with heard(), suppress(Refused):  # by limits that are smaller
                    self.embed(["a", "a " * 200])
        finally:
            current.reset(token)

    def close(self) -> None:
        """Answer what waits, and end."""
        self.writer.close()
        self.inference.leave(self.model.learner)

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
    def states(self) -> Learner:
        """The network with hidden states for an output."""
        return with_states(self.model.learner)

    @cached_property
    def terms(self) -> tuple[Learner, str] | None:
        """The masked language model that weighs terms, and the name of its targets; None: there is none."""
        found = Predictor.find(self.model.learner, "masked")
        if found is None or "source" in self.model.recipe.model.streams:
            return None
        return with_terms(found), found.head.target

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
        found |= {"embed"} if self.embedder is not None else set()
        return frozenset(found | ({"see"} if self.images.there else set()))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that it was fine-tuned for, in the order of its outputs; of a regression the usual name."""
        return (self.objective.classes if self.objective is not None else ()) or (LABEL,)

    def need(self, *abilities: Ability) -> None:
        """Check that the model can be asked one of these.

        Raises:
            Refused: it cannot.
        """
        if not self.abilities & {*abilities}:
            able = ", ".join(sorted(self.abilities)) or "nothing"
            raise Refused(404, f"model {self.name!r} cannot {' or '.join(abilities)}; it can {able}")

    def take(self, texts: Sequence[object]) -> None:
        """Count the texts of a request against its limits, before anything is computed.

        Raises:
            Refused: they are too many, or too long together.
            UsageError: there is none.
        """
        if not texts:
            raise UsageError("there is no text; give one at least")
        if len(texts) > self.limits.texts:
            raise Refused(413, f"{len(texts):,} texts in one request, of which it may have {self.limits.texts:,}")
        ticket = current.get()
        ticket.texts += len(texts)
        ticket.check()

    def bear(self, size: int) -> None:
        """Check that an answer of so many bytes, about, may be given, before it is made.

        Raises:
            Refused: it is too large.
        """
        if size > (most := self.limits.answer_bytes):
            raise Refused(
                413, f"an answer of about {size:,} bytes, of which it may have {most:,}; ask for less at once"
            )

    def _take_alike(self, texts: Sequence[tuple[str, ...]]) -> None:
        """Take texts that all are single, or all are pairs, or lists; lists of words differ in length."""
        self.take(texts)
        words = self.objective is not None and self.objective.of_words
        if not words and len({len(each) for each in texts}) > 1:
            raise UsageError("single texts and pairs, or lists of other lengths, in one request; ask about them apart")

    def embed(
        self,
        texts: Sequence[Text],
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        normalize: bool = False,
    ) -> NDArray[np.float32]:
        """Return the vectors (N, E) of texts.

        Args:
            texts: single texts, or the ids of their tokens.
            prompt: name of the model's prompt that stands before each; None: its usual one, if it has any.
            dimensions: how many of the first numbers are kept, after which vectors are normalized; None: all.
            normalize: whether vectors have the length 1; those of some models have it anyway.

        Raises:
            Refused: the model gives no vectors, or the request is too large.
            UsageError: it has no such prompt or token, or not so many dimensions.
        """
        model = self._embedder(texts)
        rows = to_embed(model, texts, embedder_of(model).name, prompt_of(model, prompt))
        found = outputs(model.learner, model.recipe.model, rows, self.inference, texts=False).values
        if dimensions is not None and not 1 <= dimensions <= found.shape[1]:
            raise UsageError(f"dimensions: expected 1 to {found.shape[1]}, got {dimensions}")
        found = found[:, :dimensions]
        return unit(found) if normalize or dimensions is not None else found

    def embed_tokens(self, texts: Sequence[Text], *, prompt: str | None = None) -> list[NDArray[np.float32]]:
        """Return the last hidden states (T, H) of the tokens of each text, special ones of the template included.

        Raises:
            Refused: the model gives no vectors, or the request is too large.
            UsageError: it has no such prompt or token.
        """
        model = self._embedder(texts)
        rows = to_embed(model, texts, STATES, prompt_of(model, prompt))
        self.bear(int(rows.lengths.sum()) * model.recipe.model.width * NUMBER)
        return self.inference.run(works(EveryToken, self.states, rows))

    def embed_terms(self, texts: Sequence[Text], *, prompt: str | None = None) -> NDArray[np.float32]:
        """Return the weights (N, V) that a masked language model gives the terms of its vocabulary; see `TermWeights`.

        Raises:
            Refused: the model is none, or the request is too large.
            UsageError: it has no such prompt or token.
        """
        model = self._embedder(texts)
        if self.terms is None:
            raise Refused(404, f"model {self.name!r} weighs no terms: it has no masked language model")
        learner, target = self.terms
        rows = to_embed(model, texts, target, prompt_of(model, prompt))
        found = np.stack(self.inference.run(works(TermWeights, learner, rows), SPLADE_TOKENS))
        self.bear(int(np.count_nonzero(found)) * 2 * NUMBER)
        return found[:, : rows.vocabulary.size]

    def _embedder(self, texts: Sequence[Text]) -> LoadedModel:
        """Return the model that gives vectors, for a request that may be answered."""
        self.need("embed")
        assert self.embedder is not None
        self.take(texts)
        return self.embedder

    def predict(self, texts: Sequence[tuple[str, ...]], *abilities: Ability) -> list[Answer]:
        """Return the answer of the model's head for each text, pair, list of words, or question with its choices.

        Raises:
            Refused: the model cannot do one of `abilities`, or the request is too large.
            UsageError: single texts for a model of pairs, or the reverse.
        """
        self.need(*abilities)
        self._take_alike(texts)
        return predict(self.model, texts, engine=self.inference)

    def predict_ids(self, texts: Sequence[Sequence[int]], *abilities: Ability) -> list[Answer]:
        """Return the answer of the model's head for each text, of which the ids of its tokens are given.

        Raises:
            Refused: the model cannot do one of `abilities`, or the request is too large.
            UsageError: it has no such token.
        """
        self.need(*abilities)
        self.take(texts)
        assert self.objective is not None
        rows = encoded(self.model, texts, self.objective.name, repeated=bool(self.objective.adds))
        for warning in rows.warnings:
            say(f"texts: {warning}")
        found = outputs(self.model.learner, self.model.recipe.model, rows, self.inference)
        return answers(self.objective, rows, found)

    def scores(self, texts: Sequence[tuple[str, ...]], *, raw: bool = False) -> list[dict[str, float]]:
        """Return for each text or pair the probability of each label, or its logit; of a regression the number.

        Raises:
            Refused: the model has no labels and no numbers for texts, or the request is too large.
            UsageError: single texts for a model of pairs, or the reverse.
        """
        self.need("classify", "score")
        self._take_alike(texts)
        assert self.task is not None
        rows = [LabeledRow(number, each, None) for number, each in enumerate(texts, 1)]
        objective, _, found = asked(self.model, self.task, rows, engine=self.inference)
        told = [objective.explain(values) for values in found.values]
        if not objective.classes:
            return [{self.labels[0]: float(cast("float", number))} for number, _ in told]
        if raw:
            return [dict(zip(objective.classes, values, strict=True)) for values in found.values.tolist()]
        return [each for _, each in told]

    def rank(self, query: str, texts: Sequence[str], *, raw: bool = False) -> list[float]:
        """Return the score of each text for a query, larger for those that fit better.

        It is the probability of the last label, which of a number is its sigmoid, as of text-embeddings-inference and
        sentence-transformers' `CrossEncoder`; with `raw` the logit, or the number.

        Raises:
            Refused: the model gives no score to pairs, or the request is too large.
        """
        found = self.scores([(query, text) for text in texts], raw=raw)
        last = [[*each.values()][-1] for each in found]
        numbers = self.objective is not None and not self.objective.classes
        return [float(one) for one in chances(np.array(last))] if numbers and not raw else last

    def tags(self, texts: Sequence[str]) -> list[list[marks.Mark]]:
        """Return the entities of each text, as characters of it.

        A model of words gets the text's words, which are runs of letters and digits, and single other characters.

        Raises:
            Refused: the model does not tag, or the request is too large.
        """
        self.need("tag")
        self.take(texts)
        assert self.objective is not None
        return marks.of_texts(texts, self.objective, lambda rows: predict(self.model, rows, engine=self.inference))

    def fills(self, texts: Sequence[str], top: int = 5) -> list[list[list[Completion]]]:
        """Return the most probable tokens for each mask of each text.

        Raises:
            Refused: the model fills no masks, or the answer is too large: each token has the whole text.
            UsageError: a text has no mask, or is too long.
        """
        self.need("fill")
        self.take(texts)
        mask = self.tokenizer.pieces[self.tokenizer.vocabulary.mask]
        sizes = [BLANK.sub(lambda _: mask, text).count(mask) * (len(text) + 2 * NUMBER) for text in texts]
        self.bear(top * sum(sizes))
        return fill_masks(self.model.learner, self.tokenizer, texts, top, self.longest, self.inference)

    def write(self, wish: Wish) -> Iterator[Piece]:
        """Yield the pieces of texts as they are written, after a prompt or for a source; see `Writer.write`.

        Raises:
            Refused: the model writes nothing.
        """
        self.need("generate", "write")
        yield from self.writer.write(wish)

    def likelihood(self, texts: Sequence[str]) -> list[Likelihood]:
        """Return the log-likelihood of each text; of a model that reads both sides, the pseudo-log-likelihood.

        Raises:
            Refused: the model predicts no tokens, the client has left, or the time is over.
            UsageError: a text is too long.
        """
        self.need("likelihood")
        self.take(texts)
        asked = self.model.learner, self.tokenizer, texts, self.longest, self.run.precision
        return log_likelihoods(*asked, engine=self.inference)
