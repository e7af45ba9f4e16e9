"""Token masking and whole-word masking (BERT)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.objectives.masking import Masking, fit_budget, words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Sequence
    from genus.tokens.vocabulary import Vocabulary


class TokenMasking(Masking):
    """Token masking, uniform without replacement (BERT's released code, create_masked_lm_predictions)."""

    specials: bool = False
    """Whether the special tokens of the frame can be chosen too, as in fairseq (mask_tokens_dataset.py)."""

    @property
    def in_words(self) -> str:
        """Description in words: the unit of masking."""
        return "single tokens"

    def choose(self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return `number` positions (K,), or all that can be chosen if they are fewer."""
        candidates = np.flatnonzero(self.specials | ~sequence.fixed)
        return np.sort(rng.permutation(candidates)[: self.number(sequence, rng)])


class WholeWordMasking(Masking):
    """Whole-word masking: all pieces of a word are chosen or none; each piece is then replaced separately.

    A word is a word-start piece and the pieces after it, up to the next word start or special token of the frame;
    pieces without their word start, as at the front of a truncated segment, are a word too. Words are taken in random
    order; one that would exceed `number` tokens is skipped, so a short sequence of long words may have no target.

    Source: BERT's released code, create_pretraining_data.py, `do_whole_word_mask`.
    """

    @property
    def in_words(self) -> str:
        """Description in words: the unit of masking."""
        return "whole words"

    def choose(self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the positions (K,) of the chosen words, at most `number`."""
        candidates, word = words(sequence, vocabulary)
        sizes = np.bincount(word)
        chosen = np.zeros(len(sizes), dtype=np.bool_)
        chosen[fit_budget(rng.permutation(len(sizes)), sizes, self.number(sequence, rng))] = True
        return candidates[np.flatnonzero(chosen[word])]
