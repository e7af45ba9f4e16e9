"""Tokenize pre-split sentences for token classification: the target is at the first token of each word."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from genus.examples import Example, Sequence
from genus.tasks.encode import EncodedTexts, in_the_median, room_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from collections.abc import Sequence as Several

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Targets
    from genus.objectives.supervised import FineTuned
    from genus.objectives.supervised.token import TokenClassification
    from genus.tasks.answer import Outputs
    from genus.tasks.dataset import LabeledRow
    from genus.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class EncodedWords(EncodedTexts):
    """Tokenized parts of sentences without special tokens. M words that have a token, W words in all."""

    firsts: list[NDArray[np.int64]]
    """For each part, the positions of its words' first tokens."""
    seen: NDArray[np.int64]
    """(M,) index of each target's word among the words of all sentences."""
    rows: Several[LabeledRow]
    """The sentences, whole."""

    def example(self, index: int) -> Example:
        """Return one part with special tokens; its targets are at the first tokens of the words."""
        ids, segments, fixed = self.vocabulary.frame(*(ids.astype(np.int64) for ids in self.texts[index]))
        pieces = np.flatnonzero(~fixed)
        numbers = self.target_slices(np.array([index]))
        sequence = Sequence(ids, segments, fixed)
        return Example({"tokens": sequence}, {self.target: (pieces[self.firsts[index]], self.labels[numbers])})

    @property
    def warnings(self) -> list[str]:
        """Messages on how many words have no token, or too many; none if all fit."""
        words = sum(len(row.texts) for row in self.rows)
        lost, found = words - len(self.seen), []
        if lost:
            found.append(f"the tokenizer leaves nothing of {lost:,} of {words:,} words, which get the usual tag")
        if len(self.cut):
            found.append(
                f"{len(self.cut):,} of {words:,} words are longer than finetuning.max_length={self.max_length} tokens "
                f"and lose their end, {in_the_median(self.cut)}; take more"
            )
        return found

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        return np.cumsum([0, *map(len, self.firsts)])

    @property
    def units(self) -> NDArray[np.int64]:
        """(M,) number of each target's word among the words of all sentences."""
        return self.seen

    def max_targets(self, examples: int, tokens: int) -> int:
        """Return the maximum number of targets of so many examples with so many tokens: a word each."""
        return tokens

    def target_slices(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the target indices of the chosen parts, concatenated."""
        return np.concatenate([chosen[:0], *(np.arange(*self._offsets[i : i + 2]) for i in chosen)])

    def answer(self, outputs: dict[str, Tensor], targets: Targets) -> Tensor:
        """Return the head's outputs at the words of a batch side by side (M, V): one number of each, or several."""
        return torch.cat([found.view(len(found), -1).float() for found in outputs.values()], 1)

    def for_metrics(self, objective: FineTuned, outputs: Outputs, judges: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return true and predicted tags of each labeled sentence; words without a token get the usual tag."""
        predicted = [tags for tags, _ in self.answers(objective, outputs)]
        both = [(row.labels, tags) for row, tags in zip(self.rows, predicted, strict=True) if row.label is not None]
        truth, found = (np.fromiter((pair[side] for pair in both), object, len(both)) for side in (0, 1))
        return truth, found

    def answers(self, objective: FineTuned, outputs: Outputs) -> list[tuple[Any, Any]]:
        """Return the tags of each sentence's words and their probabilities, None for words without a token."""
        tag, outputs_MV = cast("TokenClassification", objective), outputs.values
        chances = tag.certainty(outputs_MV).tolist()
        tags = [tag.labels[number] for number in tag.decide(outputs_MV).tolist()]
        words: list[tuple[str, float | None]] = [(tag.usual, None)] * sum(len(row.texts) for row in self.rows)
        for number, one, chance in zip(self.seen.tolist(), tags, chances, strict=True):
            words[number] = (one, chance)
        rest = iter(words)
        sentences = [[next(rest) for _ in row.texts] for row in self.rows]
        return [([one for one, _ in each], [chance for _, chance in each]) for each in sentences]


def encode_words(
    tokenizer: Tokenizer, rows: Several[LabeledRow], labels: NDArray[np.int64], target: str, max_length: int
) -> EncodedWords:
    """Tokenize sentences word by word; one of more than `max_length` tokens with special tokens is cut between words.

    Each part is an example of its own. The first token of a word has the target, as in Devlin et al. 2018, section 5.3,
    the others have none. A word that is longer than a whole part is truncated.

    Args:
        tokenizer: the network's own; it tokenizes each word independently of its neighbors.
        rows: the sentences.
        labels: (W,) class indices of all words.
        target: name of the target.
        max_length: maximum tokens of a part.

    Raises:
        GenusError: `max_length` leaves no room for text beside the special tokens.
    """
    vocabulary = tokenizer.vocabulary
    room = room_for(1, vocabulary, max_length)
    known = _pieces(tokenizer, {word for row in rows for word in row.texts})
    texts: list[tuple[NDArray[np.int32], ...]] = []
    firsts, seen, at = [], [], 0
    lost: list[int] = []
    for row in rows:
        pieces = [known[word][:room] for word in row.texts]
        lost += [len(known[word]) - room for word in row.texts if len(known[word]) > room]
        present = [number for number, ids in enumerate(pieces) if ids]
        for part in word_parts([len(pieces[number]) for number in present], room):
            several = [pieces[number] for number in present[part]]
            texts.append((np.array([id for ids in several for id in ids], np.int32),))
            firsts.append(np.cumsum([0, *map(len, several[:-1])]))
        seen += [at + number for number in present]
        at += len(row.texts)
    places = np.array(seen, np.int64)
    cut = np.array(lost, np.int64)
    return EncodedWords(texts, labels[places], target, vocabulary, max_length, cut, firsts, places, rows)


def _pieces(tokenizer: Tokenizer, words: Iterable[str]) -> dict[str, list[int]]:
    """Return the token ids of each word as inside a text."""
    words = list(words)
    return dict(
        zip(
            words,
            tokenizer.encode([tokenizer.tokens.as_inner_word(word) for word in words], specials=False),
            strict=True,
        )
    )


def parts(lengths: Several[int], room: int) -> Iterator[slice]:
    """Yield the parts of a text of words with so many tokens, in tokens: as many whole words each as `room` holds."""
    ends = np.cumsum([0, *lengths])
    for part in word_parts(lengths, room):
        yield slice(int(ends[part.start]), int(ends[part.stop]))


def word_parts(lengths: Several[int], room: int) -> list[slice]:
    """Cut a sequence of lengths greedily into parts whose sums are at most `room`."""
    cuts, held = [0], 0
    for number, length in enumerate(lengths):
        if held + length > room:
            cuts.append(number)
            held = 0
        held += length
    return [slice(*cut) for cut in zip(cuts, [*cuts[1:], len(lengths)], strict=True)] if lengths else []
