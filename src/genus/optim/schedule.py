"""Learning-rate schedules: functions of the fraction of the budget that is spent, and of the batch size if it grows."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from genus.optim import Schedule
from genus.part import Fraction, Share, SomeShare


class Warmed(Schedule, ABC):
    """Linear warm-up over `warmup`, a fraction of the budget, to the peak learning rate; what follows is the part's."""

    warmup: Fraction

    @property
    def in_words(self) -> str:
        """Name of the schedule and its warm-up in percent, for tables."""
        return f"{super().in_words}, warm-up {100 * self.warmup:.3g}%" if self.warmup else super().in_words

    def factor(self, spent: float) -> float:
        """Return spent / warmup in the warm-up, and after it `decayed`."""
        return spent / self.warmup if spent < self.warmup else self.decayed(spent)

    @abstractmethod
    def decayed(self, spent: float) -> float:
        """Return the factor after the warm-up."""


class Linear(Warmed):
    """Linear warm-up over `warmup`, a fraction of the budget, then linear decay to 0 (Devlin et al. 2018, A.2).

    Deviation: BERT's released code (optimization.py) starts the decay at 0 spent, so that its rate drops at once from
    the peak to 1 - warmup of it where the warm-up ends; here, as in RoBERTa's code, the decay starts at the peak.
    """

    warmup: Fraction = 0.01

    def decayed(self, spent: float) -> float:
        """Return (1 - spent) / (1 - warmup)."""
        return max(0.0, (1.0 - spent) / (1.0 - self.warmup))


class Constant(Warmed):
    """Linear warm-up over `warmup`, a fraction of the budget, then the constant peak learning rate."""

    warmup: Share = 0.0

    def decayed(self, spent: float) -> float:
        """Return 1."""
        return 1.0


class Cosine(Warmed):
    """Linear warm-up over `warmup`, then cosine decay to `floor` (Loshchilov and Hutter 2016, eq. 5)."""

    warmup: Fraction = 0.01
    floor: Share = 0.0
    """Learning rate at the end, as a fraction of the peak."""

    def decayed(self, spent: float) -> float:
        """Return floor + (1 - floor) (1 + cos(π (spent - warmup) / (1 - warmup))) / 2."""
        return self.fallen(spent, 1.0)

    def fallen(self, spent: float, end: float) -> float:
        """Return the factor after the warm-up if the decay ends at the fraction `end` of the budget."""
        share = min(1.0, (spent - self.warmup) / (end - self.warmup))
        return self.floor + (1.0 - self.floor) * (1.0 + math.cos(math.pi * share)) / 2.0


class CosineThenConstant(Cosine):
    """Linear warm-up and cosine decay to `floor` by `end`, then the constant floor (Brown et al. 2020, appendix B)."""

    end: Share = 0.9
    """Fraction of the budget at which the decay ends."""

    def __post_init__(self) -> None:
        """Check that the decay does not end before the warm-up.

        Raises:
            ValueError: `end` is at most `warmup`.
        """
        if self.end <= self.warmup:
            raise ValueError(
                f"end: the decay ends at {self.end:g} of the budget, before its warm-up at {self.warmup:g}"
            )

    def decayed(self, spent: float) -> float:
        """Return the factor of `Cosine` for a decay that ends at `end`."""
        return self.fallen(spent, self.end)


class Exponential(Warmed):
    """Linear warm-up over `warmup`, then exponential decay to `end`, a fraction of the peak."""

    warmup: Fraction = 0.0
    end: SomeShare = 0.01

    def decayed(self, spent: float) -> float:
        """Return end^((spent - warmup) / (1 - warmup))."""
        return math.pow(self.end, (spent - self.warmup) / (1.0 - self.warmup))


class InverseSquareRoot(Warmed):
    """Linear warm-up over `warmup`, then inverse square root decay, 1 / √spent (Vaswani et al. 2017, section 5.3)."""

    warmup: SomeShare = 0.01

    def decayed(self, spent: float) -> float:
        """Return √(warmup / spent)."""
        return math.sqrt(self.warmup / spent)


class ScaledWithBatch(Schedule):
    """Learning-rate scaling with batch size: another schedule, times (batch / batch of the first stage)^power.

    Power 1 is the linear scaling rule (Goyal et al. 2017, section 2.1; Smith et al. 2018, arXiv:1711.00489), power 1/2
    is square-root scaling (Krizhevsky 2014). A batch that grows instead of a rate that decays, as in Smith et al.,
    needs no scaling: it is stages of growing batches with `Constant`.
    """

    curve: Schedule = Constant()
    power: float = 1.0

    @property
    def in_words(self) -> str:
        """Name of the scaled schedule, and the power of the batch size, for tables."""
        return f"{self.curve.in_words}, times batch" + ("" if self.power == 1 else f"^{self.power:g}")

    def factor(self, spent: float) -> float:
        """Return the factor of the scaled schedule."""
        return self.curve.factor(spent)

    def scale(self, batch_ratio: float) -> float:
        """Return batch_ratio^power, times the scaled schedule's own factor."""
        return math.pow(batch_ratio, self.power) * self.curve.scale(batch_ratio)
