"""Attention plans: kernel, mask and bias for queries and keys, each of which is a packed stream or a key-value cache.

A plan is made once per forward pass for each distinct choice of attention, outside compiled regions. The choice of
kernel depends on device, dtype and static shapes only: no device synchronization, and one compilation.

Legend: J entries of a packed batch, those of padding included.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from genus.model.attention.masks import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch.nn.attention.flex_attention import BlockMask

    from genus.batch import Memory, Packed
    from genus.model.attention.cached import Piece
    from genus.model.attention.masks import AttentionMask
    from genus.model.cache import Cache
    from genus.model.position.bias import PositionBias
    from genus.model.position.rotary import RotaryPositions, Rotation

Kernel = Literal["math", "sdpa", "varlen", "flex", "cached"]

KeysAndValues = tuple[Tensor, Tensor]
"""Keys and values (p, G, D) of a layer that stand in front of every sequence (prefix tuning)."""
MATH_LENGTH = 512
"""Longest rows, on a CPU, for which explicit attention weights are faster than the fused kernel."""


@dataclass(frozen=True, slots=True)
class Side:
    """The queries or the keys of attention. Row r of the queries attends to row r of the keys."""

    sequence: Tensor
    """(T,) index of each token's sequence; -1 for padding."""
    position: Tensor
    """(T,) positions within the sequence."""
    offsets: Tensor | None
    """(J+1,) int32 cumulative lengths, entry by entry as on the other side; None: unknown."""
    row_length: int
    facts: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, packed: Packed) -> Side:
        """Return a packed stream as queries or keys."""
        return cls(packed.sequence, packed.positions, packed.offsets, packed.row_length, packed.facts)

    def rows(self, x: Tensor) -> Tensor:
        """Reshape (T,) to rows (R, L)."""
        return x.view(-1, self.row_length)

    def place(self, needs: frozenset[str], dim: int) -> Place:
        """Return positions and facts by rows, with a dimension of size 1 at `dim` to broadcast over the other side."""
        facts = {name: self.rows(self.facts[name]).unsqueeze(dim) for name in needs}
        return Place(self.rows(self.position).unsqueeze(dim), facts)


@dataclass(frozen=True, slots=True)
class Source:
    """The source of cross-attention: another packed stream, whose entry j is of the same example, and its states."""

    packed: Packed
    states: Tensor
    """Hidden states (T, H)."""
    by_layer: tuple[Tensor, ...] = ()
    """Hidden states (T, H) for each layer's cross-attention (transparent attention); empty: `states` for all."""


@dataclass(frozen=True, slots=True)
class Context:
    """The inputs of a forward pass beside hidden states, from which attention layers make their plans."""

    packed: Packed
    dtype: torch.dtype = torch.float32
    """Precision in which attention is computed."""
    training: bool = False
    source: Source | None = None
    cache: Cache | None = None
    """Key-value cache of self-attention: read, and extended by the new tokens."""
    source_cache: Cache | None = None
    """Key-value cache of cross-attention: written where there is a source, else read."""
    memory: Memory = field(default_factory=dict)
    rotation: RotaryPositions | None = None
    """Rotary positions: maps positions (T,) to the rotation of queries and keys."""
    bias: PositionBias | None = None
    """Position bias, added to the attention scores."""
    prefix: tuple[KeysAndValues, ...] | None = None
    """Trained keys and values of each layer, in front of every sequence; None: there are none."""
    across: bool = False
    """Whether the context is for cross-attention layers."""
    losses: dict[str, Tensor] = field(default_factory=dict)
    """Auxiliary losses of the layers so far, by name, summed over real tokens and layers (`States.losses`)."""

    @classmethod
    def of(cls, packed: Packed, x: Tensor, training: bool, **given: Any) -> Context:
        """Return the context of hidden states x; the dtype is autocast's where it is enabled, else that of x."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return cls(packed, dtype, training, **given)

    def crossing(self) -> Context:
        """Return the context of cross-attention, without rotary positions, position bias or prefix."""
        return replace(self, across=True, rotation=None, bias=None, prefix=None)

    def gather(self, losses: Mapping[str, Tensor]) -> None:
        """Add a layer's auxiliary losses to those of the layers before."""
        for name, loss in losses.items():
            self.losses[name] = self.losses[name] + loss if name in self.losses else loss

    def state(self, number: int) -> Any:
        """Return layer `number`'s slice of the prefix, the key-value cache or the memory; None where there is none."""
        if self.prefix is not None:
            return self.prefix[number]
        cache = self.source_cache if self.across else self.cache
        if cache is not None:
            return cache.layer(number)
        return self.memory["memory"][number] if self.memory else None


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """The attention plan: all that attention layers of the same choice share in a forward pass."""

    kernel: Kernel
    q: Side
    k: Side
    dropout: float = 0.0
    """Dropout probability of attention weights: above 0 in training only."""
    scale: float | None = None
    """Factor on the scores; None: 1 / sqrt(D)."""
    mask: Tensor | None = None
    """(R or 1, A or 1, Q, K) bool attention mask: true where attention is allowed (`sdpa`) or forbidden (`math`).

    Of `varlen` with prefixes: (T, 1, 1) bool, true for the tokens of prefixes.
    """
    additive: Tensor | None = None
    """(R, A, Q, K) additive attention bias, -inf where attention is forbidden."""
    blind: Tensor | None = None
    """(R, 1, Q, 1) bool: queries that attend to no key, whose output is 0; None: every query attends to some key."""
    window: tuple[int, int] | None = None
    """The attention mask as a sliding window of the kernel's own, in place of a tensor; (-1, 0) alone with `sdpa`."""
    prefix: AttentionPlan | None = None
    """Plan of the prefixes' tokens (`varlen`), where others attend by `window`."""
    block_mask: BlockMask | None = None
    score_mod: Callable[..., Tensor] | None = None
    rotation: Rotation | None = None
    """Rotary positions of the new tokens' queries and keys."""
    source: Tensor | None = None
    """(T, H) hidden states from which keys and values are projected; None: those of the queries."""
    pieces: tuple[Piece, ...] = ()
    """What each sequence attends to, where keys and values are read from the key-value cache (`cached`)."""
    written: Tensor | None = None
    """(T,) scatter index of keys and values into the cache; None: they are not cached."""


