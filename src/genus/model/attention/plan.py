"""Attention between two sides, queries and keys, each of which is a packed stream or a cache.

A plan is made once per forward pass for each distinct choice of attention, outside compiled regions. The kernel depends
on device, dtype and static shapes only, so that nothing waits for the device and compiled code is compiled once.
Legend: T tokens, R rows, L row length (Q of queries, K of keys), N entries, A heads.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from genus.model.attention.masks import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch.nn.attention.flex_attention import BlockMask

    from genus.batch import Memory, Packed
    from genus.model.attention.masks import AttentionMask
    from genus.model.cache import Cache
    from genus.model.position.bias import PositionBias
    from genus.model.position.rotary import RotaryPositions, Rotation

Kernel = Literal["math", "sdpa", "varlen", "flex"]

MATH_LENGTH = 512
"""Longest rows, on a CPU, for which writing the attention weights out beats the fused kernel."""


@dataclass(frozen=True, slots=True)
class Side:
    """The queries or the keys of attention. Row r of the queries attends to row r of the keys."""

    sequence: Tensor
    """(T,) which sequence each token is of; -1 for padding and for empty places of a cache."""
    position: Tensor
    """(T,) positions within the sequence."""
    offsets: Tensor | None
    """(N+1,) int32 cumulative lengths, entry by entry as on the other side; None for a cache."""
    row_length: int
    facts: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, packed: Packed) -> Side:
        """Return a packed stream as a side."""
        return cls(packed.sequence, packed.positions, packed.offsets, packed.row_length, packed.facts)

    def rows(self, x: Tensor) -> Tensor:
        """Return (R, L) for (T,)."""
        return x.view(-1, self.row_length)

    def place(self, needs: frozenset[str], dim: int) -> Place:
        """Return positions and facts by rows, with a dimension of size 1 for the other side."""
        facts = {name: self.rows(self.facts[name]).unsqueeze(dim) for name in needs}
        return Place(self.rows(self.position).unsqueeze(dim), facts)


@dataclass(frozen=True, slots=True)
class Source:
    """What cross-attention attends to: another packed stream, whose entry j is of the same example, and its states."""

    packed: Packed
    states: Tensor
    """(T, H)."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a forward pass is given beside hidden states; attention layers make their plans of it."""

    packed: Packed
    dtype: torch.dtype = torch.float32
    """In which attention is computed."""
    training: bool = False
    source: Source | None = None
    cache: Cache | None = None
    """Keys and values of earlier tokens; it is written too."""
    source_cache: Cache | None = None
    """Keys and values of cross-attention: written where there is a source, else read."""
    memory: Memory = field(default_factory=dict)
    rotation: RotaryPositions | None = None
    """From positions (T,) to the rotation of queries and keys."""
    bias: PositionBias | None = None
    """What distances add to the scores."""
    across: bool = False
    """Whether the layer that asks is one of cross-attention."""

    @classmethod
    def of(cls, packed: Packed, x: Tensor, training: bool, **given: Any) -> Context:
        """Return the context of hidden states x: attention is computed in autocast's dtype where it is on."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return cls(packed, dtype, training, **given)

    def crossing(self) -> Context:
        """Return the context of cross-attention, which positions neither rotate nor bias."""
        return replace(self, across=True, rotation=None, bias=None, cache=self.source_cache)

    def state(self, number: int) -> Any:
        """Return what is kept for layer `number`: a slice of the cache or of the memory; None where nothing is."""
        if self.cache is not None:
            return self.cache.layer(number)
        return self.memory["memory"][number] if self.memory else None


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """Everything about a forward pass that attention layers of the same choice share."""

    kernel: Kernel
    q: Side
    k: Side
    dropout: float = 0.0
    """Probability with which an attention weight is set to 0: above 0 in training only."""
    scale: float | None = None
    """Factor on the scores; None: 1 / sqrt(D)."""
    mask: Tensor | None = None
    """(R or 1, A or 1, Q, K) bool: true where attention is allowed (`sdpa`), or where it is not (`math`)."""
    additive: Tensor | None = None
    """(R, A, Q, K) what is added to the scores, -inf where attention is not allowed."""
    blind: Tensor | None = None
    """(R, 1, Q, 1) bool, queries that see nothing, whose output is 0; None where every query sees some key."""
    causal: bool = False
    """Whether the kernel's own causal mask says all, with no mask given."""
    window: tuple[int, int] | None = None
    block_mask: BlockMask | None = None
    score_mod: Callable[..., Tensor] | None = None
    rotation: Rotation | None = None
    """Of the new tokens' queries and keys."""
    source: Tensor | None = None
    """(T, H) the states of which keys and values are made; None: the queries' own."""
    written: Tensor | None = None
    """(T,) where keys and values are written in the cache; None: nowhere."""
    cached: bool = False
    """Whether keys and values are read from the cache."""


