"""The penalty on the divergence of a policy from its reference: beta, fixed or by a controller."""

from __future__ import annotations

from abc import ABC, abstractmethod

from genus.part import NotNegative, Part, Positive


class KLPenalty(Part, ABC):
    """The slot of penalties: a policy's reward per token has -beta (log pi - log rho) added."""

    beta: NotNegative
    """The coefficient in nats to begin with."""

    @abstractmethod
    def after(self, beta: float, divergence: float) -> float:
        """Return the coefficient of the next batch, given that of the last one and its KL(pi || rho) per response."""


class FixedKL(KLPenalty):
    """A fixed coefficient."""

    beta: NotNegative = 0.2
    """Released code, train_policy.py: RewardHParams.kl_coef."""

    def after(self, beta: float, divergence: float) -> float:
        """Return the same coefficient."""
        return beta


class AdaptiveKL(KLPenalty):
    """Log-space proportional controller of the coefficient, which seeks a target of the divergence.

        e = clip(KL / target - 1, -bound, bound),  beta <- beta (1 + gain e)

    Source: Ziegler et al. 2019, section 2.2, whose gain is 0.1. Their released code has e times the share of 10,000
    episodes that a batch is (train_policy.py: AdaptiveKLController), which for its batch of 512 is a gain of 0.05.
    """

    beta: NotNegative = 0.15
    """Released code, launch.py: kl_coef of the sentiment task."""
    target: Positive = 6.0
    """KL(pi || rho) per response in nats (the same: adaptive_kl.target)."""
    gain: Positive = 0.1
    """K of the paper."""
    bound: Positive = 0.2
    """Of the relative error (the paper, and the released code)."""

    def after(self, beta: float, divergence: float) -> float:
        """Return beta (1 + gain e)."""
        return beta * (1 + self.gain * min(max(divergence / self.target - 1, -self.bound), self.bound))
