"""Self-training: a model that learned from the few labels gives labels to texts without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from genus.errors import say
from genus.part import Count, SomeShare
from genus.tasks.augment import Augmentation, FewLabels
from genus.tasks.augment.unlabeled import read_unlabeled
from genus.tasks.predict import score

if TYPE_CHECKING:
    from genus.tasks.dataset import LabeledRow


class SelfTraining(Augmentation):
    """Texts without labels become training rows, with the label that a model gives them with confidence.

    The model of round 1 learned from the labeled rows, that of a later round also from the rows that the one before
    labeled; each starts from the pretrained weights, and is the best of all seeds in validation.

    Source: Yarowsky 1995; in this form Lee 2013 and Xie et al. 2020 (arXiv:1911.04252), section 2, without noise.
    """

    unlabeled: str = ""
    """Table of texts; labels that it may have are not read."""
    confidence: SomeShare = 0.95
    """Least probability of a label: τ of FixMatch (Sohn et al. 2020, arXiv:2001.07685, section 4)."""
    rounds: Count = 1
    """How often labels are given."""

    def further(self, given: FewLabels) -> list[LabeledRow]:
        """Return the rows of the table that are labeled with confidence.

        Raises:
            GenusError: the table cannot be used.
            UsageError: no table is named.
        """
        rows = read_unlabeled(self.unlabeled, given.task)
        found: list[LabeledRow] = []
        for number in range(1, self.rounds + 1):
            source = given.teach(found, f"round-{number}")
            answers, _ = score(source, given.task, rows, path=Path(self.unlabeled))
            found = [
                replace(row, label=str(answer.predicted))
                for row, answer in zip(rows, answers, strict=True)
                if isinstance(answer.scores, dict) and answer.scores[str(answer.predicted)] >= self.confidence
            ]
            say(f"self-training, round {number} of {self.rounds}: {len(found):,} of {len(rows):,} rows are labeled "
                f"with a probability of {self.confidence:g} or more")  # fmt: skip
        return found
