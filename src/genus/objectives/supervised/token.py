"""What fine-tuning learns about words: a tag each, such as of names or of parts of speech (Devlin et al. 2018, 5.3)."""

from __future__ import annotations

from typing import ClassVar

from genus.objectives.supervised.sequence import SequenceClassification

OUTSIDE = "O"
"""The tag of words that are of no name (Ramshaw and Marcus 1995)."""


class TokenClassification(SequenceClassification):
    """-Σ log softmax(W d(h) + b)[tag], over the first piece of each word; h is the piece's state, d dropout."""

    pooled: ClassVar[bool] = False

    usual: str = OUTSIDE
    """The tag of words of which the tokenizer leaves no piece: `O`, or else the most frequent one in training."""
