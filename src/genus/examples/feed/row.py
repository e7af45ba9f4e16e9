"""A row before it is read: which examples of which plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from genus.examples import EpochPlan


@dataclass(frozen=True, slots=True)
class Row:
    """Which examples lie in a row of the endless sequence of epochs."""

    plan: EpochPlan
    block: int
    version: int
    """Of the data: the number of the epoch, modulo `copies` where the format has copies."""
    examples: NDArray[np.int64]
    """Their numbers in the plan."""
    opens: bool = False
    """The row is the first of its stream in the epoch."""
