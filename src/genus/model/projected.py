"""Token embeddings of a width of their own, projected only where the hidden states have another.

Legend: T tokens, E embedding size, H hidden size.
"""

from __future__ import annotations

from torch import nn

from genus.model.demand import Demand
from genus.model.factorized import Factorized


class Projected(Factorized):
    """W d(norm(token + segment + position)) + b, from E numbers to H, with d dropout; without W and b where E = H.

    So networks of several widths can share their tables (Clark et al. 2020, ELECTRA, section 3.2; released code,
    modeling.py, embeddings_project). ALBERT's `Factorized` has its projection always.
    """

    def projection(self, hidden: int) -> nn.Module:
        """Return the map from (T, E) to (T, H): what comes in where the two are equal."""
        return nn.Identity() if self.size == hidden else super().projection(hidden)

    def projecting(self, hidden: int) -> Demand:
        """Return what the map demands."""
        return Demand() if self.size == hidden else super().projecting(hidden)
