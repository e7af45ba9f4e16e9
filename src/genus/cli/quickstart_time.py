"""How long the quickstart takes: from the time of a few training steps on this machine, as busy as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.train import timing
from genus.train.run import Run

if TYPE_CHECKING:
    from genus.batch import Batch
    from genus.recipe import Recipe

LOOKED_AT = 2.0
"""Seconds for which steps are counted."""
FILLED = 0.88
"""Share of a row that is text: a sentence that does not fit begins the next row."""
SENTENCE = 25
"""Tokens of pretraining that take as long as a sentence of fine-tuning, validation included: its batches are small."""
REST = 6.0
"""Seconds for the tokenizer, processes and files."""


def seconds_needed(recipe: Recipe, tokens: int, sentences: int) -> float:
    """Return the seconds to pretrain on a number of tokens, and to fine-tune on a number of sentences in all."""
    stage = recipe.stages[0]
    step = FILLED * stage.batch * stage.max_length
    return REST + seconds_a_step(recipe) * (tokens + SENTENCE * sentences) / step


def seconds_a_step(recipe: Recipe) -> float:
    """Return the mean time of a training step of the first stage, on random tokens and with random weights."""
    batch = _random_batch(recipe)
    return timing.seconds_a_step(recipe.learner, recipe.optimizer, lambda _: {0: batch}, Run(), LOOKED_AT)


def _random_batch(recipe: Recipe) -> Batch:
    """Return rows of random tokens, of which as many are targets as the recipe's objective masks."""
    stage, (objective,) = recipe.stages[0], recipe.objectives
    length, random = stage.max_length, np.random.default_rng(0)
    hidden = objective.max_targets(length, 0)
    rows = []
    for _ in range(stage.batch):
        ids = random.integers(recipe.vocab_rows, size=length)
        example = Example({"tokens": Sequence(ids, np.zeros_like(ids), np.zeros(length, np.bool_))}, {})
        for name, number in hidden.items():
            places = random.permutation(length)[:number]
            example.targets[name] = (places, ids[places])
        rows.append([example])
    return pack(rows, length, 0, streams=False)
