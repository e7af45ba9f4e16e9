"""How attention is computed: softmax(q kᵀ / sqrt(D)) v among the tokens that may see each other.

One definition, `attend_reference`, and three fast ways that agree with it:

* `explicit`: matrix products over rows with the softmax between them, on CPUs: in bfloat16, forward and backward, it
  takes a third of the time of PyTorch's fused CPU kernel at length 128, and half at 512. Rows past 512 take it only
  where probabilities are dropped out, as it keeps them all.
* `fused`: `scaled_dot_product_attention` over rows.
* `variable`: variable-length flash attention on CUDA in half precision; it needs no mask and computes no pair in vain.

Which way is taken hangs on the device, the precision and static shapes only, so that nothing waits for the device and
compiled code is compiled once.
Legend: T tokens, R rows, L row length, A heads, D numbers a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from genus.batch import Packed
    from genus.model.visibility import Visibility

Way = Literal["explicit", "fused", "variable"]

EXPLICIT_LENGTH = 512
"""Longest rows, on a CPU, for which writing the probabilities out beats the fused kernel."""


@dataclass(frozen=True, slots=True)
class View:
    """What every attention layer of a stack needs to know of a packed stream; made once per forward pass."""

    packed: Packed
    way: Way
    dropout: float
    """The probability with which an attention probability is set to 0: above 0 in training only."""
    causal: bool
    """Whether a token sees only itself and those before it, and `mask` does not say so."""
    mask: Tensor | None
    """(R, 1, L, L) bool, true where attention is allowed; None where the way itself keeps sequences apart."""


def view(packed: Packed, visibility: Visibility, dtype: torch.dtype, dropout: float) -> View:
    """Prepare a packed stream for attention, computed in `dtype`, under a visibility rule."""
    device = packed.ids.device
    way = choose(device, dtype, packed.row_length, dropout, visibility)
    if way == "variable":
        return View(packed, way, dropout, False, None)
    alone = packed.one_per_row
    if alone and visibility.causal and way == "fused":
        return View(packed, way, dropout, True, None)
    full = alone and packed.tokens == packed.ids.numel()
    mask = allowed(packed, visibility, full)
    return View(packed, way, dropout, False, None if mask is None else mask[:, None])


def choose(device: torch.device, dtype: torch.dtype, length: int, dropout: float, visibility: Visibility) -> Way:
    """Return the fastest way for a device, a precision and a row length."""
    if device.type == "cpu":
        return "explicit" if dropout or length <= EXPLICIT_LENGTH else "fused"
    half = dtype in {torch.bfloat16, torch.float16}
    return "variable" if device.type == "cuda" and half and not dropout and visibility.full else "fused"


def allowed(packed: Packed, visibility: Visibility, alone: bool) -> Tensor | None:
    """Return (R, L, L) bool, who sees whom in each row; None for everyone. `alone`: every row is one sequence."""
    positions_RL = packed.positions.view(-1, packed.row_length)
    rule = visibility.allowed(positions_RL[:, :, None], positions_RL[:, None, :])
    if alone:
        return rule
    sequence_RL = packed.sequence.view(-1, packed.row_length)
    same = sequence_RL[:, :, None] == sequence_RL[:, None, :]
    return same if rule is None else same & rule


def compute_dtype(weight: Tensor) -> torch.dtype:
    """Return the precision in which a product with this weight is computed: autocast's, where it is on."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def attend(q_TAD: Tensor, k_TAD: Tensor, v_TAD: Tensor, seen: View) -> Tensor:
    """Return attention outputs (T, A, D)."""
    if seen.way == "variable":
        return attend_variable(q_TAD, k_TAD, v_TAD, seen)
    length, heads, size = seen.packed.row_length, q_TAD.shape[1], q_TAD.shape[2]
    q, k, v = (x.view(-1, length, heads, size).transpose(1, 2) for x in (q_TAD, k_TAD, v_TAD))
    if seen.way == "explicit":
        out_RALD = attend_explicit(q, k, v, seen)
    else:
        out_RALD = F.scaled_dot_product_attention(
            q, k, v, attn_mask=seen.mask, dropout_p=seen.dropout, is_causal=seen.causal
        )
    return out_RALD.transpose(1, 2).reshape(-1, heads, size)


def attend_explicit(q_RALD: Tensor, k_RALD: Tensor, v_RALD: Tensor, seen: View) -> Tensor:
    """Return attention outputs (R, A, L, D), with all probabilities written out; the softmax is taken in float32."""
    scores_RALL = q_RALD @ k_RALD.transpose(-1, -2) * q_RALD.shape[-1] ** -0.5
    if seen.mask is not None:
        scores_RALL = scores_RALL.masked_fill(~seen.mask, -torch.inf)
    wide = torch.promote_types(torch.float32, scores_RALL.dtype)
    chances_RALL = scores_RALL.softmax(-1, dtype=wide).to(v_RALD.dtype)
    return F.dropout(chances_RALL, seen.dropout) @ v_RALD


def attend_variable(q_TAD: Tensor, k_TAD: Tensor, v_TAD: Tensor, seen: View) -> Tensor:
    """Return attention outputs (T, A, D) by PyTorch's variable-length flash attention, on CUDA in half precision."""
    from torch.nn.attention.varlen import varlen_attn

    offsets, longest = seen.packed.offsets, seen.packed.row_length
    return cast("Tensor", varlen_attn(q_TAD, k_TAD, v_TAD, offsets, offsets, longest, longest))


def attend_reference(q_TAD: Tensor, k_TAD: Tensor, v_TAD: Tensor, packed: Packed, visibility: Visibility) -> Tensor:
    """Return attention outputs (T, A, D) by the definition, over all T x T pairs: slow, for tests."""
    number, position = packed.entries(), packed.positions
    seen = number[:, None] == number[None, :]
    rule = visibility.allowed(position[:, None], position[None, :])
    seen = seen if rule is None else seen & rule
    scores = torch.einsum("qad,kad->aqk", q_TAD, k_TAD) / q_TAD.shape[-1] ** 0.5
    return torch.einsum("aqk,kad->qad", scores.masked_fill(~seen, -torch.inf).softmax(-1), v_TAD)
