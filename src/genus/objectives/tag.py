"""What fine-tuning learns about words: a tag each, such as of names or of parts of speech (Devlin et al. 2018, 5.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.model.demand import Demand, linear
from genus.objectives.fine_tuned import ClassesHead, OfClasses

if TYPE_CHECKING:
    from genus.model import Model
    from genus.model.heads import Pooler

OUTSIDE = "O"
"""The tag of words that are of no name (Ramshaw and Marcus 1995)."""


class Tag(OfClasses):
    """-Σ log softmax(W d(h) + b)[tag], over the first piece of each word; h is the piece's state, d dropout."""

    usual: str = OUTSIDE
    """The tag of words of which the tokenizer leaves no piece: `O`, or else the most frequent one in training."""

    def max_targets(self, tokens: int, sequences: int) -> dict[str, int]:
        """Return one a token."""
        return {self.name: tokens}

    def reads(self, model: Model, pooler: Pooler) -> Model:
        """Return the model without a pooler."""
        return model.unpooled()

    def head(self, model: Model) -> TagHead:
        """Return the head."""
        return TagHead(self, model)

    def demand(self, model: Model, vocab_size: int, length: int) -> Demand:
        """Return the demand of the linear map, at every token."""
        return linear(model.width, self.outputs)


class TagHead(ClassesHead):
    """Tags at work: a linear map of tokens' states."""

    def __init__(self, choice: Tag, model: Model) -> None:
        super().__init__(choice, model, model.width)
