"""Texts without labels that an augmentation reads, and the training rows that are learned beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import UsageError
from genus.tasks.dataset import read
from genus.tasks.groups import EncodedGroups
from genus.tasks.splits import Split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.objectives.supervised import FineTuned
    from genus.tasks import Task
    from genus.tasks.dataset import LabeledRow
    from genus.tasks.encode import EncodedTexts
    from genus.tokens.tokenizer import Tokenizer


def read_unlabeled(file: str, task: Task) -> list[LabeledRow]:
    """Return the rows of a table without the labels that they may have.

    Raises:
        GenusError: the table cannot be used.
        UsageError: none is named.
    """
    if not file:
        raise UsageError("augmentation: name a table of texts without labels with unlabeled=FILE")
    return [replace(row, label=None) for row in read(Path(file), task, labeled=False)]


@dataclass(frozen=True, slots=True)
class PairedSplit(Split):
    """Training rows, each read with a few pairs of a row without a label and its changed copy.

    There are as many examples as it takes for every row and every pair to come: rows or pairs come again until then.
    """

    pairs: tuple[tuple[LabeledRow, LabeledRow], ...] = ()
    each: int = 1
    """Pairs of an example."""

    @property
    def examples(self) -> int:
        """The number of examples, of rows with pairs."""
        return max(len(self.rows), math.ceil(len(self.pairs) / self.each))

    @property
    def content(self) -> list[object]:
        """All that results depend on."""
        return [*(row.content for row in self.rows), self.each, *((a.texts, b.texts) for a, b in self.pairs)]

    def encode(self, task: Task, tokenizer: Tokenizer, objective: FineTuned, max_length: int) -> EncodedTexts:
        """Tokenize the examples: the sequences of each are its row, its rows without labels, and their copies."""
        rows = task.encode(tokenizer, self.rows, objective, max_length, self.path)
        sides = [task.encode(tokenizer, side, objective, max_length) for side in _transposed(self.pairs)]
        texts, labels = [], np.arange(self.examples) % len(self.rows)
        for example, row in enumerate(labels.tolist()):
            chosen = [number % len(self.pairs) for number in range(example * self.each, (example + 1) * self.each)]
            texts += [rows.texts[row], *(side.texts[number] for side in sides for number in chosen)]
        return EncodedGroups(
            texts, rows.labels[labels], rows.target, rows.vocabulary, rows.max_length,
            np.concatenate([one.cut for one in (rows, *sides)]), np.arange(0, len(texts) + 1, 1 + 2 * self.each),
            repeated=rows.repeated,
        )  # fmt: skip


def _transposed(pairs: Sequence[tuple[LabeledRow, LabeledRow]]) -> tuple[list[LabeledRow], list[LabeledRow]]:
    """Return the rows and the changed copies."""
    return [row for row, _ in pairs], [copy for _, copy in pairs]
