"""What one process does for `adaptations.py`: a few updates, and the memory that they take."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from minilm_runs import settings

from genus.batch import Batch, Packed, Targets
from genus.export.folder import load
from genus.objectives.supervised.sequence import SequenceClassification
from genus.tasks.start import Start

if TYPE_CHECKING:
    from pathlib import Path

    from genus.adapt import Adaptation

TEXTS, LENGTH, UPDATES = 32, 128, 3
MB = 2**20


def peak() -> float:
    """Return the peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@dataclass(frozen=True)
class Memory:
    """A few updates of a classifier of two classes, on full rows of random tokens."""

    model: Path
    adaptation: Adaptation | None

    def __call__(self) -> dict[str, Any]:
        """Return trained parameters, and in MB the optimizer's state and the peak beside what was there before."""
        source = load(self.model)
        objective = SequenceClassification(labels=("a", "b"))
        start = Start(source.recipe, source.tokenizer, source.learner, self.model)
        tuned = settings(1e-4, 1, TEXTS, LENGTH, adaptation=self.adaptation)
        learner = start.build(start.fine_tuned(objective, tuned), 0)
        optimizer = tuned.optimizer.build(learner)
        ids = torch.randint(source.tokenizer.vocabulary.size, (TEXTS * LENGTH,))
        packed = Packed.laid(ids, [[LENGTH]] * TEXTS, LENGTH, {"segment": torch.zeros_like(ids)})
        targets = Targets(torch.arange(TEXTS) * LENGTH, torch.randint(2, (TEXTS,)))
        batch = Batch({"tokens": packed}, {objective.target: targets})
        before, begun = peak(), time.perf_counter()
        for _ in range(UPDATES):
            step = learner(batch)
            learner.objective(step.sums, learner.counts(batch)).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        states = [one for state in optimizer.state.values() for one in state.values() if isinstance(one, torch.Tensor)]
        return {
            "trained": sum(weight.numel() for weight in learner.parameters() if weight.requires_grad),
            "parameters": sum(weight.numel() for weight in learner.parameters()),
            "optimizer": sum(one.nbytes for one in states) / MB,
            "peak": peak() - before,
            "seconds": (time.perf_counter() - begun) / UPDATES,
        }
