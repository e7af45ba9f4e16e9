"""Softmax attention among blocks, in time and memory linear in the number of pairs of blocks.

Two passes make the whole. In the first each block sees S blocks of its own choice; in the second the E global blocks of
its sequence see it, whose softmax runs over all blocks of the sequence. Both go on in chunks, and what a chunk computed
is computed again for the backward pass, so that no more is kept than queries, keys, values, outputs and the logarithms
of the softmax's sums (Dao et al. 2022, FlashAttention, algorithms 1 and 4).
Legend: X blocks, A heads, b cells of a block, D numbers a head, S blocks seen, E global blocks of a sequence, C blocks
of a chunk; n and m blocks of queries and keys that meet in a chunk; a row is a block as one head sees it, X A in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Iterator

SCORES = {"cpu": 1 << 20}
"""How many are computed at once, by device: few enough for a processor's cache."""
MANY_SCORES = 1 << 26
"""How many elsewhere: enough to keep a GPU busy."""


@dataclass(frozen=True, slots=True)
class BlockPairs:
    """Which blocks see which."""

    seen: Tensor
    """(X, A, S) int64: the blocks that each one looks at."""
    allowed: Tensor
    """(X, A, S) bool: false for those that only fill up; for global and empty blocks all do."""
    center: Tensor
    """(X, E) int64: the global blocks of its sequence, which look at it."""
    central: Tensor
    """(X, E) bool: false for those that only fill up."""
    real: Tensor
    """(X, b) bool: cells with a token, which alone are seen."""


