"""Relative attention of new tokens to the slots of a key-value cache, sequence by sequence.

What a distance contributes to a score, W_r r(d), depends on nothing but the weights. So each layer keeps it for all
distances up to the longest slot, once for all sequences, beside its keys and values.
Q and K are the new tokens and the keys of one sequence.

Legend: N sequences, of a batch or of a part of it; X distances between queries and keys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from genus.model.attention.cached import cached_keys, library, pieces

if TYPE_CHECKING:
    from genus.batch import Packed
    from genus.model.attention.cached import Piece
    from genus.model.attention.masks import AttentionMask
    from genus.model.cache import Cache, LayerCache


@dataclass(frozen=True, slots=True)
class CachedRelativePlan:
    """The plan of relative attention of new tokens to their slots."""

    pieces: tuple[Piece, ...]
    """What each sequence attends to; none uses the kernel's own causal mask, as scores have a term by distance."""
    written: Tensor
    """(T,) scatter index of keys and values into the cache."""
    longest: int
    """The longest distance that is looked up: the capacity of the largest slot."""


def cached_plan(cache: Cache, packed: Packed, mask: AttentionMask) -> CachedRelativePlan:
    """Return the plan of the batch that the cache's last `packed` made."""
    found = (_masked(piece, packed.ids.device) for piece in pieces(cache, packed, mask))
    longest = max(slot.capacity for slot in cache.slots.values())
    return CachedRelativePlan(tuple(found), cache.places(), longest)


def _masked(piece: Piece, device: torch.device) -> Piece:
    """Return the piece with a mask tensor in place of the kernel's causal mask."""
    if not piece.causal:
        return piece
    return replace(piece, mask=torch.ones(piece.tokens, piece.keys, device=device).tril() > 0, causal=False)


def attend_relative(content_TAD: Tensor, position_TAD: Tensor, state: LayerCache, plan: CachedRelativePlan) -> Tensor:
    """Return attention outputs (T, A, D).

    Args:
        content_TAD: queries plus u, that meet keys.
        position_TAD: queries plus v, that meet encoded distances.
        state: keys and values, those of the new tokens included, and `by_distance`.
        plan: the plan.
    """
    found = []
    for piece in plan.pieces:
        with library((piece,)):
            found.append(_attend(content_TAD, position_TAD, state, piece))
    return torch.cat(found)


def _attend(content_TAD: Tensor, position_TAD: Tensor, state: LayerCache, piece: Piece) -> Tensor:
    """Return the attention outputs (N * Q, A, D) of a piece."""
    assert state.by_distance is not None
    new = slice(piece.first, piece.first + piece.sequences * piece.tokens)
    content, position = (
        torch.unflatten(x[new], 0, (piece.sequences, piece.tokens)).transpose(1, 2) for x in (content_TAD, position_TAD)
    )
    r_XAD = state.by_distance[len(state.by_distance) - piece.keys - 1 :]  # from distance K down to 0
    scores = shift(position @ r_XAD.permute(1, 2, 0), piece.keys) * content.shape[-1] ** -0.5
    if piece.mask is not None:
        scores = scores.masked_fill(~piece.mask, -torch.inf)
    k, v = cached_keys(state.keys, piece), cached_keys(state.values, piece)
    found = F.scaled_dot_product_attention(content, k, v, attn_mask=scores.to(content.dtype))
    return found.transpose(1, 2).flatten(0, 1)


def shift(scores: Tensor, keys: int) -> Tensor:
    """Relative shift: return (..., Q, K) from scores by distance (..., Q, X), whose entry n is for distance K - n.

    Entry (i, j) is at n = Q - i + j: each row begins one entry before the row above. So if the scores are flattened and
    cut into rows that are one shorter, all rows begin at the same column (Dai et al. 2019, appendix B).
    """
    length = scores.shape[-2]
    return torch.unflatten(scores.flatten(-2)[..., length:], -1, (length, -1))[..., :keys]
