"""Supervised contrastive fine-tuning: examples of a class are drawn together, and away from those of other classes.

Legend: M examples of an update, H size of the pooled state, V classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from genus.batch import IGNORE
from genus.objectives.joint import JointHead
from genus.objectives.linear_head import LinearHead
from genus.objectives.supervised.regularized import RegularizedClassification
from genus.part import Positive, Share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from genus.batch import Batch, Targets
    from genus.model import Model, Network, States
    from genus.objectives import Sums


class SupervisedContrastive(RegularizedClassification):
    """L = (1 - λ) CE + λ SCL over the M examples of an update, with Φ(x) = h / |h| of the pooled state h.

    CE = -1/M Σ_i log softmax(W d(h_i) + b)[y_i], with d dropout.
    SCL = Σ_i -1/(M_i - 1) Σ_{j≠i, y_j=y_i} log exp(Φ_i·Φ_j/τ) / Σ_{k≠i} exp(Φ_i·Φ_k/τ), M_i examples having i's class.
    An example without another one of its class adds nothing to SCL. As in the paper, CE is a mean and SCL a sum.

    Source: Gunel et al. 2021 (arXiv:2011.01403), equations 1 to 3. There Φ is the normalized last hidden state before
    the softmax layer, RoBERTa's of `<s>`; here it is the input of the classifier before its dropout, which a pooler
    makes, where there is one.
    """

    weight: Share = 0.9
    """λ: 0.9, with τ = 0.3, was best most often (Gunel et al. 2021, section 4.2)."""
    temperature: Positive = 0.3
    """τ."""

    def build(self, model: Model, vocab_size: int) -> ContrastiveHead:
        """Build the linear head, whose loss is of all examples of an update."""
        return ContrastiveHead(self, model)

    def loss(self, logits_MV: Tensor, states_MH: Tensor, label_M: Tensor) -> Tensor:
        """Return L times the number of labeled examples.

        Args:
            logits_MV: of all examples of an update.
            states_MH: their pooled states.
            label_M: their classes; `IGNORE` for none.
        """
        total = F.cross_entropy(logits_MV, label_M, ignore_index=IGNORE, reduction="sum")
        contrast = supervised_contrastive(states_MH, label_M, self.temperature)
        return (1 - self.weight) * total + self.weight * contrast * (label_M != IGNORE).sum()


class ContrastiveHead(LinearHead, JointHead):
    """Linear layer on pooled states, with a loss that compares the examples of an update."""

    compares = "compared"
    choice: SupervisedContrastive

    def outputs(self, network: Network, states: States, batch: Batch) -> dict[str, Tensor]:
        """Return the logits (M, V); in training also what the loss compares: logits and pooled state side by side."""
        states_MH = self.read(network, states, batch.targets[self.target])
        states_MH = states_MH if states_MH.dim() == 2 else states_MH.sum(1)
        logits_MV = self.classes(self.dropout(states_MH))
        found = {self.choice.answer: logits_MV}
        if self.training:
            dtype = torch.promote_types(states_MH.dtype, torch.float32)
            found[self.compares] = torch.cat([logits_MV.to(dtype), states_MH.to(dtype)], dim=1)
        return found

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return the loss of the batch as of a whole step in training, otherwise its cross-entropy."""
        if self.training:
            return JointHead.forward(self, network, states, batch)
        return LinearHead.forward(self, network, states, batch)

    def joint_loss(self, compared: Sequence[Tensor], targets: Sequence[Targets]) -> Tensor:
        """Return the loss of a whole step, times the number of its labeled examples."""
        values, label_M = torch.cat([*compared]), torch.cat([one.label for one in targets])
        with torch.autocast(values.device.type, enabled=False):
            classes = self.choice.outputs
            return self.choice.loss(values[:, :classes], values[:, classes:], label_M)

    def compile_units(self) -> list[nn.Module]:
        """Return none: the loss compares as many examples as there are."""
        return []


def supervised_contrastive(states_MH: Tensor, label_M: Tensor, temperature: float) -> Tensor:
    """Return SCL, a scalar; examples whose label is `IGNORE` are left out."""
    unit_MH = F.normalize(states_MH, dim=-1)
    known_M = label_M != IGNORE
    other_MM = ~torch.eye(len(label_M), dtype=torch.bool, device=label_M.device) & known_M & known_M[:, None]
    same_MM = other_MM & (label_M == label_M[:, None])
    scores_MM = (unit_MH @ unit_MH.T / temperature).masked_fill(~other_MM, torch.finfo(unit_MH.dtype).min)
    likely_MM = scores_MM.log_softmax(1).masked_fill(~same_MM, 0.0)
    return -(likely_MM.sum(1) / same_MM.sum(1).clamp(min=1)).sum()