def attend_blocks(qkv_3XAbD: Tensor, pairs: BlockPairs, dropout: float) -> Tensor:
    """Return softmax(q kᵀ / sqrt(D)) v among the pairs (X, A, b, D); 0 for queries of empty blocks."""
    seed = int(torch.randint(1 << 62, ())) if dropout else 0
    return _Attention.apply(qkv_3XAbD, pairs, dropout, seed)  # type: ignore[no-any-return, no-untyped-call]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of queries and of keys that meet."""

    queries: Tensor
    """(C, A, n) int64."""
    keys: Tensor
    """(C, A, m) int64."""
    mask: Tensor
    """(C, A or 1, n, 1, m b) bool: the keys that each of the n sees."""
    keep: float
    """The probability with which a probability stays in."""
    seed: int

    def probabilities(self, q: Tensor, k: Tensor, logs: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the softmax (C, A, n b, m b), and the logarithms of its sums (C, A, n, b), as given or computed."""
        scores = (q @ k.transpose(-1, -2)).to(wide(q)).view(*self.queries.shape, -1, k.shape[-2])
        scores = scores.mul_(scale(q)).masked_fill_(~self.mask, -torch.inf)
        logs = scores.logsumexp(-1) if logs is None else logs
        floor = logs.masked_fill(logs == -torch.inf, torch.inf)  # what sees nothing shares out nothing
        return scores.sub_(floor[..., None]).exp_().flatten(2, 3), logs

    def drop(self, x: Tensor) -> Tensor:
        """Return x with some numbers set to 0 and the others raised for it; the same ones at every call."""
        if self.keep == 1.0:
            return x
        generator = torch.Generator(x.device).manual_seed(self.seed)
        return x * (torch.rand(x.shape, generator=generator, device=x.device) < self.keep) / self.keep


def chunks(pairs: BlockPairs, dropout: float, seed: int) -> tuple[Iterator[Chunk], Iterator[Chunk]]:
    """Return the chunks of the two passes."""
    (blocks, heads, seen), cells, centers = pairs.seen.shape, pairs.real.shape[1], pairs.center.shape[1]
    device = pairs.seen.device
    rows = torch.arange(blocks * heads, device=device).view(blocks, heads, 1)
    head = torch.arange(heads, device=device)[:, None]

    def steps(wide: int) -> Iterator[tuple[slice, int]]:
        size = max(1, SCORES.get(device.type, MANY_SCORES) // (heads * cells * cells * max(1, wide)))
        return ((slice(first, first + size), seed + 2 * first) for first in range(0, blocks if wide else 0, size))

    def first() -> Iterator[Chunk]:
        for at, number in steps(seen):
            mask = pairs.allowed[at][..., None] & pairs.real[pairs.seen[at]]
            keys = pairs.seen[at] * heads + head
            yield Chunk(rows[at], keys, mask.flatten(2)[:, :, None, None], 1 - dropout, number)

    def second() -> Iterator[Chunk]:
        for at, number in steps(centers):
            mask = pairs.central[at][:, :, None] & pairs.real[at][:, None]
            queries = pairs.center[at][:, None] * heads + head
            yield Chunk(queries, rows[at], mask[:, None, :, None], 1 - dropout, number + 1)

    return first(), second()


class _Attention(torch.autograd.Function):
    """The two passes and their gradients."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, pairs: BlockPairs, dropout: float, seed: int) -> Tensor:
        """Return (X, A, b, D)."""
        out = torch.zeros_like(qkv[0], dtype=wide(qkv))
        with torch.autocast(qkv.device.type, enabled=False):
            logs = _each_alone(out, qkv, chunks(pairs, dropout, seed)[0])
            global_logs = _together(out, qkv, pairs, dropout, seed)
        out, logs = out.to(qkv.dtype), torch.maximum(logs, global_logs)  # no row is in both passes
        ctx.save_for_backward(qkv, out, logs)
        ctx.choices = pairs, dropout, seed
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of queries, keys and values."""
        qkv, out, logs = ctx.saved_tensors
        q, k, v = qkv.unbind()
        delta = (gradient.to(wide(q)) * out).sum(-1)
        change_of = torch.zeros_like(qkv, dtype=wide(qkv))
        q_grad, k_grad, v_grad = change_of.unbind()
        own, of_globals = chunks(*ctx.choices)
        with torch.autocast(q.device.type, enabled=False):
            for chunk in (*own, *of_globals):
                back = take(gradient, chunk.queries)
                queries, keys, values = take(q, chunk.queries), take(k, chunk.keys), take(v, chunk.keys)
                chances, _ = chunk.probabilities(queries, keys, at(logs, chunk.queries))
                add(v_grad, chunk.keys, chunk.drop(chances).to(v.dtype).transpose(-1, -2) @ back)
                change = chunk.drop((back @ values.transpose(-1, -2)).to(wide(q)))
                change = change.sub_(at(delta, chunk.queries).flatten(2)[..., None]).mul_(chances)
                change = change.mul_(scale(q)).to(q.dtype)
                add(q_grad, chunk.queries, change @ keys)
                add(k_grad, chunk.keys, change.transpose(-1, -2) @ queries)
        return change_of.to(qkv.dtype), None, None, None


def _each_alone(out: Tensor, qkv: Tensor, parts: Iterator[Chunk]) -> Tensor:
    """Add outputs (X, A, b, D) and return logarithms of sums (X, A, b) where each row of queries comes once."""
    q, k, v = qkv.unbind()
    logs = torch.full_like(out[..., 0], -torch.inf)
    for part in parts:
        chances, sums = part.probabilities(take(q, part.queries), take(k, part.keys))
        add(out, part.queries, part.drop(chances).to(v.dtype) @ take(v, part.keys))
        logs.flatten(0, 1).index_copy_(0, part.queries.flatten(), sums.flatten(0, 2))
    return logs


def _together(out: Tensor, qkv: Tensor, pairs: BlockPairs, dropout: float, seed: int) -> Tensor:
    """Do the same where rows of queries come again and again, with other keys: sums first, then outputs."""
    q, k, v = qkv.unbind()
    parts = [
        (part.queries, part.probabilities(take(q, part.queries), take(k, part.keys))[1])
        for part in chunks(pairs, dropout, seed)[1]
    ]
    logs = _summed(out, parts)
    for part in chunks(pairs, dropout, seed)[1]:
        chances, _ = part.probabilities(take(q, part.queries), take(k, part.keys), at(logs, part.queries))
        add(out, part.queries, part.drop(chances).to(v.dtype) @ take(v, part.keys))
    return logs


def _summed(out: Tensor, parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return (X, A, b) the logarithm of the sum over all parts (rows (C, A, n), logarithms of sums (C, A, n, b))."""
    top = torch.full_like(out[..., 0], -torch.inf)
    for rows, sums in parts:
        index = rows.flatten()[:, None].expand(-1, sums.shape[-1])
        top.flatten(0, 1).scatter_reduce_(0, index, sums.flatten(0, 2), "amax")
    total, floor = torch.zeros_like(top), top.masked_fill(top == -torch.inf, 0.0)
    for rows, sums in parts:
        total.flatten(0, 1).index_add_(0, rows.flatten(), (sums - at(floor, rows)).exp_().flatten(0, 2))
    return top + total.log()


def wide(x: Tensor) -> torch.dtype:
    """Return the precision in which sums are taken."""
    return torch.promote_types(torch.float32, x.dtype)


def scale(x: Tensor) -> float:
    """Return 1 / sqrt(D)."""
    return float(x.shape[-1] ** -0.5)


def take(x_XAbD: Tensor, rows: Tensor) -> Tensor:
    """Return rows (C, A, n), joined along the cells: (C, A, n b, D)."""
    found = x_XAbD.flatten(2).flatten(0, 1).index_select(0, rows.flatten())
    return found.view(*rows.shape[:2], -1, x_XAbD.shape[-1])


def at(x_XAb: Tensor, rows: Tensor) -> Tensor:
    """Return rows (C, A, n) of numbers, one a cell: (C, A, n, b)."""
    return x_XAb.flatten(0, 1).index_select(0, rows.flatten()).view(*rows.shape, -1)


def add(x_XAbD: Tensor, rows: Tensor, found: Tensor) -> None:
    """Add (C, A, n b, D) to rows (C, A, n) in place."""
    flat = x_XAbD.view(-1, x_XAbD.shape[2] * x_XAbD.shape[3])
    flat.index_add_(0, rows.flatten(), found.to(x_XAbD.dtype).reshape(-1, flat.shape[1]))
