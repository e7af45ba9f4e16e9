"""Station 6: the slots `Optimizer` and `Schedule`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from genus.part import NotNegative, Part, Positive, Share

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer as TorchOptimizer


class Optimizer(Part, ABC):
    """A choice of update rule; `lr` is the peak that the schedule scales."""

    moments: ClassVar[int] = 2
    """Numbers that are kept beside each parameter, as wide as the parameter."""

    lr: NotNegative
    clip_norm: Positive | None = None
    """Largest global L2 norm of the gradient, None for no clipping."""
    layer_decay: Share = 1.0
    """Factor on the peak rate from one level of the network to the one below it; 1 for the same rate everywhere."""

    @property
    def in_words(self) -> str:
        """Its name and its peak."""
        return f"{type(self).__name__}, peak rate {self.lr:g}"

    @abstractmethod
    def build(self, module: nn.Module) -> TorchOptimizer:
        """Return the optimizer over the module's parameters, in groups; each holds its peak rate as `base_lr`."""


class Schedule(Part, ABC):
    """A choice of learning-rate curve over the fraction of the budget that is spent."""

    @abstractmethod
    def factor(self, spent: float) -> float:
        """Return the factor on the peak rate when `spent` (0 to 1) of the budget is spent."""

    def scale(self, batch_ratio: float) -> float:
        """Return a further factor for a stage whose batch is `batch_ratio` times that of the first stage."""
        return 1.0
