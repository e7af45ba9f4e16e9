"""Noise on the rows of a task's tables: in training it can be learned, in evaluation alone it is unseen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from genus.errors import UsageError
from genus.examples.keys import NOISE, generator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from genus.tasks import Task
    from genus.tasks.dataset import LabeledRow
    from genus.tasks.splits import Split
    from genus.text.noise import TextNoise


def check_noise(noise: TextNoise, task: Task) -> None:
    """Refuse noise that moves the characters or words at which a task's labels stand.

    Raises:
        UsageError: it does.
    """
    if task.labels_stand_in_texts and not noise.keeps_places:
        raise UsageError(f"noise: {type(noise).__name__} moves characters, at which the labels of "
                         f"{type(task).__name__} stand; take uppercase or random-case")  # fmt: skip


def noised(rows: Sequence[LabeledRow], noise: TextNoise) -> list[LabeledRow]:
    """Return rows whose texts have noise: a function of the seed, the line and which of the row's texts it is.

    Labels stay as they are, as in Xue et al. 2021 (arXiv:2105.13626).
    """
    return [
        replace(
            row,
            texts=tuple(
                noise.noised(text, generator(noise.seed, NOISE, row.line, place))
                for place, text in enumerate(row.texts)
            ),
        )
        for row in rows
    ]


def with_noise(splits: Mapping[str, Split], task: Task, noises: Mapping[str, TextNoise]) -> dict[str, Split]:
    """Return splits of which those that are named have noise.

    Raises:
        UsageError: the noise moves what labels stand at.
    """
    for noise in noises.values():
        check_noise(noise, task)
    return {
        name: replace(split, rows=noised(split.rows, noises[name]), noise=noises[name]) if name in noises else split
        for name, split in splits.items()
    }
