"""How attention is computed: softmax(q kᵀ / sqrt(d)) v among the tokens that may see each other.

The reference definition, the row form for PyTorch's fused attention on any device, and the variable-length form on CUDA.
Legend: T tokens, R rows, L row length, A heads, D numbers a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from genus.batch import Packed
from genus.model.visibility import Visibility


@dataclass(frozen=True, slots=True)
class View:
    """What every attention layer of a stack needs to know of a packed stream; made once per forward pass."""

    packed: Packed
    visibility: Visibility
    mask: Tensor | None
    """(R, 1, L, L) bool, true where attention is allowed; None where every row is one sequence and all is visible."""


def view(packed: Packed, visibility: Visibility) -> View:
    """Prepare a packed stream for attention under a visibility rule."""
    length = packed.max_length
    positions_RL = packed.positions.view(-1, length)
    allowed = visibility.allowed(positions_RL[:, :, None], positions_RL[:, None, :])
    if not bool((positions_RL[:, -1] == length - 1).all()):
        sequence_RL = sequences(packed).view(-1, length)
        same = sequence_RL[:, :, None] == sequence_RL[:, None, :]
        allowed = same if allowed is None else same & allowed
    return View(packed, visibility, None if allowed is None else allowed[:, None])


def sequences(packed: Packed) -> Tensor:
    """Return (T,) the number of the sequence that each token belongs to."""
    return (packed.positions == 0).cumsum(0) - 1


def attend(q_TAD: Tensor, k_TAD: Tensor, v_TAD: Tensor, seen: View, dropout: float) -> Tensor:
    """Return attention outputs (T, A, D)."""
    length, heads, size = seen.packed.max_length, q_TAD.shape[1], q_TAD.shape[2]
    q, k, v = (x.view(-1, length, heads, size).transpose(1, 2) for x in (q_TAD, k_TAD, v_TAD))
    out_RALD = F.scaled_dot_product_attention(q, k, v, attn_mask=seen.mask, dropout_p=dropout)
    return out_RALD.transpose(1, 2).reshape(-1, heads, size)


def attend_reference(q_TAD: Tensor, k_TAD: Tensor, v_TAD: Tensor, seen: View) -> Tensor:
    """Return attention outputs by the definition, over all T x T pairs: slow, for tests."""
    number, position = sequences(seen.packed), seen.packed.positions
    allowed = number[:, None] == number[None, :]
    rule = seen.visibility.allowed(position[:, None], position[None, :])
    allowed = allowed if rule is None else allowed & rule
    scores = torch.einsum("qad,kad->aqk", q_TAD, k_TAD) / q_TAD.shape[-1] ** 0.5
    return torch.einsum("aqk,kad->qad", scores.masked_fill(~allowed, -torch.inf).softmax(-1), v_TAD)
