"""Learning-rate schedules."""

from __future__ import annotations

from genus.optim import Schedule


class Linear(Schedule):
    """Rises linearly over `warmup` (a fraction of the budget), then falls linearly to 0 at its end (BERT's code)."""

    warmup: float = 0.01

    def factor(self, spent: float) -> float:
        """Return min(spent / warmup, (1 - spent) / (1 - warmup))."""
        if spent < self.warmup:
            return spent / self.warmup
        return max(0.0, (1.0 - spent) / (1.0 - self.warmup))
