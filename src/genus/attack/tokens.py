"""The tokens of a text that may change, and texts in which some did: what did not change stays as it was written.

Legend: T tokens of a text that the classifier reads, K of these that may change, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from genus.tasks.spans import stripped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from genus.attack import Example
    from genus.tokens.tokenizer import Tokenizer
    from genus.tokens.vocabulary import Vocabulary

UNDECODED = "\ufffd"
"""What stands for a part of a character."""


@dataclass(frozen=True)
class AttackedText:
    """The text of an example that is attacked, in the tokens that the classifier reads."""

    example: Example
    vocabulary: Vocabulary
    ids: NDArray[np.int64]
    """(T,)."""
    spans: NDArray[np.int64]
    """(T, 2) characters of each, from the first to the one after the last, ascending."""

    @classmethod
    def of(cls, example: Example, tokenizer: Tokenizer, kept: int) -> AttackedText:
        """Return the first `kept` tokens of the text, those that the classifier reads."""
        ids, spans = tokenizer.encode_with_offsets(example.text)
        return cls(example, tokenizer.vocabulary, ids[:kept].astype(np.int64), spans[:kept])

    @cached_property
    def movable(self) -> NDArray[np.bool_]:
        """(T,) tokens that may change: with a letter or a digit; punctuation and special tokens stay."""
        return replaceable(self.vocabulary)[self.ids] & (self.spans[:, 1] > self.spans[:, 0])

    @property
    def rows(self) -> NDArray[np.int64]:
        """(T,) number of each token among those that may change; -1 for the others."""
        return np.where(self.movable, self.movable.cumsum() - 1, -1)

    def written(self, ids: Sequence[int]) -> str:
        """Return the text with other tokens (K,) in the places of those that may change.

        A token that begins a word has a space before it where the old one began none, and one that begins none joins
        what is before it; all else stays as it was written.
        """
        text, vocabulary = self.example.text, self.vocabulary
        parts, at = [], 0
        places = np.flatnonzero(self.movable)
        for (first, last), old, new in zip(self.spans[places].tolist(), self.ids[places].tolist(), ids, strict=True):
            if new == old:
                continue
            start, stop = stripped(text, first, last)
            before, piece = text[at:start], vocabulary.texts[new]
            begins, began = bool(vocabulary.word_start[new]), bool(vocabulary.word_start[old])
            if begins and not began:
                piece = f" {piece}"
            elif began and not begins:
                before = before.rstrip()
            parts += [before, piece]
            at = stop
        return "".join(parts) + text[at:]


@lru_cache(maxsize=4)
def replaceable(vocabulary: Vocabulary) -> NDArray[np.bool_]:
    """Return (V,) tokens of words: not special, whole characters, with a letter or a digit."""
    words = [any(map(str.isalnum, text)) and UNDECODED not in text for text in vocabulary.texts]
    return np.array(words, np.bool_) & ~vocabulary.special


def changed_share(before: Sequence[int], after: Sequence[int]) -> float:
    """Return the share of the tokens of a text that are not in another one in their order (longest matching blocks)."""
    blocks = SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    return 1 - sum(block.size for block in blocks) / len(before) if len(before) else 0.0
