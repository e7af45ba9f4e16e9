"""Gradient times input: what each token of a batch contributes to a number that a learner computes.

The gradient is that of the token embedding, before positions are added: dy/de · e for each token, which says by how
much y falls, to first order, if the embedding is scaled down to 0.

Source: Denil et al. 2014, Extraction of Salient Sentences from Labelled Documents (arXiv:1412.6815), section 4;
Shrikumar et al. 2016, Not Just a Black Box (arXiv:1605.01713), which compares the methods of this kind.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from genus.model.input_embeddings import changed_embeddings
from genus.objectives import evaluating

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from genus.batch import Batch
    from genus.objectives import Learner


def gradient_times_input(
    learner: Learner, batch: Batch, target: str, number: Callable[[dict[str, Tensor]], Tensor]
) -> dict[str, NDArray[np.float64]]:
    """Return dy/de · e (T,) of every token of each stream.

    The token embeddings are read by a hook on the modules that look them up; no weight changes, nor gets a gradient.

    Args:
        learner: on the device of the batch; without dropout, whatever its mode.
        batch: the sequences.
        target: name of the head whose outputs are asked.
        number: y, given these outputs by name.
    """
    found: list[tuple[str, Tensor]] = []

    def taken(_: nn.Module, stream: str, output: Tensor) -> Tensor:
        found.append((stream, leaf := output.detach().requires_grad_()))
        return leaf

    asked = replace(batch, heads=frozenset({target}))
    with evaluating(learner), torch.enable_grad(), changed_embeddings(learner.network, asked, taken):
        y = number(learner.outputs(asked)[target])
        gradients = torch.autograd.grad(y, [leaf for _, leaf in found], allow_unused=True)
    totals = {name: np.zeros(packed.ids.numel()) for name, packed in batch.streams.items()}
    for (name, leaf), gradient in zip(found, gradients, strict=True):
        if gradient is not None:
            totals[name] += (gradient * leaf.detach()).sum(-1).double().cpu().numpy()
    return totals


def log_odds(logits_V: Tensor, chosen: int) -> Tensor:
    """Return log p / (1 - p) of a class: its logit less the log-sum-exp of the others, which does not saturate."""
    others = torch.cat([logits_V[:chosen], logits_V[chosen + 1 :]])
    return logits_V[chosen] - others.logsumexp(0)
