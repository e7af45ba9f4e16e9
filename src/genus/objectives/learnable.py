"""Whether anything can be learned: the targets and the labels of the first batches, before training begins."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from genus.batch import Batch
    from genus.objectives import Learner

ENOUGH = 32
"""Targets of a loss that tell it: 32 labels of two classes are all the same by chance once in 2^31."""


def check_learning(learner: Learner, losses: Sequence[str], batches: Iterable[Batch]) -> str:
    """Return a notice of the losses of which nothing can be learned from some batches; "" if there are none.

    That is a loss without any target, and one whose targets all have the same label. Batches are read until every loss
    has `ENOUGH` targets.

    Args:
        learner: the learner whose heads count the targets.
        losses: the names of all losses.
        batches: the first batches of the text, as many as may be read.

    Raises:
        GenusError: there is no other loss.
    """
    targets: Counter[str] = Counter()
    labels: dict[str, set[float]] = {}
    for batch in batches:
        targets.update({name: int(count) for name, count in learner.counts(batch).items()})
        for name, found in batch.targets.items():
            labels.setdefault(name, set()).update(found.label[found.counted()].flatten().tolist())
        if all(targets[name] >= ENOUGH for name in losses):
            break
    useless = [f"{name} has no target" for name, number in targets.items() if not number]
    useless += [
        f"{name} has one answer, {min(found):g}, at all of {targets[name]:,} targets"
        for name, found in labels.items()
        if len(found) == 1 and targets[name] >= ENOUGH
    ]
    line = (
        f"nothing can be learned of this text by some objectives: {'; '.join(useless)}; give documents of several "
        "sentences, words between spaces and longer rows (stages.0.max_length), or leave the objectives out"
    )
    if useless and len(useless) >= len(targets):
        raise GenusError(line)
    return line if useless else ""
