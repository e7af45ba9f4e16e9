"""Tokenize the texts of a task: token ids, truncated to the maximum length, with the labels as targets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genus.errors import GenusError
from genus.examples import Example, Sequence
from genus.objectives.supervised import SOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence as Several

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Targets
    from genus.examples import Lengths
    from genus.model import Model
    from genus.objectives import Learner
    from genus.objectives.supervised import FineTuned
    from genus.tasks.answer import Outputs
    from genus.tokens.tokenizer import Tokenizer
    from genus.tokens.vocabulary import Vocabulary


@dataclass(frozen=True)
class EncodedTexts:
    """Tokenized single texts or text pairs without special tokens. N examples, M targets: here one per example."""

    tokens_at_once: ClassVar[int] = 8192
    """Token positions of an inference batch: enough to keep a processor busy, few enough for its memory."""
    nothing_left: ClassVar[str] = "no row has a text of which the tokenizer leaves something"
    """What is wrong with a training table that `is_empty`."""

    texts: list[tuple[NDArray[np.int32], ...]]
    labels: NDArray[Any]
    """(M,) int64 class indices or float32 values; (M, V) float32 of V labels, 1 for each that an example has."""
    target: str
    """Name of the target that the labels belong to."""
    vocabulary: Vocabulary
    max_length: int
    """Maximum tokens of an example, special tokens included."""
    cut: NDArray[np.int64]
    """(K,) how many tokens each of those examples, or words, lost that were too long."""
    repeated: bool = field(default=False, kw_only=True)
    """Whether the encoder of an encoder-decoder reads each sequence too."""

    def __len__(self) -> int:
        """Return the number of examples N."""
        return len(self.texts)

    @property
    def most(self) -> int:
        """The largest number of sequences of an example."""
        return 1

    def sequences(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indices of the sequences of the chosen examples, concatenated; here each example is one."""
        return chosen

    def gathered(self, targets: Targets, chosen: NDArray[np.int64]) -> Targets:
        """Return the targets of the chosen examples' sequences as one per example; here they are."""
        return targets

    @property
    def longest(self) -> NDArray[np.int64]:
        """(N,) length of each example's longest sequence."""
        return self.lengths

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(sequences,) lengths in tokens, special tokens included; of nothing at all 1."""
        return np.array([sum(map(len, texts)) + self.vocabulary.framing(len(texts)) or 1 for texts in self.texts])

    @property
    def stream_lengths(self) -> Lengths:
        """Lengths in tokens by stream, as `lengths`, which are those of `tokens`."""
        return {"tokens": self.lengths} | ({SOURCE: self.lengths} if self.repeated else {})

    def example(self, index: int) -> Example:
        """Return one sequence with special tokens; its target is at the token that represents the whole sequence.

        Where it is read twice, the decoder reads it one token later, after the token with which it begins.
        """
        sequence, label = self._framed(index), self.labels[index : index + 1]
        if not self.repeated:
            whole = np.array([self.vocabulary.whole(len(sequence.ids))])
            return Example({"tokens": sequence}, {self.target: (whole, label)})
        ids = np.concatenate([self.vocabulary.decoder_start, sequence.ids[:-1]])
        late, last = replace(sequence, ids=ids), np.array([len(ids) - 1])
        return Example({SOURCE: sequence, "tokens": late}, {self.target: (last, label)})

    def _framed(self, index: int) -> Sequence:
        """Return one sequence with special tokens; without any token, as of an empty text, it is one of padding."""
        ids, segments, fixed = self.vocabulary.frame(*(ids.astype(np.int64) for ids in self.texts[index]))
        if not len(ids):
            return Sequence(np.array([self.vocabulary.pad]), np.zeros(1, np.int64), np.ones(1, np.bool_))
        return Sequence(ids, segments, fixed)

    def piece_numbers(self, index: int, stream: str = "tokens") -> NDArray[np.int64]:
        """Return for each token of a sequence (L,) the number of its piece among those of its texts; -1: a special one.

        Args:
            index: of the sequence.
            stream: in which it is read; where a source is read too, all others are one token later.
        """
        ends = np.cumsum([0, *map(len, self.texts[index])])
        numbers, _, fixed = self.vocabulary.frame(*(np.arange(*pair) for pair in pairwise(ends.tolist())))
        found = np.where(fixed, -1, numbers)
        return np.append(-1, found[:-1]) if self.repeated and stream != SOURCE else found

    @property
    def is_empty(self) -> bool:
        """Whether no example has a token of text."""
        return not any(len(ids) for texts in self.texts for ids in texts)

    @property
    def warnings(self) -> list[str]:
        """Messages on what could not be encoded; none if everything was."""
        found, rows = [], f"{len(self):,} rows"
        empty = self.rows_with(np.array([not all(map(len, texts)) for texts in self.texts], dtype=np.bool_))
        if empty:
            found.append(f"{empty:,} of {rows} have an empty text, or one of which the tokenizer leaves nothing")
        if len(self.cut):
            found.append(
                f"{len(self.cut):,} of {rows} are longer than finetuning.max_length={self.max_length} tokens and lose "
                f"their end, {in_the_median(self.cut)}; take more, or shorter texts"
            )
        return found

    def rows_with(self, marked: NDArray[np.bool_]) -> int:
        """Return the number of examples of which any sequence is marked."""
        return int(marked.sum())

    @property
    def units(self) -> NDArray[np.int64]:
        """(M,) number of the row that each target is of, or of the word among those of all rows."""
        return np.arange(len(self))

    def max_targets(self, examples: int, tokens: int) -> int:
        """Return the maximum number of targets of so many sequences with so many tokens in all."""
        return examples

    def target_slices(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the target indices of the chosen examples, concatenated."""
        return chosen

    def answer(self, outputs: dict[str, Tensor], targets: Targets) -> Tensor:
        """Return what is kept of the head's outputs at a batch's targets (M, V): here its only output."""
        (found,) = outputs.values()
        return found

    def written(self, learner: Learner, model: Model, precision: str) -> list[str] | None:
        """Return what a learner of the model writes for each example; None where it chooses among labels."""
        return None

    def for_metrics(self, objective: FineTuned, outputs: Outputs, judges: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return truth and predictions of the labeled targets, as metrics expect them that judge such."""
        labels = self.labels
        known = ~np.isnan(labels) if labels.dtype.kind == "f" else labels != objective.label_of(None)
        labeled = known.reshape(len(labels), -1).all(1)
        return objective.truth(labels[labeled]), objective.judged(outputs.values, judges)[labeled]

    def answers(self, objective: FineTuned, outputs: Outputs) -> list[tuple[Any, Any]]:
        """Return the prediction for each row, as the user writes labels, and its probabilities."""
        return [objective.explain(outputs_V) for outputs_V in outputs.values]


def encode(
    tokenizer: Tokenizer,
    texts: Several[tuple[str, ...]],
    labels: NDArray[Any],
    target: str,
    max_length: int,
    *,
    repeated: bool = False,
) -> EncodedTexts:
    """Tokenize single texts or text pairs, truncated to `max_length` tokens with special tokens.

    The name of a special token in a text is treated as text. `repeated`: for an encoder-decoder, which reads it twice.

    Raises:
        GenusError: `max_length` leaves no room for text beside the special tokens.
    """
    found, lost = tokenized(tokenizer, texts, max_length)
    return EncodedTexts(found, labels, target, tokenizer.vocabulary, max_length, lost[lost > 0], repeated=repeated)


def tokenized(
    tokenizer: Tokenizer, texts: Several[tuple[str, ...]], max_length: int
) -> tuple[list[tuple[NDArray[np.int32], ...]], NDArray[np.int64]]:
    """Return the ids of single texts or text pairs as `encode` does, and how many tokens (texts,) each lost.

    Raises:
        GenusError: `max_length` leaves no room for text beside the special tokens.
    """
    columns = [tokenizer.encode(list(column), specials=False) for column in zip(*texts, strict=True)]
    room = room_for(len(columns), tokenizer.vocabulary, max_length)
    rows = list(zip(*columns, strict=True))
    over = np.array([sum(map(len, several)) - room for several in rows], dtype=np.int64)
    return [_cut(several, room) for several in rows], np.maximum(over, 0)


def room_for(texts: int, vocabulary: Vocabulary, max_length: int) -> int:
    """Return how many tokens so many texts may have together, in a sequence of at most `max_length`.

    Raises:
        GenusError: they cannot have one each beside the special tokens.
    """
    room = max_length - vocabulary.framing(texts)
    if room < texts:
        raise GenusError(f"max_length: {max_length} leaves no room for text between the special tokens; take more")
    return room


def in_the_median(lost: NDArray[np.int64]) -> str:
    """Return how many tokens those that lost some have lost in the median, in words."""
    return f"{np.median(lost):,.0f} tokens in the median"


def _cut(texts: Several[list[int]], room: int) -> tuple[NDArray[np.int32], ...]:
    kept = longest_first([len(ids) for ids in texts], room)
    return tuple(np.array(ids[:length], np.int32) for ids, length in zip(texts, kept, strict=True))


def longest_first(lengths: Several[int], room: int) -> tuple[int, ...]:
    """Longest-first truncation: return the kept lengths of one or two texts.

    Tokens are dropped one at a time from the end of the longer text, at equal lengths from the second (released code,
    run_classifier.py: _truncate_seq_pair).
    """
    if len(lengths) == 1:
        return (min(lengths[0], room),)
    first, second = lengths
    if first + second > room:
        first = min(first, max(room - second, room - room // 2))
        second = min(second, room - first)
    return first, second
