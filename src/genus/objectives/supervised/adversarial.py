"""Sequence classification that learns from texts whose token embeddings are perturbed against it.

Legend: T token positions, E size of an embedding, J sequences of a packed batch, those of padding included.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated

import torch

from genus.errors import UsageError
from genus.model.input_embeddings import changed_embeddings
from genus.objectives.linear_head import LinearHead
from genus.objectives.supervised.regularized import RegularizedClassification
from genus.objectives.supervised.sequence import SequenceClassification
from genus.part import NotNegative, Positive
from genus.part.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genus.batch import Batch, Packed
    from genus.model import Model, Network, States
    from genus.objectives import Sums
    from genus.objectives.supervised import FineTuned

Passes = Annotated[int, Range("at least 2", lambda number: number >= 2)]
TINY = 1e-8
"""Least norm that a gradient is divided by (released code of FreeLB, run_glue_freelb.py: denorm)."""


class AdversarialClassification(RegularizedClassification):
    """L = mean over t = 0 ... K - 1 of CE(x + δ_t), with δ_(t+1) = Π(δ_t + α g / ||g||) and g = ∇_δ CE(x + δ_t).

    x are the token embeddings of a sequence before positions are added, ||·|| is over all of its tokens, and Π scales δ
    to a norm of ε at most. δ_0 is uniform with a norm of about m / √3, or 0. FGM (Miyato et al. 2017, arXiv:1605.07725,
    equation 5) is K = 2 without start and bound, where α is its norm: L is then half of the sum of the plain and the
    adversarial loss; it perturbs normalized embeddings.

    Source: Zhu et al. 2020 (arXiv:1909.11764, FreeLB), algorithm 1; defaults are those of its SST-2 in the released
    code, huggingface-transformers/launch/run_glue.sh. Deviation: the passes of an update have dropout of their own.
    """

    passes: Passes = 3
    """K (--adv-steps)."""
    step: Positive = 0.1
    """α (--adv-lr)."""
    start: NotNegative = 1.0
    """m (--adv-init-mag); 0: δ_0 is 0."""
    bound: NotNegative = 0.6
    """ε (--adv-max-norm); 0: none."""

    def build(self, model: Model, vocab_size: int) -> AdversarialHead:
        """Build the linear head, which has the loss in training."""
        return AdversarialHead(self, model)


def adversarial(
    objective: FineTuned, passes: int, step: float, start: float, bound: float
) -> AdversarialClassification:
    """Return an objective of sequence classification that learns from perturbed embeddings.

    Raises:
        UsageError: it is another one, or has a loss of its own.
    """
    if type(objective) is not SequenceClassification:
        kind = type(objective).__name__
        raise UsageError(f"augmentation: adversarial training has a loss of its own, as has {kind}; take --task "
                         "classification")  # fmt: skip
    return AdversarialClassification(
        passes=passes, step=step, start=start, bound=bound,
        **{one.name: getattr(objective, one.name) for one in fields(objective)},
    )  # fmt: skip


class AdversarialHead(LinearHead):
    """Linear layer whose loss in training is the mean of several forward passes on perturbed embeddings."""

    choice: AdversarialClassification

    def forward(self, network: Network, states: States, batch: Batch) -> Sums:
        """Return L in training, otherwise the cross-entropy of the states.

        The passes are made here, and the states, of the text without perturbation, are not read. Further sums:
        `.../correct` of the first pass, and `.../adversarial`, the cross-entropy of the last one.
        """
        if not self.training:
            return super().forward(network, states, batch)
        choice = self.choice
        delta: dict[tuple[int, str], Tensor] = {}

        def perturbed(module: nn.Module, stream: str, output: Tensor) -> Tensor:
            key = id(module), stream
            if key not in delta:
                delta[key] = started(output, batch.streams[stream], choice.start)
            delta[key] = delta[key].detach().requires_grad_()
            return output + delta[key]

        found: list[Sums] = []
        with torch.enable_grad(), changed_embeddings(network, batch, perturbed):
            for number in range(choice.passes):
                found.append(super().forward(network, network(batch), batch))
                if number < choice.passes - 1:
                    grads = torch.autograd.grad(found[-1][self.loss], [*delta.values()], retain_graph=True)
                    for key, grad in zip([*delta], grads, strict=True):
                        packed = batch.streams[key[1]]
                        delta[key] = ascended(delta[key].detach(), grad, packed, choice.step, choice.bound)
        losses = torch.stack([one[self.loss] for one in found])
        return found[0] | {self.loss: losses.mean(), f"{self.loss}/adversarial": losses[-1].detach()}

    def compile_units(self) -> list[nn.Module]:
        """Return none: it makes forward passes of the network."""
        return []


def started(like_TE: Tensor, packed: Packed, magnitude: float) -> Tensor:
    """Return δ_0 (T, E): uniform in ± m / √(n E) for a sequence of n tokens, 0 for padding."""
    if not magnitude:
        return torch.zeros_like(like_TE)
    entry_T = packed.entries().to(like_TE.device)
    length_T = packed.lengths_of_entries().to(like_TE.device)[entry_T]
    each_T = torch.where(length_T > 0, magnitude / (length_T * like_TE.shape[1]).clamp(min=1).sqrt(), 0.0)
    return (2 * torch.rand_like(like_TE) - 1) * each_T[:, None].to(like_TE.dtype)


def ascended(delta_TE: Tensor, grad_TE: Tensor, packed: Packed, step: float, bound: float) -> Tensor:
    """Return Π(δ + α g / ||g||) (T, E), by sequence."""
    entry_T = packed.entries().to(delta_TE.device)
    entries = len(packed.offsets) - 1
    delta_TE = delta_TE + step * grad_TE / norms(grad_TE, entry_T, entries).clamp(min=TINY)[:, None]
    if not bound:
        return delta_TE
    return delta_TE * (bound / norms(delta_TE, entry_T, entries).clamp(min=TINY)).clamp(max=1.0)[:, None]


def norms(values_TE: Tensor, entry_T: Tensor, entries: int) -> Tensor:
    """Return (T,) for each token the Euclidean norm over all values of its sequence."""
    total_J = values_TE.new_zeros(entries).index_add(0, entry_T, values_TE.square().sum(-1))
    return total_J.sqrt()[entry_T]
