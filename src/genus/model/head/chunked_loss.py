"""Cross-entropy loss over a large vocabulary in chunks of targets, without storing all logits at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from genus.batch import IGNORE

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.batch import Targets

CHUNK = 2**24
"""Logits per chunk, 64 MiB in float32: for fewer one matrix product is fastest, for more memory is the limit."""


def chunk_rows(rows: int, width: int) -> int:
    """Return the number of rows of `width` elements per chunk: the fewest chunks of up to `CHUNK` elements, equal."""
    most = max(1, CHUNK // width)
    return rows if rows <= most else math.ceil(rows / math.ceil(rows / most))


def likelihood(
    states_ME: Tensor,
    weight_VE: Tensor,
    bias_V: Tensor | None,
    targets: Targets,
    *,
    sample: bool = False,
    smoothing: float = 0.0,
    z_loss: float = 0.0,
    classes: int | None = None,
) -> dict[str, Tensor]:
    """Return the cross-entropy loss: the summed negative log-likelihood of the labels under softmax(x Wᵀ + b).

    With label smoothing, the loss of a target is (1 - smoothing) nll + smoothing · mean over the classes of -log p.
    With a z-loss, z_loss · (log Z)² is added, where Z = Σ exp(logit) over the classes normalizes the softmax.

    If all logits fit into one chunk they are kept for the backward pass. Else the gradients of each chunk are computed
    in the forward pass: three products per chunk in all, as without chunks, and no tensor of size (M, V) is kept.

    Args:
        states_ME: x, the inputs of the output matrix.
        weight_VE: the output matrix.
        bias_V: the output bias.
        targets: labels, and their weights, if any.
        sample: whether to sample a token from the softmax per target; the samples have no gradient.
        smoothing: the weight of the mean over all classes; 0 for none.
        z_loss: the weight of (log Z)²; 0 for none.
        classes: the number of classes, the first rows of the matrix; None: all of its rows.

    Returns:
        `loss` in nats, `correct`, the number of labels that are the argmax, and `sampled` (M,) if requested; with label
        smoothing or a z-loss also `nll`, the negative log-likelihood without either, and with the latter `z_loss`, the
        sum of z_loss · (log Z)²; these two have no gradient.
    """
    classes = len(weight_VE) if classes is None else classes
    rows = chunk_rows(len(states_ME), len(weight_VE))
    if rows < len(states_ME):
        share_M = targets.counted().float() if targets.weight is None else targets.weight.float()
        graded = torch.is_grad_enabled()
        loss, nll, square, correct, sampled = ChunkedLikelihood.apply(  # type: ignore[no-untyped-call]
            states_ME, weight_VE, bias_V, targets.label, share_M, rows, graded, sample, smoothing, z_loss, classes
        )
        correct = correct if targets.weight is not None else correct.long()
        found = {"loss": loss, "correct": correct} | ({"nll": nll} if smoothing or z_loss else {})
        found |= {"z_loss": z_loss * square} if z_loss else {}
        return found | ({"sampled": sampled} if sample else {})
    logits_MV = F.linear(states_ME, weight_VE, bias_V)
    if smoothing or z_loss:
        found = regularized(logits_MV[:, :classes], targets, smoothing, z_loss)
    else:
        found = dict(zip(("loss", "correct"), classified(logits_MV, targets), strict=True))
    return found | ({"sampled": drawn(logits_MV)} if sample else {})


def regularized(logits_MV: Tensor, targets: Targets, smoothing: float, z_loss: float) -> dict[str, Tensor]:
    """Return `loss`, the summed cross-entropy of smoothed labels with the z-loss in nats, and what `likelihood` tells.

    The smoothed label is 1 - smoothing + smoothing / V at the label, and smoothing / V at every other class.

    Sources: Szegedy et al. 2016, section 7; T5X, released code, losses.py, cross_entropy_with_logits.
    """
    logs_MV = logits_MV.float().log_softmax(-1)
    nll_M = -logs_MV.gather(1, targets.label.clamp(min=0)[:, None])[:, 0]
    loss_M = (1 - smoothing) * nll_M - smoothing * logs_MV.mean(-1)
    hit_M = logs_MV.detach().argmax(-1) == targets.label
    correct = hit_M.sum() if targets.weight is None else (hit_M * targets.weight).sum()
    found = {"nll": targets.total(nll_M.detach()), "correct": correct}
    if z_loss:
        square_M = z_loss * logits_MV.float().logsumexp(-1) ** 2
        loss_M = loss_M + square_M
        found["z_loss"] = targets.total(square_M.detach())
    return {"loss": targets.total(loss_M)} | found


def classified(logits_MV: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Return the summed negative log-likelihood of the labels in nats, and the number of labels that are the argmax.

    Both are weighted if the targets have weights.
    """
    wide_MV = logits_MV.float()  # on CPUs the argmax of bfloat16 takes five times as long
    hit_M = wide_MV.detach().argmax(-1) == targets.label
    if targets.weight is None:
        loss = F.cross_entropy(wide_MV, targets.label, ignore_index=IGNORE, reduction="sum")
        return loss, hit_M.sum()
    loss_M = F.cross_entropy(wide_MV, targets.label, ignore_index=IGNORE, reduction="none")
    return (loss_M * targets.weight).sum(), (hit_M * targets.weight).sum()


