"""Cross-entropy over a vocabulary that is split among processes, each of which computes the logits of some tokens.

No process holds all logits: maxima, sums of exponentials and the labels' logits are exchanged, three numbers a target.

Source: Shoeybi et al. 2019 (Megatron-LM), section 3: fusing the parallel matrix product with the cross-entropy loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from genus.model.head.chunked_loss import gumbel, in_chunks
from genus.model.split import enter, leave

if TYPE_CHECKING:
    from genus.batch import Targets
    from genus.model.split import Peers


def split_likelihood(
    states_ME: Tensor,
    weight_VE: Tensor,
    bias_V: Tensor | None,
    targets: Targets,
    peers: Peers,
    *,
    sample: bool = False,
    smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> dict[str, Tensor]:
    """Return what `chunked_loss.likelihood` does, the same in all processes; V are the tokens of this process."""
    number = len(weight_VE)

    def of(states: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        """Return nll, mean -log p, log Z, whether the label is the argmax, and samples, one per row."""
        logits = F.linear(states, weight_VE, bias_V).float()
        log_z = _LogSumExp.apply(logits, peers)  # type: ignore[no-untyped-call]
        own = label - peers.place * number
        inside = (own >= 0) & (own < number)
        chosen = leave(logits.gather(1, own.clamp(0, number - 1)[:, None])[:, 0] * inside, peers)
        even = log_z - leave(logits.sum(-1), peers) / (number * peers.parts) if smoothing else torch.zeros_like(log_z)
        hit = _argmax(logits.detach(), peers) == label
        drawn = _sampled(logits.detach(), peers) if sample else label
        return log_z - chosen, even, log_z, hit, drawn

    nll_M, even_M, log_z_M, hit_M, drawn_M = in_chunks(of, number, enter(states_ME, peers), targets.label)
    square_M = z_loss * log_z_M**2
    loss_M = (1 - smoothing) * nll_M + smoothing * even_M + square_M
    correct = (hit_M if targets.weight is None else hit_M * targets.weight).sum()
    found = {"loss": targets.total(loss_M), "correct": correct}
    found |= {"nll": targets.total(nll_M.detach())} if smoothing or z_loss else {}
    found |= {"z_loss": targets.total(square_M.detach())} if z_loss else {}
    return found | ({"sampled": drawn_M} if sample else {})


class _LogSumExp(torch.autograd.Function):
    """log Σ exp(logit) (M,) over the tokens of all processes."""

    @staticmethod
    def forward(ctx: Any, logits_MV: Tensor, peers: Peers) -> Tensor:
        largest = logits_MV.amax(-1)
        distributed.all_reduce(largest, distributed.ReduceOp.MAX, group=peers.group)
        total = (logits_MV - largest[:, None]).exp_().sum(-1)
        distributed.all_reduce(total, group=peers.group)
        log_z = total.log_() + largest
        ctx.save_for_backward(logits_MV, log_z)
        return log_z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_M: Tensor) -> tuple[Tensor, None]:
        logits_MV, log_z_M = ctx.saved_tensors
        return (logits_MV - log_z_M[:, None]).exp_() * grad_M[:, None], None


@torch.no_grad()
def _argmax(logits_MV: Tensor, peers: Peers) -> Tensor:
    """Return the index (M,) of the largest logit among the tokens of all processes; of equal ones, the first."""
    largest, index = logits_MV.max(-1)
    best = largest.clone()
    distributed.all_reduce(best, distributed.ReduceOp.MAX, group=peers.group)
    number = logits_MV.shape[1]
    index = torch.where(largest == best, index + peers.place * number, peers.parts * number)
    distributed.all_reduce(index, distributed.ReduceOp.MIN, group=peers.group)
    return index


@torch.no_grad()
def _sampled(logits_MV: Tensor, peers: Peers) -> Tensor:
    """Sample tokens (M,) from softmax(logits); all processes draw the noise of all tokens, as one alone does."""
    noise = gumbel(logits_MV.new_empty(len(logits_MV), logits_MV.shape[1] * peers.parts))
    return _argmax(logits_MV + noise.chunk(peers.parts, -1)[peers.place], peers)
