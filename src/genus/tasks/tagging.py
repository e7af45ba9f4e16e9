"""Token classification: one tag per word, as in named entity recognition and part-of-speech tagging."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from genus.errors import UsageError
from genus.evaluate.metrics import Metric  # a choice is read by its annotation
from genus.evaluate.tags import EntityF1, EntityPrecision, EntityRecall, WordAccuracy, of_names
from genus.objectives.supervised.token import OUTSIDE, TokenClassification
from genus.tasks import Task
from genus.tasks.classification import classes
from genus.tasks.dataset import Label, LabeledRow, normalize_label, targets
from genus.tasks.words import encode_words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from genus.objectives.supervised import FineTuned
    from genus.tasks.words import EncodedWords
    from genus.tokens.tokenizer import Tokenizer


class Tagging(Task):
    """Token classification: each word of a column of word lists has one of the tags that occur in training."""

    learns: ClassVar = TokenClassification
    level: ClassVar[str] = "word"

    texts: tuple[str, ...] = ("tokens",)
    label: str = "ner_tags"
    metrics: tuple[Metric, ...] = ()
    """Empty: F1, precision and recall of whole entities if the tags are IOB2, and always the accuracy per word."""

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
        words = _several(row, column, "words")
        if not words:
            raise ValueError(f"column {column!r} holds no words")
        texts = tuple("" if word is None else str(word) for word in words)
        if row.get(self.label) is None:
            return texts, None
        tags = [normalize_label(tag) for tag in _several(row, self.label, "tags")]
        if len(tags) != len(words):
            raise ValueError(f"{len(words)} words in column {column!r}, but {len(tags)} tags in column {self.label!r}")
        if None in tags:
            raise ValueError(f"word {tags.index(None) + 1} has no tag in column {self.label!r}")
        return texts, tuple(tag for tag in tags if tag)

    def objective(self, labels: Sequence[str]) -> TokenClassification:
        """Return the tagging objective, with the tags sorted; words without a token get `O`, or the commonest tag.

        Raises:
            GenusError: there is only one tag.
        """
        found = classes(labels, self.label)
        usual = OUTSIDE if OUTSIDE in found else max(found, key=Counter(labels).__getitem__)
        return TokenClassification(labels=found, usual=usual)

    def resolved_for(self, objective: FineTuned) -> Task:
        """Return the task with its metrics: of whole entities, if the tags are IOB2, and of words."""
        names = of_names(cast("TokenClassification", objective).labels)
        usual = (EntityF1(), EntityPrecision(), EntityRecall()) if names else ()
        return self if self.metrics else replace(self, metrics=(*usual, WordAccuracy()))

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


def _several(row: dict[str, Any], column: str, what: str) -> list[Any]:
    """Return the list in a column.

    Raises:
        ValueError: the column holds something else.
    """
    if not isinstance(row[column], list):
        raise ValueError(
            f"column {column!r} holds no list of {what}, which .jsonl and .parquet can; got {row[column]!r:.40}"
        )
    return list(row[column])
