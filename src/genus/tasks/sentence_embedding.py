"""Sentence embedding: a vector for each text, learned from texts that belong together or from scores of pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np

from genus.batch import IGNORE
from genus.errors import GenusError, UsageError
from genus.evaluate.metrics import Metric, Pearson, Spearman
from genus.evaluate.ranking import MRR, NDCG, Recall
from genus.objectives.pooling import Pooling  # a choice is read by its annotation
from genus.objectives.similarity import SimilarityLoss
from genus.objectives.similarity.info_nce import InfoNCE
from genus.objectives.similarity.scores import CoSENT
from genus.objectives.supervised.embedding import Prompt, SentenceEmbedder
from genus.tasks import Task
from genus.tasks.cell import label_in, text_in
from genus.tasks.checks import contradictory, overlap, repeated
from genus.tasks.dataset import targets
from genus.tasks.embedded_rows import EmbeddedRows
from genus.tasks.encode import tokenized

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.objectives.supervised import FineTuned
    from genus.tasks.dataset import Label, LabeledRow
    from genus.tokens.tokenizer import Tokenizer

QUERY, DOCUMENTS = "query", ("document", "passage", "corpus")
"""Names of prompts in sentence-transformers: `encode_query` takes the first, `encode_document` one of the others."""


class SentenceEmbedding(Task):
    """Sentence embedding, from pairs with a score, or from an anchor with a text that belongs to it.

    Without a label, the first column is the anchor, the second its positive, further ones are negatives, which a row
    may lack. With a label, that is the score of two texts, larger for those whose vectors are to be nearer.
    """

    learns: ClassVar = SentenceEmbedder
    judged: ClassVar[tuple[str, ...]] = ("numbers", "rankings")
    checks: ClassVar = (overlap, repeated, contradictory)

    texts: tuple[str, ...] = ("anchor", "positive")
    label: str = ""
    """The column of the scores; empty: there are none."""
    metrics: tuple[Metric, ...] = ()
    """None: correlations with the scores; without scores, those of the ranking of a table's own texts."""
    loss: SimilarityLoss | None = None
    """None: CoSENT with scores, InfoNCE without."""
    pooling: Pooling | None = None
    """None: that of the model, else the mean."""
    normalize: bool | None = None
    """Whether vectors have length 1; None: as the model has it, else not."""
    prefix: str | None = None
    """What stands before the first text, and before all where `document_prefix` says no other; None: the model's."""
    document_prefix: str | None = None
    """What stands before the texts of further columns."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: too few columns or too many; a loss that learns from other tables; metrics of others.
        """
        if len(self.texts) < 2 or (self.label and len(self.texts) > 2):
            raise UsageError(f"texts: expected two columns with scores, or two and more without, got {len(self.texts)}")
        if self.symmetric:
            raise UsageError("symmetric: vectors of a pair do not depend on its order; take loss.symmetric for InfoNCE")
        if self.loss is not None and self.loss.scored != bool(self.label):
            lack = "name their column with --label" if self.loss.scored else "leave --label out"
            raise UsageError(f"loss: {type(self.loss).__name__} learns from pairs with"
                             f"{'' if self.loss.scored else 'out'} scores; {lack}")  # fmt: skip
        if self.loss is not None and self.loss.negatives and len(self.texts) < 3:
            raise UsageError(f"loss: {type(self.loss).__name__} needs a column of negatives; name it as the third text")
        self._check_metrics(())

    def _check_metrics(self, classes: Sequence[str]) -> None:
        """Refuse metrics of other labels than the table has."""
        wanted = "numbers" if self.label else "rankings"
        for metric in self.metrics:
            if metric.judges != wanted:
                there = "a table with scores" if self.label else "a table without scores"
                raise UsageError(f"metrics: {metric.name} judges {metric.judges}, not {wanted}, of {there}")

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The column of the scores, or of the positive."""
        return (self.label or self.texts[1],)

    @property
    def learned(self) -> SimilarityLoss:
        """The loss."""
        return self.loss or (CoSENT() if self.label else InfoNCE())

    @property
    def least_rows(self) -> int:
        """Rows of an update from which the loss can learn."""
        return self.learned.least_rows(len(self.texts))

    @property
    def purpose(self) -> str:
        """What a model is fine-tuned to do, in the words of its card."""
        columns = ", ".join(f"`{column}`" for column in self.texts)
        return f"embed texts, by {columns}" + (f" with the scores `{self.label}`" if self.label else "")

    def read(self, row: dict[str, Any]) -> tuple[tuple[str, ...], Label | None]:
        """Return the texts of a row, and its score, or else its positive.

        Raises:
            ValueError: a column holds something else, or the score is no number.
        """
        texts = tuple(text_in(row, column) for column in self.texts)
        if not self.label:
            return texts, texts[1] or None
        label = label_in(row, self.label)
        SentenceEmbedder().label_of(label)
        return texts, label

    def objective(self, labels: Sequence[str]) -> SentenceEmbedder:
        """Return the objective with the task's choices.

        Raises:
            GenusError: the loss cannot learn from the scores.
        """
        prompts, default = self._prompts()
        made = SentenceEmbedder(
            pooling=self.pooling, normalize=self.normalize, loss=self.learned, prompts=prompts, default_prompt=default
        )
        if self.label:
            scores = [made.label_of(label) for label in labels]
            if len({*scores}) == 1:
                raise GenusError(
                    f"column {self.label!r}: all rows have the score {labels[0]}; nothing is to be learned"
                )
            try:
                self.learned.check(scores)
            except ValueError as error:
                raise GenusError(f"column {self.label!r}: {error}") from None
        return made

    def _prompts(self) -> tuple[tuple[Prompt, ...] | None, str | None]:
        """Return the prompts that the model is to remember, and the usual one, where all texts have the same."""
        if self.prefix is None and self.document_prefix is None:
            return None, None
        query, document = (
            self.prefix or "",
            (self.prefix or "") if self.document_prefix is None else self.document_prefix,
        )
        named = (Prompt(name=QUERY, text=query), Prompt(name=DOCUMENTS[0], text=document))
        return named, QUERY if query == document and query else None

    def resolved_for(self, objective: FineTuned) -> Self:
        """Return the task with the metrics that fit its table."""
        usual = (Spearman(), Pearson()) if self.label else (NDCG(), MRR(), Recall())
        task = replace(self, metrics=self.metrics or usual)
        super(SentenceEmbedding, task).resolved_for(objective)
        return task

    def prefixes(self, objective: FineTuned) -> tuple[str, ...]:
        """Return what stands before each column's texts: as the task says it, or else the model's prompts."""
        embedder = cast("SentenceEmbedder", objective)
        named = embedder.named_prompts
        usual = named.get(embedder.default_prompt or QUERY, "")
        query = usual if self.prefix is None else self.prefix
        document = next((named[name] for name in DOCUMENTS if name in named), usual) if self.prefix is None else query
        document = query if self.label else document
        further = document if self.document_prefix is None else self.document_prefix
        return (query, *[further] * (len(self.texts) - 1))

    def encode(
        self,
        tokenizer: Tokenizer,
        rows: Sequence[LabeledRow],
        objective: FineTuned,
        max_length: int,
        path: Path | None = None,
    ) -> EmbeddedRows:
        """Tokenize each text of each row, with its prompt, truncated to `max_length` tokens.

        Raises:
            GenusError: a score is no number, or `max_length` leaves no room for text.
        """
        before = self.prefixes(objective)
        kept = [[place < 2 or bool(text) for place, text in enumerate(row.texts)] for row in rows]
        texts = [
            (prefix + text,)
            for row, there in zip(rows, kept, strict=True)
            for prefix, text, here in zip(before, row.texts, there, strict=True)
            if here
        ]
        found, lost = tokenized(tokenizer, texts, max_length)
        offsets = np.cumsum([0, *map(sum, kept)])
        labels = targets(rows, objective, path) if self.label else _numbers(found, offsets, len(self.texts))
        most = np.maximum.reduceat(lost, offsets[:-1])
        return EmbeddedRows(found, labels, objective.name, tokenizer.vocabulary, max_length, most[most > 0], offsets)


def _numbers(
    texts: Sequence[tuple[NDArray[np.int32], ...]], offsets: NDArray[np.int64], most: int
) -> NDArray[np.int64]:
    """Return (N, K) a number for each text of each row, the same for the same tokens; `IGNORE` where there is none."""
    known: dict[bytes, int] = {}
    each = np.array([known.setdefault(ids.tobytes(), len(known)) for (ids,) in texts], np.int64)
    found = np.full((len(offsets) - 1, most), IGNORE, np.int64)
    for row, (start, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        found[row, : end - start] = each[start:end]
    return found
