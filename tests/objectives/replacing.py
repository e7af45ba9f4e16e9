"""A tiny random ELECTRA and a batch for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from genus import catalog
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack

if TYPE_CHECKING:
    from genus.batch import Batch
    from genus.objectives import Learner
    from genus.recipe import Recipe

LENGTHS = (14, 9, 20, 4)
VOCABULARY, MASK, CLS, SEP = 40, 4, 2, 3


def recipe(*more: str) -> Recipe:
    changes = ["model.hidden=16", "model.attention.heads=2", "model.feedforward.size=24", "model.embedding.size=12"]
    changes += [f"tokens.vocab_size={VOCABULARY}", "objectives.0.generator.width=0.5", *more]
    return catalog.load("electra/tiny", changes)


def made(*more: str) -> Learner:
    """Return a tiny float64 learner in which every parameter is random, biases and norms too."""
    torch.manual_seed(0)
    learner = recipe(*more).learner().double()
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.normal_(std=0.3)
    return learner


def examples() -> list[Example]:
    """Return framed sequences; two tokens of each are chosen, of which the second keeps its place unmasked."""
    rng = np.random.default_rng(0)
    found = []
    for length in LENGTHS:
        original = np.array([CLS, *rng.integers(5, VOCABULARY, length - 2), SEP])
        chosen = np.sort(1 + rng.permutation(length - 2)[:2])
        ids = original.copy()
        ids[chosen[0]] = MASK
        fixed = np.isin(original, [CLS, SEP])
        targets = {"masked_lm": (chosen, original[chosen]), "original": (np.arange(length), original)}
        found.append(
            Example({"tokens": Sequence(ids, (np.arange(length) > length // 2).astype(np.int64), fixed)}, targets)
        )
    return found


LIMITS = {"masked_lm": 20, "original": 48}


def packed() -> Batch:
    """Return rows of 24: 14 and 9 tokens and one dead; 20 and 4. Targets are filled up."""
    one, two, three, four = examples()
    return pack([[one, two], [three, four]], 24, 0, max_targets=LIMITS)


def sums_of(learner: Learner, batch: Batch) -> dict[str, float]:
    with torch.no_grad():
        return {name: float(value) for name, value in learner(batch).sums.items()}
