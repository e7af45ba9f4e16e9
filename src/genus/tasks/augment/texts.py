"""Further rows whose texts are changed: the slot's parts that go through the texts of training rows one by one."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

from genus.examples.keys import AUGMENT, generator
from genus.tasks.augment import Augmentation, FewLabels

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from genus.tasks.dataset import LabeledRow


class ChangedTexts(Augmentation):
    """Copies of the training rows with changed texts; a copy that is as its row was is left out."""

    def further(self, given: FewLabels) -> list[LabeledRow]:
        """Return changed copies, copy by copy in the order of the rows."""
        found = []
        texts = [text for row in given.rows for text in row.texts]
        for copy in range(self.number_of_copies(len(given.rows))):
            draws = [generator(self.seed, AUGMENT, copy, number) for number in range(len(texts))]
            changed = iter(self.changed(texts, draws, len(given.rows)))
            copies = [replace(row, texts=tuple(next(changed) for _ in row.texts)) for row in given.rows]
            found += [new for new, row in zip(copies, given.rows, strict=True) if new.texts != row.texts]
        return found

    @abstractmethod
    def number_of_copies(self, rows: int) -> int:
        """Return how many copies are made of each of so many training rows."""

    @abstractmethod
    def changed(self, texts: Sequence[str], draws: Sequence[np.random.Generator], rows: int) -> list[str]:
        """Return the texts changed, each by its own draws; `rows` is the number of training rows."""
