"""Block-sparse attention kernel, in time and memory linear in the number of pairs of blocks.

There are two passes. In the first each block attends to U + W + Z blocks of its own; in the second the U global blocks
of a sequence attend to all blocks of it. Both work in chunks, and each chunk is recomputed in the backward pass, so
that only queries, keys, values, outputs and the log normalizers of the softmax are kept (Dao et al. 2022,
FlashAttention, algorithms 1 and 4). A row is one block of one head, C A in all. Q and K are the queries and the keys
that meet in a chunk, Q / b rows and K / b rows.

Legend: b tokens of a chunk, of a block or of a strip; C chunks or blocks, of a batch or of a part of it; U global
blocks of a sequence; W chunks or blocks of a window; Z random blocks.
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
"""Number of attention scores that are computed at once, by device: few enough for a processor's cache."""
MANY_SCORES = 1 << 26
"""The same number on other devices: enough to keep a GPU busy."""


@dataclass(frozen=True, slots=True)
class BlockPairs:
    """The block-sparse attention mask: pairs of blocks that attend to each other."""

    seen: Tensor
    """(C, A, U + W + Z) int64: the blocks that each block attends to in the first pass."""
    allowed: Tensor
    """(C, A, U + W + Z) bool: false for padding of `seen`; all of it is padding for global and empty blocks."""
    center: Tensor
    """(C, U) int64: the global blocks of each block's sequence, which attend to it in the second pass."""
    central: Tensor
    """(C, U) bool: false for padding of `center`."""
    real: Tensor
    """(C, b) bool: true for positions with a token, the only ones that are attended to."""


def attend_blocks(qkv_3CAbD: Tensor, pairs: BlockPairs, dropout: float) -> Tensor:
    """Return attention outputs softmax(q kᵀ / sqrt(D)) v over the pairs (C, A, b, D); 0 for queries of empty blocks."""
    seed = int(torch.randint(1 << 62, ())) if dropout else 0
    return _Attention.apply(qkv_3CAbD, pairs, dropout, seed)  # type: ignore[no-any-return, no-untyped-call]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of the computation: rows of queries, and the rows of keys that they attend to."""

    queries: Tensor
    """(C, A, Q / b) int64 row indices."""
    keys: Tensor
    """(C, A, K / b) int64 row indices."""
    mask: Tensor
    """(C, A or 1, Q / b, 1, K) bool attention mask: the keys that each row of queries attends to."""
    keep: float
    """1 - the dropout probability of attention probabilities."""
    seed: int
    """Seed of the dropout mask."""

    def probabilities(self, q: Tensor, k: Tensor, logs: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return attention probabilities (C, A, Q, K) and log normalizers (C, A, Q / b, b), given or computed."""
        scores = (q @ k.transpose(-1, -2)).to(wide(q)).view(*self.queries.shape, -1, k.shape[-2])
        scores = scores.mul_(scale(q)).masked_fill_(~self.mask, -torch.inf)
        logs = scores.logsumexp(-1) if logs is None else logs
        floor = logs.masked_fill(logs == -torch.inf, torch.inf)  # a query without keys has probabilities 0
        return scores.sub_(floor[..., None]).exp_().flatten(2, 3), logs

    def drop(self, x: Tensor) -> Tensor:
        """Apply dropout: zero elements of x and scale the others by 1 / keep; every call has the same mask."""
        if self.keep == 1.0:
            return x
        generator = torch.Generator(x.device).manual_seed(self.seed)
        return x * (torch.rand(x.shape, generator=generator, device=x.device) < self.keep) / self.keep


def chunks(pairs: BlockPairs, dropout: float, seed: int) -> tuple[Iterator[Chunk], Iterator[Chunk]]:
    """Return the chunks of both passes: blocks with keys of their own, then global blocks with all keys."""
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
    """Forward and backward pass of block-sparse attention, with recomputation."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, pairs: BlockPairs, dropout: float, seed: int) -> Tensor:
        """Return attention outputs (C, A, b, D)."""
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
        """Return the gradient of queries, keys and values (3, C, A, b, D)."""
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
    """First pass, where each row of queries is in one chunk: add to `out`, return log normalizers (C, A, b)."""
    q, k, v = qkv.unbind()
    logs = torch.full_like(out[..., 0], -torch.inf)
    for part in parts:
        chances, sums = part.probabilities(take(q, part.queries), take(k, part.keys))
        add(out, part.queries, part.drop(chances).to(v.dtype) @ take(v, part.keys))
        logs.flatten(0, 1).index_copy_(0, part.queries.flatten(), sums.flatten(0, 2))
    return logs


def _together(out: Tensor, qkv: Tensor, pairs: BlockPairs, dropout: float, seed: int) -> Tensor:
    """Second pass, where a row of queries is in many chunks, with other keys: normalizers first, then outputs."""
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
    """Return the log-sum-exp (C, A, b) over parts: rows (C, A, Q / b) and their log normalizers (C, A, Q / b, b)."""
    top = torch.full_like(out[..., 0], -torch.inf)
    for rows, sums in parts:
        index = rows.flatten()[:, None].expand(-1, sums.shape[-1])
        top.flatten(0, 1).scatter_reduce_(0, index, sums.flatten(0, 2), "amax")
    total, floor = torch.zeros_like(top), top.masked_fill(top == -torch.inf, 0.0)
    for rows, sums in parts:
        total.flatten(0, 1).index_add_(0, rows.flatten(), (sums - at(floor, rows)).exp_().flatten(0, 2))
    return top + total.log()


def wide(x: Tensor) -> torch.dtype:
    """Return the accumulation dtype: float32 at least."""
    return torch.promote_types(torch.float32, x.dtype)


def scale(x: Tensor) -> float:
    """Return the factor on the scores, 1 / sqrt(D)."""
    return float(x.shape[-1] ** -0.5)


def take(x_CAbD: Tensor, rows: Tensor) -> Tensor:
    """Gather rows of queries (C, A, Q / b), or of keys, concatenated along their tokens: (C, A, Q, D)."""
    found = x_CAbD.flatten(2).flatten(0, 1).index_select(0, rows.flatten())
    return found.view(*rows.shape[:2], -1, x_CAbD.shape[-1])


def at(x_CAb: Tensor, rows: Tensor) -> Tensor:
    """Gather rows (C, A, Q / b) of scalars per token: (C, A, Q / b, b)."""
    return x_CAb.flatten(0, 1).index_select(0, rows.flatten()).view(*rows.shape, -1)


def add(x_CAbD: Tensor, rows: Tensor, found: Tensor) -> None:
    """Scatter-add (C, A, Q, D) to rows of queries (C, A, Q / b), or of keys, in place."""
    flat = x_CAbD.view(-1, x_CAbD.shape[2] * x_CAbD.shape[3])
    flat.index_add_(0, rows.flatten(), found.to(x_CAbD.dtype).reshape(-1, flat.shape[1]))
