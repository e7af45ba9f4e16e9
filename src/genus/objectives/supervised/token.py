"""Token classification (named-entity recognition, part-of-speech tagging): Devlin et al. 2018, section 5.3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from genus.objectives.supervised.sequence import SequenceClassification

if TYPE_CHECKING:
    from numpy.typing import NDArray

OUTSIDE = "O"
"""Tag of words outside of every entity (Ramshaw and Marcus 1995)."""


class TokenClassification(SequenceClassification):
    """Token classification: -Σ log softmax(W d(h) + b)[tag] over words; h: first piece's hidden state, d: dropout."""

    pooled: ClassVar[bool] = False
    of_words: ClassVar[bool] = True

    usual: str = OUTSIDE
    """Tag of words that the tokenizer maps to no piece: `O`, or else the most frequent tag in training."""

    def certainty(self, outputs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the probability (M,) of the tag that is decided on."""
        raised = np.exp(outputs - outputs.max(-1, keepdims=True))
        return np.asarray(raised.max(-1) / raised.sum(-1))


class SpanTagging(TokenClassification):
    """Token classification of all tokens of a plain text, in IOB2, by which spans of characters are marked.

    Its head is that of `TokenClassification`, and a folder's the same.
    """

    of_words: ClassVar[bool] = False
    teachable: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Name of the head: that of token classification."""
        return "token_classification"