def choose(
    device: torch.device, dtype: torch.dtype, length: int, dropout: float, rule: AttentionMask, *, plain: bool = True
) -> Kernel:
    """Return the fastest kernel for a device, a precision and a row length.

    Args:
        device: of the queries.
        dtype: in which attention is computed.
        length: of the keys' rows.
        dropout: on attention weights.
        rule: the mask.
        plain: both sides are packed streams, and nothing is added to the scores.
    """
    if device.type == "cpu":
        return "math" if dropout or length <= MATH_LENGTH else "sdpa"
    if device.type != "cuda" or dtype not in {torch.bfloat16, torch.float16}:
        return "sdpa"
    if plain and rule.window is not None:
        return "varlen"
    return "sdpa" if dropout else "flex"


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
    """Return the plan of attention from one side to another.

    Args:
        q: the queries.
        k: the keys; the same object as the queries in self-attention.
        rule: the mask.
        dtype: in which attention is computed.
        dropout: on attention weights.
        scale: factor on the scores (None: 1 / sqrt(D)).
        bias: what is added to the scores.
        packed: the stream that is both sides, which may promise one sequence in each row.
        kernel: instead of the fastest one.
    """
    plain = bias is None and q.offsets is not None and k.offsets is not None
    kernel = kernel or choose(q.position.device, dtype, k.row_length, dropout, rule, plain=plain)
    plan = AttentionPlan(kernel, q, k, dropout, scale)
    if kernel == "varlen":
        return replace(plan, window=rule.window)
    if kernel == "flex":
        return replace(plan, block_mask=block_mask(q, k, rule), score_mod=bias and bias.score_mod(q, k))
    alone = packed is not None and packed.one_per_row
    if bias is None and alone and rule.window == (-1, 0):
        if kernel == "sdpa":
            return replace(plan, causal=True)
        # keys after the query are padding or later tokens of the one sequence, whatever the row
        order = torch.arange(q.row_length, device=q.position.device)
        return replace(plan, mask=(order > order[:, None])[None, None])
    if bias is None and alone and rule.full and packed is not None and packed.tokens == packed.ids.numel():
        return plan
    return with_mask(plan, allowed(q, k, rule)[:, None], None if bias is None else bias(q, k))


def with_mask(plan: AttentionPlan, allowed: Tensor, bias: Tensor | None = None) -> AttentionPlan:
    """Return a plan of a kernel over rows with who sees whom (R, A or 1, Q, K), and a bias on the scores."""
    blind = None
    if plan.q is not plan.k:
        blind = ~allowed.any(-1, keepdim=True)
        allowed = allowed | blind
    if bias is not None:
        return replace(plan, additive=bias.masked_fill(~allowed, -torch.inf), blind=blind)
    return replace(plan, mask=~allowed if plan.kernel == "math" else allowed, blind=blind)


def allowed(q: Side, k: Side, rule: AttentionMask) -> Tensor:
    """Return (R, Q, K) bool, which queries attend to which keys in each row.

    Padding attends to the padding of its own row, so that no row of a softmax is empty in self-attention.
    """
    same = q.rows(q.sequence)[:, :, None] == k.rows(k.sequence)[:, None]
    if q is not k:
        same = same & (k.rows(k.sequence) >= 0)[:, None]
    found = rule.allowed(q.place(rule.needs, 2), k.place(rule.needs, 1))
    return same if found is None else same & found


def block_mask(q: Side, k: Side, rule: AttentionMask) -> BlockMask:
    """Return FlexAttention's mask of the same rule."""
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
