"""Sequence classification that learns from mixtures of two examples of a batch.

Legend: M examples of a batch, V classes.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from genus.batch import IGNORE
from genus.errors import UsageError
from genus.objectives.linear_head import LinearHead
from genus.objectives.supervised.regularized import RegularizedClassification
from genus.objectives.supervised.sequence import SequenceClassification
from genus.part import Positive

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genus.batch import Batch
    from genus.model import Model, Network, States
    from genus.objectives import Sums
    from genus.objectives.supervised import FineTuned


class MixedClassification(RegularizedClassification):
    """Sequence classification of λ h_i + (1 - λ) h_j, whose label is y_i to the share λ, and y_j to the share 1 - λ.

    h are pooled states; j is drawn by a permutation of the examples of a forward pass, λ from Beta(alpha, alpha) for
    each i.

    Source: Zhang et al. 2018 (arXiv:1710.09412), equation 1, of sentence representations, as Guo et al. 2019
    (arXiv:1905.08941), section 3.2 (senMixup).
    """

    alpha: Positive = 1.0
    """alpha: 1, λ uniform from 0 to 1 (Guo et al. 2019, section 4)."""

    def build(self, model: Model, vocab_size: int) -> MixedHead:
        """Build the linear head, which mixes in training."""
        return MixedHead(self, model)


def mixed(objective: FineTuned, alpha: float) -> MixedClassification:
    """Return an objective of sequence classification that learns from mixtures.

    Raises:
        UsageError: it is another one, or has a loss of its own.
    """
    if type(objective) is not SequenceClassification:
        kind = type(objective).__name__
        raise UsageError(f"augmentation: mixtures have a loss of their own, as has {kind}; take --task classification")
    return MixedClassification(alpha=alpha, **{one.name: getattr(objective, one.name) for one in fields(objective)})


class MixedHead(LinearHead):
    """Linear layer on mixtures of pooled states, which are mixtures of its outputs, as it is linear."""

    choice: MixedClassification

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the loss of mixtures in training, otherwise the cross-entropy; draws are those of the forward pass."""
        if not self.training:
            return super().forward(network, states, batch)
        logits_MV = self.outputs(network, states, batch)[self.choice.answer].float()
        label_M = batch.targets[self.target].label
        order_M = torch.randperm(len(label_M), device=label_M.device)
        order_M = torch.where(label_M[order_M] == IGNORE, torch.arange(len(label_M), device=label_M.device), order_M)
        alpha = torch.tensor(self.choice.alpha, device=label_M.device)
        share_M = torch.distributions.Beta(alpha, alpha).sample((len(label_M),))
        return {self.loss: mixed_loss(logits_MV, label_M, order_M, share_M)}

    def compile_units(self) -> list[nn.Module]:
        """Return none: a Beta distribution is drawn from."""
        return []


def mixed_loss(logits_MV: Tensor, label_M: Tensor, order_M: Tensor, share_M: Tensor) -> Tensor:
    """Return the summed loss of example i mixed with example order[i], with the shares λ and 1 - λ."""
    mixed_MV = share_M[:, None] * logits_MV + (1 - share_M[:, None]) * logits_MV[order_M]
    own_M, other_M = (
        F.cross_entropy(mixed_MV, one, ignore_index=IGNORE, reduction="none") for one in (label_M, label_M[order_M])
    )
    return torch.where(label_M == IGNORE, 0.0, share_M * own_M + (1 - share_M) * other_M).sum()
