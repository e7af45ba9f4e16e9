"""Keyed random generators (counter-based, Philox): a draw depends on its key only, not on earlier draws.

Every key is (seed, purpose, epoch, number), with one of the purposes below.
"""

from __future__ import annotations

import numpy as np

PLAN, FILL, ORDER, CORRUPT, TURN, BLOCKS, AUGMENT, SOURCE, NOISE, ATTACK = range(10)
"""What is drawn: how the corpus is cut, which examples share a row, in which order rows come, what is hidden,
whose turn a step is, in which order the blocks of the corpus come, how the text of a training row is changed, of which
source a row is, which characters of a text are changed, by which tokens a text is attacked."""


def joint(number: int, block: int) -> int:
    """Return one number of a key for a number and a block, both below 2^32; for block 0 it is the number itself."""
    return block << 32 | number


def generator(*key: int) -> np.random.Generator:
    """Return the generator of a key such as (seed, purpose, epoch, example)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
