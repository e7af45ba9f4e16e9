"""Query-limited transfer: another classifier is asked about samples of a found distribution until it errs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import GenusError

if TYPE_CHECKING:
    from pathlib import Path

    from genus.attack import Attempt, Example
    from genus.attack.target import Target

AT_ONCE = 50
"""Samples that the classifier is asked about in one forward pass."""


@dataclass(frozen=True)
class Transferred:
    """How another classifier fared with one example."""

    right: bool
    """Whether it is right of the text as it is."""
    fooled: bool
    """Whether it erred on a sample; never where it was wrong before."""
    queries: int
    """Samples that it was asked about."""
    text: str | None
    """The sample that it erred on; None where there is none."""


@dataclass(frozen=True)
class Transfer:
    """Another classifier, which knows the same labels.

    Source: Guo et al. 2021 (arXiv:2104.13733); released code, evaluate_adv_samples.py, README: 1,000 samples.
    """

    other: Target
    most: int = 1000
    """Most samples that it is asked about (README: --gumbel_samples 1000)."""

    def check(self, target: Target, folder: Path) -> None:
        """Refuse a classifier of other labels.

        Raises:
            GenusError: it does not know a label of the one that is attacked.
        """
        if missing := sorted({*target.classes} - {*self.other.classes}):
            raise GenusError(f"--transfer {folder}: does not know the label {missing[0]!r} of the model that is "
                             "attacked; take one that was fine-tuned on the same labels")  # fmt: skip

    def transferred(self, target: Target, example: Example, attempt: Attempt) -> Transferred:
        """Return how the other classifier fares with an attempt on the first one.

        An attempt without a distribution has one sample, its text.
        """
        label = self.other.classes.index(target.classes[example.label])
        if int(self.other.told([example.texts])[0]) != label:
            return Transferred(False, False, 0, None)
        if attempt.text == example.text and attempt.samples is None:
            return Transferred(True, False, 0, None)
        asked, most = 0, 1 if attempt.samples is None else self.most
        while asked < most:
            number = min(AT_ONCE, most - asked)
            texts = [attempt.text] if attempt.samples is None else attempt.samples(asked, number)
            wrong = np.flatnonzero(self.other.told([example.changed(text) for text in texts]) != label)
            if len(wrong):
                return Transferred(True, True, asked + int(wrong[0]) + 1, texts[int(wrong[0])])
            asked += number
        return Transferred(True, False, asked, None)
