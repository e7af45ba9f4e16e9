"""Learning-rate schedules: functions of the fraction of the budget that is spent, and of the batch where it grows."""

from __future__ import annotations

import math

from genus.optim import Schedule
from genus.part import Fraction, Share, SomeShare


class Linear(Schedule):
    """Rises linearly over `warmup`, a fraction of the budget, then falls linearly to 0 (Devlin et al. 2018, A.2).

    Deviation: BERT's released code (optimization.py) starts the fall at 0 spent, so that its rate drops at once from
    the peak to 1 - warmup of it where the warm-up ends; here, as in RoBERTa's code, the fall starts at the peak.
    """

    warmup: Fraction = 0.01

    @property
    def in_words(self) -> str:
        """Its shape and its warm-up."""
        return _risen(super().in_words, self.warmup)

    def factor(self, spent: float) -> float:
        """Return min(spent / warmup, (1 - spent) / (1 - warmup))."""
        if spent < self.warmup:
            return spent / self.warmup
        return max(0.0, (1.0 - spent) / (1.0 - self.warmup))


class Constant(Schedule):
    """Rises linearly over `warmup` (a fraction of the budget), then stays at the peak."""

    warmup: Share = 0.0

    @property
    def in_words(self) -> str:
        """Its shape and its warm-up."""
        return _risen(super().in_words, self.warmup)

    def factor(self, spent: float) -> float:
        """Return min(spent / warmup, 1)."""
        return spent / self.warmup if spent < self.warmup else 1.0


class Cosine(Schedule):
    """Rises linearly over `warmup`, then falls along half a cosine to `floor` (Loshchilov and Hutter 2016, eq. 5)."""

    warmup: Fraction = 0.01
    floor: Share = 0.0
    """Of the peak, at the end."""

    @property
    def in_words(self) -> str:
        """Its shape and its warm-up."""
        return _risen(super().in_words, self.warmup)

    def factor(self, spent: float) -> float:
        """Return spent / warmup, then floor + (1 - floor) (1 + cos(π (spent - warmup) / (1 - warmup))) / 2."""
        if spent < self.warmup:
            return spent / self.warmup
        fallen = min(1.0, (spent - self.warmup) / (1.0 - self.warmup))
        return self.floor + (1.0 - self.floor) * (1.0 + math.cos(math.pi * fallen)) / 2.0


class InverseSquareRoot(Schedule):
    """Rises linearly over `warmup`, then falls as 1 / √spent (Vaswani et al. 2017, section 5.3)."""

    warmup: SomeShare = 0.01

    @property
    def in_words(self) -> str:
        """Its shape and its warm-up."""
        return _risen(super().in_words, self.warmup)

    def factor(self, spent: float) -> float:
        """Return min(spent / warmup, √(warmup / spent))."""
        return spent / self.warmup if spent < self.warmup else math.sqrt(self.warmup / spent)


class ScaledWithBatch(Schedule):
    """Another schedule's curve, times (batch / batch of the first stage)^power.

    With a power of 1 the rate is scaled linearly (Goyal et al. 2017, section 2.1; Smith et al. 2018, arXiv:1711.00489),
    with 1/2 as the square root (Krizhevsky 2014). A batch that grows in place of a rate that falls, as Smith et al.
    have it, needs no scaling: it is stages of growing batches under `Constant`.
    """

    curve: Schedule = Constant()
    power: float = 1.0

    @property
    def in_words(self) -> str:
        """The curve, and how it goes with the batch."""
        return f"{self.curve.in_words}, times batch" + ("" if self.power == 1 else f"^{self.power:g}")

    def factor(self, spent: float) -> float:
        """Return the curve's factor."""
        return self.curve.factor(spent)

    def scale(self, batch_ratio: float) -> float:
        """Return batch_ratio^power."""
        return math.pow(batch_ratio, self.power) * self.curve.scale(batch_ratio)


def _risen(shape: str, warmup: float) -> str:
    """Return a curve's name with its warm-up."""
    return f"{shape}, warm-up {100 * warmup:.3g}%" if warmup else shape
