"""Token and sequence classification with labels from the example format or the text (self-supervised labels)."""

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
    """Token classification: -Σ log p(label | the token's hidden state), with labels from an example format.

    With `DocumentSegments`: token-document relation prediction (Sun et al. 2019, ERNIE 2.0, section 3.2.1).
    """

    pooled: ClassVar[bool] = False

    label: str
    """Name of the labels in the targets of a format, such as `token_document`, and of the loss and the head."""
    classes: Count = 2
    """Number of classes, if `examples` is None; otherwise the format defines it."""
    examples: ExampleFormat | None = None
    """The format that provides the labels; None: the recipe's format."""

    @property
    def name(self) -> str:
        """Name of the labels, the loss and the head."""
        return self.label

    @property
    def in_words(self) -> str:
        """Description in words: the name of the labels, with spaces."""
        return self.label.replace("_", " ")

    @property
    def requires(self) -> frozenset[str]:
        """The targets with the labels, from the example format."""
        return frozenset({self.target})

    @property
    def format(self) -> ExampleFormat | None:
        """The format that provides the labels; None: the recipe's format is used."""
        return self.examples

    @property
    def outputs(self) -> int:
        """One logit per class."""
        return self.classes if self.examples is None else self.examples.classes


class SequenceLabels(TokenLabels):
    """Sequence classification: -Σ log p(label | pooled state of the summary token), with labels from a format.

    From the recipe's format: `next_sentence` (next-sentence prediction), 0 if the second segment follows the first and
    1 if it is from elsewhere (Devlin et al. 2018, section 3.1, task 2), and `sentence_order`, 0 if the segments are in
    the order of the text and 1 if they are swapped (Lan et al. 2019, section 3.1). From formats of ERNIE 2.0 (Sun et
    al. 2019, sections 3.2.2 and 3.2.3): `sentence_reordering`, `sentence_distance`, `discourse_relation`, `relevance`.
    """

    pooled: ClassVar[bool] = True


class CapitalPrediction(LinearObjective):
    """Capital prediction: -Σ log p(the word is capitalized | the lowercased text), at each word's first token.

    The vocabulary must be cased, so that the case is known; the model gets every capitalized piece replaced by its
    lowercase piece. Words whose first piece has no lowercase counterpart in the vocabulary stay unchanged and have no
    target; nor have words without letters.

    Deviation: the published vocabulary is uncased, and the case was stored separately. Here only ids are stored, so any
    corpus can be used.
    """

    pooled: ClassVar[bool] = False

    @property
    def outputs(self) -> int:
        """Two classes: 0 lowercase, 1 capitalized."""
        return 2

    def prepare_example(self, example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
        """Return the lowercased example, with a label at each word's first token.

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
    """Return per id (V,): the id of its lowercase text, or itself if there is none; and its label, -1 for none.

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
