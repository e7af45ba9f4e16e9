"""Attention kernels: softmax(scale q kᵀ + bias) v over the pairs that an attention plan allows.

There is one definition, `attend_reference`, and four kernels that agree with it:

* `math`: explicit matrix products and softmax over rows, on CPUs. Forward and backward pass in bfloat16 take a third of
  the time of PyTorch's fused CPU kernel at length 128, and half at 512 (AMD EPYC; Intel: half, and all). Longer rows
  use it only with dropout of attention weights, as it stores them all; see `plan.fused_is_faster` for float32.
* `sdpa`: `scaled_dot_product_attention` over rows. Its own causal mask is aligned at the upper left, so it is used only
  where both sides are the same rows.
* `varlen`: variable-length flash attention on CUDA in half precision, for masks that are windows, in two calls for
  prefixes; it needs no mask and reads only windows.
* `flex`: FlexAttention on CUDA in half precision, for other masks and for biases.

Here G divides A.

Legend: G heads of keys and values.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from genus.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.model.attention.masks import AttentionMask
    from genus.model.attention.plan import AttentionPlan, KeysAndValues, Side


ATEN = torch.ops.aten


def attend(
    q_TAD: Tensor,
    k_TGD: Tensor,
    v_TGD: Tensor,
    plan: AttentionPlan,
    bias: Tensor | None = None,
    front: KeysAndValues | None = None,
) -> Tensor:
    """Return attention outputs (T, A, D) by the plan's kernel.

    Args:
        q_TAD: queries.
        k_TGD: keys.
        v_TGD: values.
        plan: the attention plan; it holds its own bias, if any.
        bias: a layer's own bias on the scores (R or 1, A, Q, K); the plan's kernel is then `math` or `sdpa`.
        front: keys and values in front of those of every row, for the plan of a prefix.
    """
    if plan.kernel == "varlen":
        return attend_varlen(q_TAD, k_TGD, v_TGD, plan)
    q, k, v = by_rows(q_TAD, plan.q), by_rows(k_TGD, plan.k), by_rows(v_TGD, plan.k)
    if front is not None:
        ahead = (x.to(k.dtype).transpose(0, 1).expand(len(k), -1, -1, -1) for x in front)
        k, v = (torch.cat(pair, 2) for pair in zip(ahead, (k, v), strict=True))
    if plan.kernel == "flex":
        out_RAQD = attend_flex(q, k, v, plan)
    elif plan.kernel == "math":
        out_RAQD = attend_math(q, k, v, plan, bias)
    else:
        out_RAQD = attend_sdpa(q, k, v, plan, bias)
    if plan.blind is not None:
        out_RAQD = out_RAQD.masked_fill(plan.blind, 0.0)
    return out_RAQD.transpose(1, 2).flatten(0, 1)


def by_rows(x_TAD: Tensor, side: Side) -> Tensor:
    """Reshape (T, A, D) to rows (R, A, L, D)."""
    return x_TAD.view(-1, side.row_length, *x_TAD.shape[1:]).transpose(1, 2)


def attention_weights(q_TAD: Tensor, k_TGD: Tensor, plan: AttentionPlan) -> Tensor:
    """Return the attention weights (R, A, Q, K) of a plan: its own kernel's outputs, with one value for each key.

    Raises:
        UsageError: the kernel reads no rows.
    """
    if plan.kernel not in ("math", "sdpa"):
        raise UsageError(f"the attention kernel {plan.kernel!r} never has its weights; ask on a CPU, in float32")
    q, k = by_rows(q_TAD, plan.q), by_rows(k_TGD, plan.k)
    each = torch.eye(k.shape[2], dtype=k.dtype, device=k.device).expand(*k.shape[:2], -1, -1)
    found = attend_math(q, k, each, plan) if plan.kernel == "math" else attend_sdpa(q, k, each, plan)
    return found if plan.blind is None else found.masked_fill(plan.blind, 0.0)


def attend_math(
    q_RAQD: Tensor, k_RGKD: Tensor, v_RGKD: Tensor, plan: AttentionPlan, bias: Tensor | None = None
) -> Tensor:
    """Return attention outputs (R, A, Q, D) with explicit attention weights; the softmax is in float32 at least."""
    if (group := q_RAQD.shape[1] // k_RGKD.shape[1]) > 1:
        k_RGKD, v_RGKD = (x.repeat_interleave(group, 1) for x in (k_RGKD, v_RGKD))
    scale = q_RAQD.shape[-1] ** -0.5 if plan.scale is None else plan.scale
    scores_RAQK = q_RAQD @ k_RGKD.transpose(-1, -2) * scale
    for added in (bias, plan.additive):
        scores_RAQK = scores_RAQK if added is None else scores_RAQK + added
    if plan.mask is not None:
        scores_RAQK = scores_RAQK.masked_fill(plan.mask, -torch.inf)
    wide = torch.promote_types(torch.float32, scores_RAQK.dtype)
    weights_RAQK = scores_RAQK.softmax(-1, dtype=wide).to(v_RGKD.dtype)
    return F.dropout(weights_RAQK, plan.dropout) @ v_RGKD


def attend_sdpa(
    q_RAQD: Tensor, k_RGKD: Tensor, v_RGKD: Tensor, plan: AttentionPlan, bias: Tensor | None = None
) -> Tensor:
    """Return attention outputs (R, A, Q, D) by `scaled_dot_product_attention`."""
    mask, causal = plan.mask if plan.additive is None else plan.additive.to(q_RAQD.dtype), plan.window is not None
    if bias is not None:
        causal, mask = False, _added(plan, bias.to(q_RAQD.dtype))
    return F.scaled_dot_product_attention(
        q_RAQD,
        k_RGKD,
        v_RGKD,
        attn_mask=mask,
        dropout_p=plan.dropout,
        is_causal=causal,
        scale=plan.scale,
        enable_gqa=q_RAQD.shape[1] != k_RGKD.shape[1],
    )


def _added(plan: AttentionPlan, bias: Tensor) -> Tensor:
    """Return a layer's bias plus the plan's, with -inf where the plan's mask forbids attention."""
    if plan.additive is not None:
        return bias + plan.additive.to(bias.dtype)
    if plan.window is not None:
        order = torch.arange(plan.q.row_length, device=bias.device)
        return bias.masked_fill(order > order[:, None], -torch.inf)
    return bias if plan.mask is None else bias.masked_fill(~plan.mask, -torch.inf)


