"""Token classification (named-entity recognition, part-of-speech tagging): Devlin et al. 2018, section 5.3."""

from __future__ import annotations

from typing import ClassVar

from genus.objectives.supervised.sequence import SequenceClassification

OUTSIDE = "O"
"""Tag of words outside of every entity (Ramshaw and Marcus 1995)."""


class TokenClassification(SequenceClassification):
    """Token classification: -Σ log softmax(W d(h) + b)[tag] over words; h: first piece's hidden state, d: dropout."""

    pooled: ClassVar[bool] = False
    of_words: ClassVar[bool] = True

    usual: str = OUTSIDE
    """Tag of words that the tokenizer maps to no piece: `O`, or else the most frequent tag in training."""
