"""Texts of a task as ids, cut to length, with the numbers of their labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.errors import GenusError
from genus.examples import Example, Sequence

if TYPE_CHECKING:
    from collections.abc import Sequence as Several

    from numpy.typing import NDArray

    from genus.objectives.supervised import FineTuned
    from genus.tokens.tokenizer import Tokenizer
    from genus.tokens.vocabulary import Vocabulary


@dataclass(frozen=True)
class EncodedTexts:
    """Single or paired texts, ready to be framed one by one. N examples, M targets, of which here each has one."""

    texts: list[tuple[NDArray[np.int32], ...]]
    labels: NDArray[Any]
    """(M,) int64 classes or float32 numbers."""
    target: str
    """The name of the target that the labels serve."""
    vocabulary: Vocabulary

    def __len__(self) -> int:
        """Return N."""
        return len(self.texts)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) lengths in tokens, framed."""
        return np.array([sum(map(len, texts)) + self.vocabulary.framing(len(texts)) for texts in self.texts])

    def example(self, index: int) -> Example:
        """Return one example, framed; its target stands at the token that stands for the whole of it."""
        sequence = Sequence(*self.vocabulary.frame(*(ids.astype(np.int64) for ids in self.texts[index])))
        whole = np.array([self.vocabulary.whole(len(sequence.ids))])
        return Example({"tokens": sequence}, {self.target: (whole, self.labels[index : index + 1])})

    @property
    def warning(self) -> str:
        """What is worth saying of what could not be encoded; nothing where all could."""
        return ""

    def target_slices(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the targets of some examples, one example after the other."""
        return chosen

    def for_metrics(self, objective: FineTuned, outputs_MC: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return truth and predictions, as metrics take them, of what has a label."""
        labels = self.labels
        labeled = ~np.isnan(labels) if labels.dtype.kind == "f" else labels != objective.label_of(None)
        return labels[labeled], objective.decide(outputs_MC)[labeled]

    def answers(self, objective: FineTuned, outputs_MC: NDArray[np.float32]) -> list[tuple[Any, Any]]:
        """Return what is predicted for each row, in the user's words, and how probable it is."""
        return [objective.explain(outputs_C) for outputs_C in outputs_MC]


def encode(
    tokenizer: Tokenizer, texts: Several[tuple[str, ...]], labels: NDArray[Any], target: str, max_length: int
) -> EncodedTexts:
    """Encode single or paired texts, each cut so that it has at most `max_length` tokens when framed.

    The name of a special token in a text is text like any other.

    Raises:
        GenusError: the frame alone is as long.
    """
    vocabulary = tokenizer.vocabulary
    columns = [tokenizer.encode(list(column), specials=False) for column in zip(*texts, strict=True)]
    room = max_length - vocabulary.framing(len(columns))
    if room < len(columns):
        raise GenusError(f"max_length: {max_length} leaves no room for text between the special tokens; take more")
    return EncodedTexts([_cut(several, room) for several in zip(*columns, strict=True)], labels, target, vocabulary)


def _cut(texts: Several[list[int]], room: int) -> tuple[NDArray[np.int32], ...]:
    kept = longest_first([len(ids) for ids in texts], room)
    return tuple(np.array(ids[:length], np.int32) for ids, length in zip(texts, kept, strict=True))


def longest_first(lengths: Several[int], room: int) -> tuple[int, ...]:
    """Return how much of one text or two is kept, when tokens are dropped from the end of the longer one at a time.

    Of two texts of equal length the second one loses a token first (released code, run_classifier.py:
    _truncate_seq_pair).
    """
    if len(lengths) == 1:
        return (min(lengths[0], room),)
    first, second = lengths
    if first + second > room:
        first = min(first, max(room - second, room - room // 2))
        second = min(second, room - first)
    return first, second
