"""Attention of new tokens to the slots of a key-value cache, sequence by sequence.

Each sequence's keys are a view of the cache's buffer: no mask over slots, no padding, no copy. Sequences next to each
other that are alike in every number (the beams of a search, several samples of a prompt) are computed at once.
Q and K are the new tokens and the keys of one sequence.

Legend: G heads of keys and values; N sequences, of a batch or of a part of it; Y entries of a key-value cache.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from genus.model.attention.masks import Place
from genus.model.attention.plan import Side
from genus.model.cpu import without_onednn

if TYPE_CHECKING:
    from collections.abc import Hashable
    from contextlib import AbstractContextManager

    from genus.batch import Packed
    from genus.model.attention.masks import AttentionMask
    from genus.model.attention.plan import AttentionPlan
    from genus.model.cache import Cache, LayerCache
    from genus.model.position.bias import PositionBias

MANY_QUERIES = 256
"""Queries of a sequence from which on oneDNN is faster in fused attention; with one it takes 5 to 18 times as long."""


@dataclass(frozen=True, slots=True)
class Piece:
    """N sequences that attend to their slots, alike in Q and K, and equally far apart in the batch and the cache."""

    first: int
    """Index of the first new token."""
    tokens: int
    """Q"""
    entry: int
    """The first entry of the cache that is attended to."""
    keys: int
    """K"""
    sequences: int = 1
    """N"""
    stride: int = 0
    """Entries from one sequence's keys to the next one's; 0: they share their keys, as beams do those of a source."""
    mask: Tensor | None = None
    """(Q, K) bool, true where attention is allowed, or (N or 1, A, Q, K) a bias with -inf elsewhere; None: no mask."""
    causal: bool = False
    """Whether the kernel's own causal mask is used: Q and K are the same tokens."""

    def follows(self, other: Piece) -> bool:
        """Return whether the piece continues `other`, of one sequence or more, at the same distance."""
        alike = (self.tokens, self.keys, self.causal) == (other.tokens, other.keys, other.causal)
        stride = self.entry - (other.entry + (other.sequences - 1) * other.stride)
        adjacent = self.first == other.first + other.sequences * other.tokens
        even = stride >= 0 and (other.sequences == 1 or stride == other.stride)
        return alike and self.mask is other.mask and adjacent and even


def pieces(
    cache: Cache, packed: Packed, mask: AttentionMask, bias: PositionBias | None = None, *, keys: Cache | None = None
) -> tuple[Piece, ...]:
    """Return what each sequence of a batch attends to.

    Args:
        cache: that of the new tokens, whose `packed` made the batch.
        packed: the batch.
        mask: the attention mask.
        bias: position bias, added to the scores.
        keys: the cache of the keys; None: the same. Tokens of its own last `packed` are attended to as well.
    """
    own, keys = keys is None, cache if keys is None else keys
    written = {turn.slot: turn.tokens for turn in keys.turns}
    made: dict[Hashable, tuple[Tensor | None, bool]] = {}
    found: list[Piece] = []
    for turn in cache.turns:
        before, slot = cache.slots[turn.slot].length, keys.slots[turn.slot]
        rule = mask.after_prompt() if own and before else mask
        there = slot.length + written.get(turn.slot, 0)
        skipped = max(0, before - rule.window[0]) if own and rule.window and rule.window[0] >= 0 else 0
        key = turn.tokens, before, there, turn.slot if rule.needs else None
        if key not in made:
            new = slice(turn.first, turn.first + turn.tokens)
            made[key] = _mask(packed, new, (skipped, there), rule, bias)
        own_mask, causal = made[key]
        entry, number = slot.start + skipped, there - skipped
        found.append(Piece(turn.first, turn.tokens, entry, number, mask=own_mask, causal=causal))
    return joined(found)


def library(found: tuple[Piece, ...]) -> AbstractContextManager[None]:
    """Return the context in which float32 products are fastest on CPUs, where all pieces have few queries."""
    return without_onednn() if max(piece.tokens for piece in found) < MANY_QUERIES else nullcontext()


