"""The pooler of states that are two in one."""

from __future__ import annotations

from genus.model.heads import Pooler


class HalfPooler(Pooler):
    """f(W h + b) with W from 2 H to H numbers: for the two states of a reversible stack (Hugging Face's Reformer)."""

    def width(self, hidden: int) -> int:
        """Return half of what comes in."""
        return hidden // 2
