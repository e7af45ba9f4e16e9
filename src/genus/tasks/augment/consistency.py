"""Consistency training: a changed text without a label is to be answered as the text itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from genus.errors import say
from genus.examples.keys import AUGMENT, generator
from genus.objectives.supervised.consistency import Annealing, consistent  # a choice is read by its annotation
from genus.part import Count, Positive, Share
from genus.tasks.augment import Augmentation, FewLabels
from genus.tasks.augment.random_edits import RandomEdits
from genus.tasks.augment.texts import ChangedTexts  # a choice is read by its annotation
from genus.tasks.augment.unlabeled import PairedSplit, read_unlabeled

if TYPE_CHECKING:
    from genus.objectives.supervised import FineTuned
    from genus.tasks.dataset import LabeledRow
    from genus.tasks.splits import Split


class Consistency(Augmentation):
    """Unsupervised data augmentation: the loss of labels, and that of texts without them; see its objective's.

    Each text is changed once, before training. Every labeled example of an update is read with `pairs` texts; rows come
    again until all texts have, which is an epoch.

    Source: Xie et al. 2020 (arXiv:1904.12848), section 2; the objective is `ConsistentClassification`. Deviation:
    there the two are drawn independently, and training has a number of steps.
    """

    unlabeled: str = ""
    """Table of texts; labels that it may have are not read."""
    change: ChangedTexts = RandomEdits(copies=1)
    """How a text is changed, once whatever its copies; the paper's are back-translation, and words by TF-IDF."""
    pairs: Count = 3
    """Texts without labels for each labeled one (released code, text/scripts/run_base_uda.sh: --unsup_ratio)."""
    weight: Positive = 1.0
    temperature: Positive = 1.0
    confidence: Share = 0.0
    annealing: Annealing = "linear"

    def further(self, given: FewLabels) -> list[LabeledRow]:
        """Return no rows: texts without labels are learned beside those with."""
        return []

    def split(self, train: Split, given: FewLabels) -> Split:
        """Return the training rows with the rows of the table and their changed copies.

        Raises:
            GenusError: the table, or what the change needs, cannot be used.
            UsageError: no table is named, or a choice of the change is missing.
        """
        rows = read_unlabeled(self.unlabeled, given.task)
        texts = [text for row in rows for text in row.texts]
        draws = [generator(self.change.seed, AUGMENT, 0, number) for number in range(len(texts))]
        changed = iter(self.change.changed(texts, draws, len(given.rows)))
        pairs = tuple((row, replace(row, texts=tuple(next(changed) for _ in row.texts))) for row in rows)
        same = sum(row.texts == copy.texts for row, copy in pairs)
        found = PairedSplit(train.path, train.rows, train.held_out, train.noise, pairs=pairs, each=self.pairs)
        say(f"consistency: {len(pairs):,} texts without labels, of which {same:,} are as they were; an epoch is "
            f"{found.examples:,} labeled examples with {self.pairs:,} of them each")  # fmt: skip
        return found

    def objective(self, objective: FineTuned, passed: int) -> FineTuned:
        """Return the objective with the loss of texts without labels.

        Raises:
            UsageError: the task has another loss.
        """
        return consistent(objective, self.weight, self.temperature, self.confidence, self.annealing, passed)