def attend_flex(q_RAQD: Tensor, k_RGKD: Tensor, v_RGKD: Tensor, plan: AttentionPlan) -> Tensor:
    """Return attention outputs (R, A, Q, D) by FlexAttention."""
    out = _flex(q_RAQD.device.type)(
        q_RAQD,
        k_RGKD,
        v_RGKD,
        score_mod=plan.score_mod,
        block_mask=plan.block_mask,
        scale=plan.scale,
        enable_gqa=q_RAQD.shape[1] != k_RGKD.shape[1],
    )
    return out


@functools.cache
def _flex(device: str) -> Callable[..., Tensor]:
    """Return FlexAttention, compiled except on CPUs: it is a fused kernel only where it is compiled."""
    from torch.nn.attention.flex_attention import flex_attention

    compiled = flex_attention if device == "cpu" else torch.compile(flex_attention, dynamic=False)
    return cast("Callable[..., Tensor]", compiled)


def attend_varlen(q_TAD: Tensor, k_TGD: Tensor, v_TGD: Tensor, plan: AttentionPlan) -> Tensor:
    """Return attention outputs (T, A, D) by PyTorch's variable-length flash attention, on CUDA in half precision.

    With one split of the keys, a sequence's output does not depend on the rest of the batch, bit for bit.
    """
    if plan.prefix is not None:
        within, after = attend_varlen(q_TAD, k_TGD, v_TGD, plan.prefix), replace(plan, prefix=None, mask=None)
        assert plan.mask is not None
        return torch.where(plan.mask, within, attend_varlen(q_TAD, k_TGD, v_TGD, after))
    if plan.dropout:
        return flash_with_dropout(q_TAD, k_TGD, v_TGD, plan)
    window, q, k = plan.window or (-1, -1), plan.q, plan.k
    from torch.nn.attention.varlen import varlen_attn

    assert q.offsets is not None

    out = varlen_attn(
        q_TAD,
        k_TGD,
        v_TGD,
        q.offsets,
        k.offsets,
        q.row_length,
        k.row_length,
        scale=plan.scale,
        window_size=window,
        enable_gqa=q_TAD.shape[1] != k_TGD.shape[1],
        num_splits=1,
    )
    return cast("Tensor", out)


def flash_with_dropout(q_TAD: Tensor, k_TGD: Tensor, v_TGD: Tensor, plan: AttentionPlan) -> Tensor:
    """Return `attend_varlen` with dropout: PyTorch's public function does not expose the dropout of its operator.

    The operator is differentiable; a window that is not causal is given by its left and right sizes.
    """
    left, right = plan.window or (-1, -1)
    causal = (left, right) == (-1, 0)
    out, *_ = ATEN._flash_attention_forward(
        q_TAD,
        k_TGD,
        v_TGD,
        plan.q.offsets,
        plan.k.offsets,
        plan.q.row_length,
        plan.k.row_length,
        plan.dropout,
        causal,
        False,
        scale=plan.scale,
        window_size_left=None if left < 0 else left,
        window_size_right=None if right < 0 or causal else right,
    )
    return cast("Tensor", out)


def attend_reference(
    q_TAD: Tensor, k_TGD: Tensor, v_TGD: Tensor, q: Side, k: Side, rule: AttentionMask, bias: Tensor | None = None
) -> Tensor:
    """Return attention outputs (T, A, D) by the definition, over all query-key pairs: slow, for tests.

    Args:
        q_TAD: queries.
        k_TGD: keys.
        v_TGD: values.
        q: sequences, positions and facts of the queries.
        k: sequences, positions and facts of the keys.
        rule: the attention mask.
        bias: (A, T of queries, T of keys), added to the scores.
    """
    from genus.model.attention.masks import Place

    group = q_TAD.shape[1] // k_TGD.shape[1]
    k_TAD, v_TAD = (x.repeat_interleave(group, 1) for x in (k_TGD, v_TGD))
    query = Place(q.position[:, None], {name: q.facts[name][:, None] for name in rule.needs})
    found = rule.allowed(query, Place(k.position[None], {name: k.facts[name][None] for name in rule.needs}))
    seen = (q.sequence[:, None] == k.sequence[None]) & (k.sequence >= 0)
    seen = seen if found is None else seen & found
    scores = torch.einsum("qad,kad->aqk", q_TAD, k_TAD) / q_TAD.shape[-1] ** 0.5
    scores = (scores if bias is None else scores + bias).masked_fill(~seen, -torch.inf)
    weights = scores.softmax(-1).masked_fill(~seen.any(-1)[:, None], 0.0)
    return torch.einsum("aqk,kad->qad", weights, v_TAD)
