"""Random generators keyed by numbers, so that a draw depends on what it is for and on nothing that came before."""

from __future__ import annotations

import numpy as np


def generator(*key: int) -> np.random.Generator:
    """Return the generator of a key such as (seed, purpose, epoch, example)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