@torch.no_grad()
def drawn(logits_MV: Tensor) -> Tensor:
    """Sample tokens (M,) from softmax(logits): the argmax of logits + Gumbel noise (Gumbel 1954)."""
    logits = logits_MV.float()
    return (logits + gumbel(logits)).argmax(-1)


def gumbel(like: Tensor) -> Tensor:
    """Return Gumbel noise of the shape of `like`: -log(-log(u)) with u uniform, that is -log(e) with e exponential."""
    return -torch.empty_like(like).exponential_().log()


class ChunkedLikelihood(torch.autograd.Function):
    """The cross-entropy loss of `likelihood` in several chunks, with gradients computed in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        states_ME: Tensor,
        weight_VE: Tensor,
        bias_V: Tensor | None,
        label_M: Tensor,
        share_M: Tensor,
        rows: int,
        graded: bool,
        sample: bool,
        smoothing: float,
        z_loss: float,
        classes: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the loss, the negative log-likelihood, Σ (log Z)², the weight of correct labels, and samples.

        Products are in autocast's dtype.
        """
        kind = states_ME.device.type
        rounded = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight_VE.dtype
        weight, bias = weight_VE.to(rounded), None if bias_V is None else bias_V.to(rounded)
        nll, even, square, correct = (share_M.new_zeros(()) for _ in range(4))
        sampled_M = torch.empty_like(label_M)
        gradients = _zeros(states_ME, weight_VE, bias_V) if graded else None
        with torch.autocast(kind, enabled=False):
            for first in range(0, len(states_ME), rows):
                at = slice(first, first + rows)
                states, share = states_ME[at].to(rounded), share_M[at]
                logits = F.linear(states, weight, bias).float()
                label = label_M[at].clamp(min=0)[:, None]
                if sample:
                    sampled_M[at] = drawn(logits)
                correct += (share * (logits.argmax(-1) == label[:, 0])).sum()
                logs = logits.log_softmax(-1)
                log_z = (logits.gather(1, label) - logs.gather(1, label))[:, 0]
                del logits
                nll -= (share * logs.gather(1, label)[:, 0]).sum()
                if smoothing:
                    even -= (share * logs[:, :classes].mean(-1)).sum()
                if z_loss:
                    square += (share * log_z**2).sum()
                if gradients is not None:
                    slope = _slope(logs, label, log_z, smoothing, z_loss, classes)
                    _accumulate(gradients, at, slope.mul_(share[:, None]).to(rounded), states, weight)
        ctx.save_for_backward(*(gradients or ()))
        ctx.mark_non_differentiable(nll, square, correct, sampled_M)
        loss = (1 - smoothing) * nll + smoothing * even + z_loss * square
        return loss, nll, square, correct, sampled_M

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients that the forward pass computed, times that of the loss."""
        states_ME, weight_VE, bias_V = ctx.saved_tensors
        wanted = (states_ME, weight_VE, bias_V if ctx.needs_input_grad[2] else None)
        return (*(None if one is None else one * loss.to(one.dtype) for one in wanted), *[None] * 8)


def _zeros(states_ME: Tensor, weight_VE: Tensor, bias_V: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return buffers to accumulate gradients of states, matrix and bias, the last even if there is no bias."""
    bias = weight_VE.new_zeros(len(weight_VE)) if bias_V is None else torch.zeros_like(bias_V)
    return torch.empty_like(states_ME), torch.zeros_like(weight_VE), bias


def _slope(logs: Tensor, label: Tensor, log_z: Tensor, smoothing: float, z_loss: float, classes: int) -> Tensor:
    """Return the gradient of the loss with respect to a chunk's logits (rows, V), in the memory of log p.

    It is (1 + 2 z_loss log Z) p less the smoothed label, as ∂ log Z / ∂ logit = p.
    """
    slope = logs.exp_()
    if z_loss:
        slope *= (1 + 2 * z_loss * log_z)[:, None]
    slope.scatter_add_(1, label, slope.new_full((), smoothing - 1.0).expand(label.shape))
    if smoothing:
        slope[:, :classes] -= smoothing / classes
    return slope


def _accumulate(
    gradients: tuple[Tensor, Tensor, Tensor], at: slice, slope: Tensor, states: Tensor, weight: Tensor
) -> None:
    """Accumulate the gradients of states, matrix and bias from a chunk's gradient of the logits (rows, V)."""
    states_ME, weight_VE, bias_V = gradients
    states_ME[at] = slope @ weight
    if weight_VE.dtype == slope.dtype:
        weight_VE.addmm_(slope.t(), states)
    else:
        weight_VE += slope.t() @ states
    bias_V += slope.sum(0, dtype=bias_V.dtype)


def in_chunks(function: Callable[..., tuple[Tensor, ...]], width: int, *rows: Tensor) -> tuple[Tensor, ...]:
    """Apply a function to chunks of tensors of M rows, and return the concatenated results.

    With more than one chunk, activations within the function are recomputed in the backward pass (checkpointing).

    Args:
        function: applied to chunks of the tensors; it returns tensors with one element per row.
        width: number of intermediate elements per row, which sets the chunk size.
        rows: the tensors.
    """
    number = chunk_rows(len(rows[0]), width)
    if number >= len(rows[0]):
        return function(*rows)
    pieces = zip(*(torch.split(tensor, number) for tensor in rows), strict=True)
    found = [cast("tuple[Tensor, ...]", checkpoint(function, *piece, use_reentrant=False)) for piece in pieces]
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))
