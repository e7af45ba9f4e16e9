"""What is learned from labels that need no people: the example format makes them, or the corruption."""

from __future__ import annotations

from typing import ClassVar

from genus.examples import Examples  # noqa: TC001  # a choice is read by its annotation
from genus.objectives.linear import LinearObjective
from genus.part import Count


class TokenLabels(LinearObjective):
    """-Σ log p(label | the token's state), over the labels of tokens that a format gives.

    With `DocumentSegments`: token-document relation prediction (Sun et al. 2019, ERNIE 2.0, section 3.2.1).
    """

    pooled: ClassVar[bool] = False

    label: str
    """What the labels are called among the targets of a format, such as `token_document`; loss and head are, too."""
    classes: Count = 2
    """How many classes there are, where the objective brings no format, which knows it."""
    examples: Examples | None = None
    """The format whose labels these are; None: the recipe's own."""

    @property
    def name(self) -> str:
        """That of the labels."""
        return self.label

    @property
    def in_words(self) -> str:
        """The name of the labels, in words."""
        return self.label.replace("_", " ")

    @property
    def needs(self) -> frozenset[str]:
        """The labels."""
        return frozenset({self.target})

    @property
    def brings(self) -> Examples | None:
        """The format whose labels these are."""
        return self.examples

    @property
    def outputs(self) -> int:
        """One a class."""
        return self.classes if self.examples is None else self.examples.classes


class SequenceLabels(TokenLabels):
    """-Σ log p(label | pooled state of the sequence's summary token), over the labels that a format gives.

    Of the recipe's own format: `next_sentence`, 0 where the second segment follows the first and 1 where it is from
    elsewhere (Devlin et al. 2018, section 3.1, task 2), and `sentence_order`, 0 where the segments stand as in the text
    and 1 where they are swapped (Lan et al. 2019, section 3.1). Of formats of ERNIE 2.0 (Sun et al. 2019, sections
    3.2.2 and 3.2.3): `sentence_reordering`, `sentence_distance`, `discourse_relation`, `relevance`.
    """

    pooled: ClassVar[bool] = True