def choose(
    device: torch.device, dtype: torch.dtype, length: int, dropout: float, rule: AttentionMask, *, plain: bool = True
) -> Kernel:
    """Return the fastest attention kernel for a device, a precision and a row length.

    Args:
        device: of the queries.
        dtype: precision in which attention is computed.
        length: row length of the keys.
        dropout: dropout probability of attention weights.
        rule: the attention mask.
        plain: both sides are packed streams, and there is no bias on the scores.
    """
    if device.type == "cpu":
        return "sdpa" if not dropout and (length > MATH_LENGTH or fused_is_faster(dtype)) else "math"
    if device.type != "cuda" or dtype not in {torch.bfloat16, torch.float16}:
        return "sdpa"
    if plain and (rule.window is not None or rule.prefix is not None):
        return "varlen"
    return "sdpa" if dropout else "flex"


_lock, _asking = threading.Lock(), 0
"""How many passes are made by `in_inference`: a plain number, as the exporter can trace no other state."""


@contextmanager
def in_inference() -> Iterator[None]:
    """Context manager: kernels that are faster without a backward pass may be chosen.

    Elsewhere the pass without gradients is computed as the one with gradients is, so that they agree to the last bit.
    """
    global _asking
    with _lock:
        _asking += 1
    try:
        yield
    finally:
        with _lock:
            _asking -= 1


def fused_is_faster(dtype: torch.dtype) -> bool:
    """Return whether the fused kernel of a CPU is faster for short rows too.

    It is in inference in float32, where MKL multiplies (see `cpu.use_onednn_matmul`): it takes 45 to 70 % of the time
    of rows of 32 to 128 tokens (Intel Xeon). In bfloat16 it takes twice the time, and oneDNN takes longer to begin each
    of its small products.
    """
    if not _asking or torch.is_grad_enabled():
        return False
    return dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"


def plan_attention(
    q: Side,
    k: Side,
    rule: AttentionMask,
    dtype: torch.dtype,
    *,
    dropout: float = 0.0,
    scale: float | None = None,
    bias: PositionBias | None = None,
    packed: Packed | None = None,
    kernel: Kernel | None = None,
) -> AttentionPlan:
    """Return the attention plan of queries and keys.

    Args:
        q: the queries.
        k: the keys; the same object as the queries in self-attention.
        rule: the attention mask.
        dtype: precision in which attention is computed.
        dropout: dropout probability of attention weights.
        scale: factor on the scores (None: 1 / sqrt(D)).
        bias: position bias, added to the scores.
        packed: the stream that is both sides; its `one_per_row` allows cheaper masks.
        kernel: the kernel to use (None: the fastest).
    """
    plain = bias is None and q.offsets is not None and k.offsets is not None and (q is k or rule.prefix is None)
    kernel = kernel or choose(q.position.device, dtype, k.row_length, dropout, rule, plain=plain)
    plan = AttentionPlan(kernel, q, k, dropout, scale)
    if kernel == "varlen":
        return replace(plan, window=rule.window) if rule.prefix is None else with_prefixes(plan, rule.prefix)
    if kernel == "flex":
        return replace(plan, block_mask=block_mask(q, k, rule), score_mod=bias and bias.score_mod(q, k))
    alone = packed is not None and packed.one_per_row
    if bias is None and alone and rule.window == (-1, 0):
        if kernel == "sdpa":
            return replace(plan, window=rule.window)
        # keys after the query are padding or later tokens of the one sequence, whatever the row
        order = torch.arange(q.row_length, device=q.position.device)
        return replace(plan, mask=(order > order[:, None])[None, None])
    if bias is None and alone and rule.full and packed is not None and packed.tokens == packed.ids.numel():
        return plan
    return with_mask(plan, allowed(q, k, rule)[:, None], None if bias is None else bias(q, k))


