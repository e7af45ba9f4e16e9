"""Sequence classification that also learns to answer a changed text as the text itself, of texts without labels.

Legend: M labeled examples, each with S texts without labels, U = M S texts without labels, V classes.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional as F

from genus.errors import UsageError
from genus.objectives.linear_head import LinearHead
from genus.objectives.supervised.regularized import RegularizedClassification
from genus.objectives.supervised.sequence import SequenceClassification
from genus.part import Natural, Positive, Share

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genus.batch import Batch
    from genus.model import Model, Network, States
    from genus.objectives import Sums
    from genus.objectives.supervised import FineTuned

Annealing = Literal["none", "linear", "log", "exp"]
STEEP = 5.0
"""Of the schedules log and exp (Xie et al. 2020, released code, text/uda.py, get_tsa_threshold: scale)."""


class ConsistentClassification(RegularizedClassification):
    """L = CE + w · mean of [max p(x) > β] KL(p_τ(x) || p(x')) over texts x without labels and changed texts x'.

    p = softmax(logits), p_τ = softmax(logits / τ), and nothing flows back through x. Dropout is as in all training. CE
    is the mean over the labeled examples whose label has a probability of η(t) at most, t being the share of training
    that is over: η = a(t) (1 - 1/V) + 1/V with a = t (linear), 1 - exp(-5 t) (log), exp(5 (t - 1)) (exp), so that few
    labels are not learned by heart before the texts are. With none, CE is over all.

    Source: Xie et al. 2020 (arXiv:1904.12848), section 2; released code, text/uda.py, create_model and
    get_tsa_threshold. With several forward passes an update, the mean of CE is over those of a pass.
    """

    weight: Positive = 1.0
    """w (released code, text/main.py: uda_coeff, 1 for all experiments with texts)."""
    temperature: Positive = 1.0
    """τ: 1, no sharpening (the same: uda_softmax_temp; its train_large_ft_uda_tpu.sh has 0.85)."""
    confidence: Share = 0.0
    """β: 0, all texts count (the same: uda_confidence_thresh)."""
    annealing: Annealing = "linear"
    """The schedule of η (released code, text/scripts/run_base_uda.sh: --tsa)."""
    passed: Natural = 0
    """Labeled examples that all of training passes, each as often as it comes, by which t is counted."""

    def build(self, model: Model, vocab_size: int) -> ConsistentHead:
        """Build the linear head, which has the loss in training."""
        return ConsistentHead(self, model)

    def total(self, supervised: Tensor, divergence: Tensor) -> Tensor:
        """Return L of its two terms."""
        return supervised + self.weight * divergence

    def threshold(self, progress: float) -> float:
        """Return η at a share of training from 0 to 1; 1 without annealing."""
        if self.annealing == "none":
            return 1.0
        if self.annealing == "linear":
            over = progress
        else:
            over = 1 - math.exp(-STEEP * progress) if self.annealing == "log" else math.exp(STEEP * (progress - 1))
        return over * (1 - 1 / self.outputs) + 1 / self.outputs


def consistent(
    objective: FineTuned, weight: float, temperature: float, confidence: float, annealing: Annealing, passed: int
) -> ConsistentClassification:
    """Return an objective of sequence classification that learns from texts without labels too.

    Raises:
        UsageError: it is another one, or has a loss of its own; pairs are read in both orders.
    """
    if type(objective) is not SequenceClassification or objective.symmetric:
        kind = f"{type(objective).__name__}{' in both orders' * objective.symmetric}"
        raise UsageError(f"augmentation: consistency is a loss of its own, as has {kind}; take --task classification, "
                         "in one order")  # fmt: skip
    return ConsistentClassification(
        weight=weight, temperature=temperature, confidence=confidence, annealing=annealing, passed=passed,
        **{one.name: getattr(objective, one.name) for one in fields(objective)},
    )  # fmt: skip


class ConsistentHead(LinearHead):
    """Linear layer whose targets have 1 + 2 S sequences in training: a labeled text, S texts, and S changed ones."""

    choice: ConsistentClassification
    seen: int = 0
    """Labeled examples that training has passed."""

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return L in training, as a sum over labeled examples, otherwise the cross-entropy.

        Further sums: `.../learned`, the labels that are learned now; per labeled example `.../consistency`, the mean of
        the divergences that count, and `.../confident`, the share of texts of which they count.
        """
        targets = batch.targets[self.target]
        if not self.training or targets.index.dim() == 1:
            return super().forward(network, states, batch)
        logits_MKV = self.classes(self.dropout(self.read(network, states, targets))).float()
        own_MV, (text_UV, changed_UV) = (
            logits_MKV[:, 0],
            (half.flatten(0, 1) for half in logits_MKV[:, 1:].chunk(2, dim=1)),
        )
        choice, number = self.choice, len(own_MV)
        threshold = choice.threshold(min(1.0, self.seen / max(1, choice.passed)))
        self.seen += number
        each_M, learned_M = annealed(own_MV, targets.label, threshold)
        each_U, sure_U = divergences(text_UV, changed_UV, choice.temperature, choice.confidence)
        supervised = each_M.sum() / learned_M.sum().clamp(min=1)
        return {
            self.loss: number * choice.total(supervised, each_U.mean()),
            f"{self.loss}/correct": (own_MV.argmax(-1) == targets.label).sum(),
            f"{self.loss}/learned": learned_M.sum(),
            f"{self.loss}/consistency": number * each_U.detach().mean(),
            f"{self.loss}/confident": number * sure_U.float().mean(),
        }

    def compile_units(self) -> list[nn.Module]:
        """Return none: the threshold changes with every pass."""
        return []


def annealed(logits_MV: Tensor, label_M: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy (M,), 0 where the label's probability is over the threshold, and where it is not."""
    loss_M = F.cross_entropy(logits_MV, label_M, reduction="none")
    learned_M = (-loss_M.detach()).exp() <= threshold
    return torch.where(learned_M, loss_M, 0.0), learned_M


def divergences(text_UV: Tensor, changed_UV: Tensor, temperature: float, confidence: float) -> tuple[Tensor, Tensor]:
    """Return KL(p_τ || p') (U,), 0 where the model is not confident of the text, and where it is."""
    fixed_UV = text_UV.detach()
    sure_U = fixed_UV.softmax(-1).amax(-1) > confidence
    aim_UV = (fixed_UV / temperature).log_softmax(-1)
    each_U = F.kl_div(changed_UV.log_softmax(-1), aim_UV, reduction="none", log_target=True).sum(-1)
    return torch.where(sure_U, each_U, 0.0), sure_U
