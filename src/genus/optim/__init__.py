"""Optimizers and learning-rate schedules (station 6): the slots `Optimizer` and `Schedule`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from genus.part import NotNegative, Part, Positive, Share

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer as TorchOptimizer


class Optimizer(Part, ABC):
    """A choice of optimizer; `lr` is the peak learning rate, which the schedule scales."""

    moments: ClassVar[int] = 2
    """Optimizer state per parameter: the number of moments of the parameter's shape."""
    averages: ClassVar[bool] = False
    """Whether its result is an average of the weights (`averaging.py`)."""

    lr: NotNegative
    clip_norm: Positive | None = None
    """Largest L2 norm of the gradient, None for no clipping."""
    clip_by: Literal["global", "tensor"] = "global"
    """What `clip_norm` bounds: the norm of the whole gradient, or that of each parameter's own (BERT's first PyTorch
    code, BertAdam)."""
    layer_decay: Share = 1.0
    """Layer-wise learning-rate decay: factor on the peak rate from one layer to the one below; 1 for none."""

    @property
    def in_words(self) -> str:
        """Name and peak learning rate, for tables."""
        return f"{type(self).__name__}, peak rate {self.lr:g}"

    @abstractmethod
    def build(self, module: nn.Module) -> TorchOptimizer:
        """Return the PyTorch optimizer of the module's parameters; each group has its peak learning rate `base_lr`."""


class Schedule(Part, ABC):
    """A choice of learning-rate schedule over the fraction of the budget that is spent."""

    @abstractmethod
    def factor(self, spent: float) -> float:
        """Return the factor on the peak learning rate when `spent` (0 to 1) of the budget is spent."""

    def scale(self, batch_ratio: float) -> float:
        """Return a further factor for a stage whose batch is `batch_ratio` times that of the first stage."""
        return 1.0
