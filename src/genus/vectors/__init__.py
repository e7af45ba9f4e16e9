"""Static word vectors: tables of others, skip-gram training, and the model folder that holds either.

Legend: V words, E size of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class WordVectors:
    """Words with a vector each."""

    words: list[str]
    """Distinct, in the order of the table."""
    vectors: NDArray[np.float32]
    """(V, E)."""
    notices: list[str] = field(default_factory=list)
    """What was left out of a file, a line for each kind."""