def plan_after_prefix(
    side: Side,
    rule: AttentionMask,
    dtype: torch.dtype,
    length: int,
    *,
    dropout: float = 0.0,
    scale: float | None = None,
    bias: PositionBias | None = None,
) -> AttentionPlan:
    """Return the plan of self-attention over rows in front of whose keys stand `length` others, the same for all.

    Those are at positions 0 to `length` - 1, before the first token's, and every query attends to them, whatever the
    mask. Arguments are those of `plan_attention`.
    """
    device, rows = side.position.device, side.rows(side.position)
    keys = length + side.row_length
    kernel: Kernel = choose(device, dtype, keys, dropout, rule) if device.type == "cpu" else "sdpa"
    plan = AttentionPlan(kernel, side, side, dropout, scale)
    seen = allowed(side, side, rule)
    seen = torch.cat([seen.new_ones(*seen.shape[:2], length), seen], -1)[:, None]
    if bias is None:
        return with_mask(plan, seen)
    ahead = torch.arange(length, device=device).repeat(len(rows))
    front = Side(torch.zeros_like(ahead, dtype=side.sequence.dtype), ahead, None, length)
    return with_mask(plan, seen, torch.cat([bias(side, front), bias(side, side)], -1))


def with_prefixes(plan: AttentionPlan, fact: str) -> AttentionPlan:
    """Return the plan of variable-length attention that is full within prefixes and causal for the tokens after them.

    Two calls over all tokens, of which each token keeps one answer: causal over whole sequences, and full over entries
    that are a sequence's prefix or what follows it. Neither needs a mask, nor a length on the CPU.

    Args:
        plan: of self-attention over a packed stream.
        fact: name of the fact that is 1 for the tokens of prefixes.
    """
    side = plan.q
    assert side.offsets is not None
    marked, first = side.facts[fact].bool(), side.offsets.long()
    before = torch.cat([first.new_zeros(1), marked.cumsum(0)])  # tokens of prefixes before each token
    cuts = torch.stack([first[:-1], first[:-1] + before[first].diff()], 1).flatten()
    inner = replace(side, offsets=torch.cat([cuts, first[-1:]]).to(side.offsets.dtype))
    within = replace(plan, q=inner, k=inner, window=(-1, -1))
    return replace(plan, window=(-1, 0), prefix=within, mask=marked[:, None, None])


def with_mask(plan: AttentionPlan, allowed: Tensor, bias: Tensor | None = None) -> AttentionPlan:
    """Return the plan of a kernel over rows with an attention mask (R, A or 1, Q, K) and a bias on the scores."""
    blind = None
    if plan.q is not plan.k:
        blind = ~allowed.any(-1, keepdim=True)
        allowed = allowed | blind
    if bias is not None:
        return replace(plan, additive=bias.masked_fill(~allowed, -torch.inf), blind=blind)
    return replace(plan, mask=~allowed if plan.kernel == "math" else allowed, blind=blind)


def allowed(q: Side, k: Side, rule: AttentionMask) -> Tensor:
    """Return the attention mask (R, Q, K) bool, true where the query attends to the key.

    Padding attends to the padding of its own row, so that in self-attention no softmax is over an empty set.
    """
    same = q.rows(q.sequence)[:, :, None] == k.rows(k.sequence)[:, None]
    if q is not k:
        same = same & (k.rows(k.sequence) >= 0)[:, None]
    found = rule.allowed(q.place(rule.needs, 2), k.place(rule.needs, 1))
    return same if found is None else same & found


def block_mask(q: Side, k: Side, rule: AttentionMask) -> BlockMask:
    """Return FlexAttention's block mask of the same pairs as `allowed`."""
    from torch.nn.attention.flex_attention import create_block_mask

    def at(side: Side, index: Tensor) -> Place:
        return Place(side.position[index], {name: side.facts[name][index] for name in rule.needs})

    def mod(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        i, j = row * q.row_length + query, row * k.row_length + key
        same = q.sequence[i] == k.sequence[j]
        if q is not k:
            same = same & (k.sequence[j] >= 0)
        found = rule.allowed(at(q, i), at(k, j))
        return same if found is None else same & found

    rows, device = q.position.numel() // q.row_length, q.position.device
    return create_block_mask(mod, rows, None, q.row_length, k.row_length, device=str(device))