def joined(found: list[Piece]) -> tuple[Piece, ...]:
    """Return the pieces with those that follow each other as one."""
    kept: list[Piece] = []
    for piece in found:
        if kept and piece.follows(kept[-1]):
            last = kept[-1]
            stride = piece.entry - (last.entry + (last.sequences - 1) * last.stride)
            kept[-1] = replace(last, sequences=last.sequences + 1, stride=stride)
        else:
            kept.append(piece)
    return tuple(kept)


def _mask(
    packed: Packed, new: slice, there: tuple[int, int], rule: AttentionMask, bias: PositionBias | None
) -> tuple[Tensor | None, bool]:
    """Return the mask of new tokens of a sequence on its keys at positions `there`, and whether it is the kernel's."""
    first, end = there
    tokens, device = new.stop - new.start, packed.ids.device
    whole = rule.full or (tokens == 1 and rule.causal and rule.window is not None)
    if bias is None and (whole or (rule.window == (-1, 0) and end == tokens)):
        return None, not whole
    q, k = packed.positions[new], torch.arange(first, end, device=device)
    allowed = None
    if not whole:
        facts = {name: packed.facts[name][new] for name in rule.needs}
        allowed = rule.allowed(
            Place(q[:, None], {name: fact[:, None] for name, fact in facts.items()}),
            Place(k[None], {name: fact[None] for name, fact in facts.items()}),
        )
    if bias is None:
        return allowed, False
    nobody = torch.zeros((), dtype=torch.int32, device=device)
    added = bias(Side(nobody, q, None, len(q)), Side(nobody, k, None, len(k)))
    return added if allowed is None else added.masked_fill(~allowed, -torch.inf), False


def attend_cached(q_TAD: Tensor, state: LayerCache, plan: AttentionPlan) -> Tensor:
    """Return attention outputs (T, A, D); 0 for sequences without keys."""
    found = []
    with library(plan.pieces):
        for piece in plan.pieces:
            with library((piece,)):
                found.append(_attend(q_TAD, state, piece, plan.scale))
    return found[0] if len(found) == 1 else torch.cat(found)


def _attend(q_TAD: Tensor, state: LayerCache, piece: Piece, scale: float | None) -> Tensor:
    """Return the attention outputs (N * Q, A, D) of a piece."""
    heads, size = q_TAD.shape[1:]
    group = heads // state.keys.shape[1]
    q_TAD = q_TAD[piece.first : piece.first + piece.sequences * piece.tokens]
    if not piece.keys:
        return torch.zeros_like(q_TAD)
    k, v = cached_keys(state.keys, piece), cached_keys(state.values, piece)
    if piece.tokens == 1 and piece.mask is None:  # the queries of a group are those of one head
        q = q_TAD.view(piece.sequences, -1, group, size)
        if piece.stride == 0:  # and so are those of all sequences: keys are read once
            q = q.transpose(0, 1).flatten(1, 2)[None]
            found = F.scaled_dot_product_attention(q, k[:1], v[:1], scale=scale)[0]
            return torch.unflatten(found, 1, (-1, group)).transpose(0, 1).reshape(-1, heads, size)
        return F.scaled_dot_product_attention(q, k, v, scale=scale).reshape(-1, heads, size)
    q = q_TAD.view(piece.sequences, piece.tokens, heads, size).transpose(1, 2)
    mask = piece.mask if piece.mask is None or piece.mask.dtype == torch.bool else piece.mask.to(q.dtype)
    found = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=piece.causal, scale=scale, enable_gqa=group > 1
    )
    return found.transpose(1, 2).flatten(0, 1)


def cached_keys(kept: Tensor, piece: Piece) -> Tensor:
    """Return a view (N, G, K, D) of cached keys or values (Y, G, D)."""
    _, heads, size = kept.shape
    row = heads * size
    shape, strides = (piece.sequences, heads, piece.keys, size), (piece.stride * row, size, row, 1)
    return kept.as_strided(shape, strides, kept.storage_offset() + piece.entry * row)
