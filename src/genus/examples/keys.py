"""Keyed random generators (counter-based, Philox): a draw depends on its key only, not on earlier draws.

Every key is (seed, purpose, epoch, number), with one of the purposes below.
"""

from __future__ import annotations

import numpy as np

PLAN, FILL, ORDER, CORRUPT, TURN = range(5)
"""Purposes: how the corpus is cut, which examples share a row, the order of rows, the corruption of examples, and
the task of each step."""


def generator(*key: int) -> np.random.Generator:
    """Return the generator of a key such as (seed, purpose, epoch, example)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
