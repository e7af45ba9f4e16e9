"""Classification of sequences and tokens by labels that the example format gives.

Legend: M targets, H hidden size, C classes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.errors import GenusError
from genus.examples import Example, ExampleFormat
from genus.objectives.linear_head import LinearObjective
from genus.part import Count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.tokens.vocabulary import Vocabulary


class TokenLabels(LinearObjective):
    """-Σ log p(label | the token's state), over the labels of tokens that a format gives.

    With `DocumentSegments`: token-document relation prediction (Sun et al. 2019, ERNIE 2.0, section 3.2.1).
    """

    pooled: ClassVar[bool] = False

    label: str
    """What the labels are called among the targets of a format, such as `token_document`; loss and head are, too."""
    classes: Count = 2
    """How many classes there are, where the objective brings no format, which knows it."""
    examples: ExampleFormat | None = None
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
    def requires(self) -> frozenset[str]:
        """The labels."""
        return frozenset({self.target})

    @property
    def format(self) -> ExampleFormat | None:
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


class CapitalPrediction(LinearObjective):
    """-Σ log p(the word begins with a capital letter | the text in small letters), at each word's first token.

    The case must be known, so the vocabulary has to keep it; what the model sees is every capitalized piece replaced by
    the one in small letters. Words whose first piece has no such counterpart in the vocabulary stay as they are and are
    not asked for; nor are words without letters.

    Deviation: the published vocabulary is uncased, and the case came from beside it. Here nothing is stored beside the
    ids, so that any corpus serves.
    """

    pooled: ClassVar[bool] = False

    @property
    def outputs(self) -> int:
        """Two: 0 begins small, 1 with a capital."""
        return 2

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the example in small letters, with a label at each word's first token.

        Raises:
            GenusError: the vocabulary has no capital letters.
        """
        small, label = cases(vocabulary)
        sequence = example.tokens
        asked = np.flatnonzero(~sequence.fixed & (label[sequence.ids] >= 0))
        targets = example.targets | {self.target: (asked, label[sequence.ids[asked]])}
        ids = np.where(sequence.fixed, sequence.ids, small[sequence.ids])
        return Example(example.streams | {"tokens": replace(sequence, ids=ids)}, targets)


@lru_cache(maxsize=4)
def cases(vocabulary: Vocabulary) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, an id (V,): the id of its text in small letters, itself where there is none; and its label, -1 for none.

    Raises:
        GenusError: the vocabulary has no capital letters.
    """
    small, label = np.arange(vocabulary.size), np.full(vocabulary.size, -1)
    starts = np.flatnonzero(vocabulary.word_start & ~vocabulary.special).tolist()
    by_text = {vocabulary.texts[number]: number for number in starts}
    for text, number in by_text.items():
        if text[:1].islower():
            label[number] = 0
        elif text[:1].isupper() and text.lower() in by_text:
            small[number], label[number] = by_text[text.lower()], 1
    if not (label == 1).any():
        raise GenusError(
            "the vocabulary has no capital letters, which CapitalPrediction asks for: "
            "set tokens.lowercase=false, or leave it out"
        )
    return small, label
