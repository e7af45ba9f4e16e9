"""Token classification: one tag per word, as in named entity recognition and part-of-speech tagging."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from genus.errors import UsageError
from genus.evaluate.metrics import Metric  # a choice is read by its annotation
from genus.evaluate.tags import (
    LENIENT,
    SCHEMES,
    EntityF1,
    EntityPrecision,
    EntityRecall,
    WordAccuracy,
    of_names,
    scheme_of,
)
from genus.model.layer_mix import LayerMix  # a choice is read by its annotation
from genus.objectives.supervised.recurrent import RecurrentTokenClassification
from genus.objectives.supervised.token import OUTSIDE, TokenClassification
from genus.part import Count, Natural
from genus.tasks import Task
from genus.tasks.cell import several_in, written
from genus.tasks.checks import contradictory, overlap, rare, repeated, spellings
from genus.tasks.classification import classes
from genus.tasks.dataset import Label, LabeledRow, targets
from genus.tasks.words import encode_words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.objectives.supervised import FineTuned
    from genus.tasks.words import EncodedWords
    from genus.tokens.tokenizer import Tokenizer


IGNORED = "-100"
"""The label that PyTorch's loss ignores, which tables of tokens, not of words, have."""


class Tagging(Task):
    """Token classification: each word of a column of word lists has one of the tags that occur in training."""

    learns: ClassVar = TokenClassification
    answers: ClassVar = "tag"
    judged: ClassVar[tuple[str, ...]] = ("tags",)
    labels_stand_in_texts: ClassVar = True
    checks: ClassVar = (overlap, repeated, contradictory, rare, spellings)

    texts: tuple[str, ...] = ("tokens",)
    label: str = "ner_tags"
    metrics: tuple[Metric, ...] = ()
    """Empty: F1, precision and recall of whole entities if the tags mark them, and always the accuracy per word."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: other than one column of words, or a metric that does not compare tags of words.
        """
        if len(self.texts) != 1:
            raise UsageError(f"texts: expected the one column of the words, got {len(self.texts)}")
        if self.metrics:
            super().__post_init__()

    def read(self, row: dict[str, Any]) -> tuple[tuple[str, ...], Label | None]:
        """Return the words and their tags, None if the row has no tags.

        Raises:
            ValueError: no list of words or of tags, no words, or not one tag per word.
        """
        (column,) = self.texts
        words = several_in(row, column, "words")
        if not words:
            raise ValueError(f"column {column!r} holds no words")
        texts = tuple(written(word, column) for word in words)
        given = several_in(row, self.label, "tags")
        if given is None:
            return texts, None
        tags = [written(tag, self.label).strip() for tag in given]
        if len(tags) != len(words):
            raise ValueError(f"{len(words)} words in column {column!r}, but {len(tags)} tags in column {self.label!r}")
        if "" in tags:
            raise ValueError(f"word {tags.index('') + 1} has no tag in column {self.label!r}")
        return texts, tuple(tags)

    def objective(self, labels: Sequence[str]) -> TokenClassification:
        """Return the tagging objective, with the tags sorted; words without a token get `O`, or the commonest tag.

        Raises:
            GenusError: there is only one tag.
        """
        found = classes(labels, self.label)
        usual = OUTSIDE if OUTSIDE in found else max(found, key=Counter(labels).__getitem__)
        return TokenClassification(labels=found, usual=usual)

    def resolved_for(self, objective: FineTuned) -> Task:
        """Return the task with its metrics: of whole entities, if the tags mark them, and of words.

        Raises:
            UsageError: the objective is another task's, or a metric says nothing of its tags.
        """
        usual = (EntityF1(), EntityPrecision(), EntityRecall()) if of_names(objective.classes) else ()
        task = self if self.metrics else replace(self, metrics=(*usual, WordAccuracy()))
        return super(Tagging, task).resolved_for(objective)

    def remark(self, rows: Sequence[LabeledRow]) -> str:
        """Return a line on the scheme of the tags."""
        sentences, where = [row.labels for row in rows], f"column {self.label!r}: the tags"
        tags = {tag for sentence in sentences for tag in sentence}
        if IGNORED in tags:
            return f"{where} include {IGNORED}, taken as a tag like any other; leave such words out if it means no tag"
        if not of_names(tags):
            return f"{where} mark no entities, as B-PER and I-PER do: words are counted"
        scheme = scheme_of(sentences)
        if scheme == LENIENT:
            return f"{where} are IOB1, or none of {', '.join(SCHEMES.values())}: entities also begin with I-"
        return f"{where} are {scheme}"

    def encode(
        self,
        tokenizer: Tokenizer,
        rows: Sequence[LabeledRow],
        objective: FineTuned,
        max_length: int,
        path: Path | None = None,
    ) -> EncodedWords:
        """Tokenize the sentences of a table, split into parts of at most `max_length` tokens.

        Raises:
            GenusError: a tag that does not occur in training, or `max_length` leaves no room for text.
        """
        pairs = [(row, tag) for row in rows for tag in row.labels or [None] * len(row.texts)]
        labels = targets([replace(row, label=tag) for row, tag in pairs], objective, path)
        return encode_words(tokenizer, rows, labels, objective.name, max_length)


class RecurrentTagging(Tagging):
    """Token classification by an LSTM in both directions over the words, as over features that are not trained."""

    learns: ClassVar = RecurrentTokenClassification

    layers: Natural = 2
    """Layers of the LSTM (Devlin et al. 2018, section 5.3); 0: none, a linear layer alone."""
    size: Count = 768
    """Dimension of each direction (Devlin et al. 2018, section 5.3)."""
    crf: bool = False
    """Whether the tags of a sentence are decided on together, by a conditional random field."""
    mix: LayerMix | None = None
    """How several layers of the network are read; None: the last one is."""

    def objective(self, labels: Sequence[str]) -> RecurrentTokenClassification:
        """Return the tagging objective with the LSTM."""
        simple = super().objective(labels)
        return RecurrentTokenClassification(
            labels=simple.labels, usual=simple.usual, layers=self.layers, size=self.size, crf=self.crf, mix=self.mix
        )
