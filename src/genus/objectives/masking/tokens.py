"""Masking of single tokens and of whole words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.objectives.masking import Masking, fit_budget, words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples import Sequence
    from genus.tokens.vocabulary import Vocabulary


class TokenMasking(Masking):
    """Single tokens, drawn without replacement (BERT's released code, create_masked_lm_predictions)."""

    @property
    def in_words(self) -> str:
        """What is chosen."""
        return "single tokens"

    def choose(self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return max(1, round(rate x L)) positions, or all there are."""
        candidates = np.flatnonzero(~sequence.fixed)
        return np.sort(rng.permutation(candidates)[: self.number(sequence)])


class WholeWordMasking(Masking):
    """All pieces of a word or none, each piece then replaced by a draw of its own.

    A word is a piece that starts one and the pieces that follow it, up to the next start or the frame; pieces cut off
    from their start, as at the front of a truncated segment, are a word too. Words are taken in random order; one that
    would exceed max(1, round(rate x L)) is passed over, so a short sequence of long words may have nothing to restore.

    Source: BERT's released code, create_pretraining_data.py, `do_whole_word_mask`.
    """

    @property
    def in_words(self) -> str:
        """What is chosen."""
        return "whole words"

    def choose(self, sequence: Sequence, vocabulary: Vocabulary, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the positions of the chosen words, max(1, round(rate x L)) at most."""
        candidates, word = words(sequence, vocabulary)
        sizes = np.bincount(word)
        chosen = np.zeros(len(sizes), dtype=np.bool_)
        chosen[fit_budget(rng.permutation(len(sizes)), sizes, self.number(sequence))] = True
        return candidates[np.flatnonzero(chosen[word])]
