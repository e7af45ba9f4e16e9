"""Multi-head attention (Vaswani et al. 2017, section 3.2): self-attention and cross-attention.

Legend: G heads of keys and values; else docs/names.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from genus.model.attention import Attention, AttentionLayer
from genus.model.attention.kernels import attend
from genus.model.attention.masks import AttentionMask, Full
from genus.model.attention.plan import AttentionPlan, Side, plan_attention
from genus.model.cost import ComponentCost, linear_cost
from genus.part import Count, Fraction, NotNegative

if TYPE_CHECKING:
    from genus.model.attention.plan import Context
    from genus.model.cache import LayerCache


class MultiHeadAttention(Attention):
    """Multi-head attention: concat_a(softmax(q_a k_aᵀ / sqrt(D)) v_a) W_out, where a counts the heads.

    In self-attention, queries, keys and values are projections of the same hidden states. With `key_heads` = G < A it
    is grouped-query attention: A / G query heads share a head of keys and values (Ainslie et al. 2023).
    """

    takes_positions: ClassVar[bool] = True
    crosses: ClassVar[bool] = True

    heads: Count
    bias: bool = True
    dropout: Fraction = 0.1
    """Dropout probability of the attention probabilities, in training."""
    mask: AttentionMask = Full()
    key_heads: Count | None = None
    """G, the number of heads of keys and values, which divides `heads`; None: `heads`."""
    size: Count | None = None
    """D, the head size; None: H / A."""
    scale: NotNegative | None = None
    """Factor on the attention scores; None: 1 / sqrt(D)."""

    @property
    def in_words(self) -> str:
        """The numbers of heads, and the attention mask."""
        groups = f"{self.key_heads} heads of keys" if self.key_heads else ""
        return ", ".join(part for part in ("softmax", f"{self.heads} heads", groups, self.mask.in_words) if part)

    def head_sizes(self, hidden: int) -> tuple[int, int]:
        """Return A and D, the number of heads and the head size."""
        return self.heads, self.size or hidden // self.heads

    def check(self, hidden: int) -> None:
        """Check that the heads divide the hidden size, and that the key heads divide the heads (ValueError)."""
        if self.heads < 1 or (self.size is None and hidden % self.heads):
            raise ValueError(f"{self.heads} attention heads do not divide a hidden size of {hidden}")
        if self.key_heads is not None and (self.key_heads < 1 or self.heads % self.key_heads):
            raise ValueError(f"attention.key_heads: {self.key_heads} do not divide {self.heads} heads")

    def build(self, hidden: int) -> AttentionLayer:
        """Return the module for hidden states of size H = `hidden`."""
        return MultiHeadAttentionLayer(self, hidden)

    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return the cost of the projections and of q kᵀ and weights v, over all pairs of tokens whatever the mask."""
        heads, size = self.head_sizes(hidden)
        wide, narrow = heads * size, (self.key_heads or heads) * size
        products = ComponentCost(flops=4.0 * length * wide, activations=wide + 2 * narrow)
        return linear_cost(hidden, wide + 2 * narrow, self.bias) + products + linear_cost(wide, hidden, self.bias)

    def cross_demand(self, hidden: int, tokens: int, source: int) -> ComponentCost:
        """Return the same where keys and values are of the source; its states are kept by whoever made them."""
        heads, size = self.head_sizes(hidden)
        wide, narrow, share = heads * size, (self.key_heads or heads) * size, source / tokens
        products = ComponentCost(flops=4.0 * source * wide, activations=wide + 2 * narrow * share)
        keys = replace(linear_cost(hidden, 2 * narrow, self.bias).scaled(share), activations=0.0)
        return linear_cost(hidden, wide, self.bias) + keys + products + linear_cost(wide, hidden, self.bias)


class MultiHeadAttentionLayer(AttentionLayer):
    """The module of multi-head attention."""

    choice: MultiHeadAttention

    def __init__(self, choice: MultiHeadAttention, hidden: int) -> None:
        super().__init__()
        heads, self.head_size = choice.head_sizes(hidden)
        wide, narrow = heads * self.head_size, (choice.key_heads or heads) * self.head_size
        self.choice = choice
        self.query = nn.Linear(hidden, wide, bias=choice.bias)
        self.key = nn.Linear(hidden, narrow, bias=choice.bias)
        self.value = nn.Linear(hidden, narrow, bias=choice.bias)
        self.out = nn.Linear(wide, hidden, bias=choice.bias)

    def cache_shape(self) -> tuple[int, int]:
        """Return G and D, the number of key-value heads and the head size."""
        return self.choice.key_heads or self.choice.heads, self.head_size

    def plan(self, context: Context) -> AttentionPlan:
        """Return the plan of self-attention, or of cross-attention where `context.across`."""
        if context.across:
            return self._across(context)
        rule, packed, cache = self.choice.mask, context.packed, context.cache
        q = k = Side.of(packed)
        if cache is not None and not cache.empty:
            q, k, rule = cache.queries(packed), cache.keys(packed), rule.after_prompt()
        plan = self._plan(context, q, k, rule)
        if context.rotation is not None:
            plan = replace(plan, rotation=context.rotation(packed.positions).to(context.dtype))
        if cache is not None:
            plan = replace(plan, written=cache.places(packed), cached=not cache.empty)
        return plan

    def _plan(self, context: Context, q: Side, k: Side, rule: AttentionMask) -> AttentionPlan:
        choice, packed = self.choice, None if context.across or q is not k else context.packed
        dropout = choice.dropout if context.training else 0.0
        return plan_attention(
            q, k, rule, context.dtype, dropout=dropout, scale=choice.scale, bias=context.bias, packed=packed
        )

    def _across(self, context: Context) -> AttentionPlan:
        """Return the plan of cross-attention, from new tokens to a source or to its cached keys and values."""
        source, cache, packed = context.source, context.cache, context.packed
        if source is None:
            if cache is None:
                raise ValueError("cross-attention needs a source, or a cache of its keys and values")
            plan = self._plan(context, cache.queries(packed), cache.keys(packed, own=False), self.choice.mask)
            return replace(plan, cached=True)
        plan = self._plan(context, Side.of(packed), Side.of(source.packed), self.choice.mask)
        written = None if cache is None else cache.places(source.packed)
        return replace(plan, source=source.states, written=written)

    def forward(self, x: Tensor, plan: AttentionPlan, state: LayerCache | None = None) -> Tensor:
        """Forward pass: return (T, H), and write new keys and values to the cache in `state`."""
        q_TAD, rotation = self.by_head(self.query(x)), plan.rotation
        if state is not None and plan.written is None:
            k_TGD, v_TGD = state.read()
        else:
            given = x if plan.source is None else plan.source
            k_TGD, v_TGD = self.by_head(self.key(given)), self.by_head(self.value(given))
            if rotation is not None:
                q_TAD, k_TGD = rotation.turn(q_TAD), rotation.turn(k_TGD)
            if state is not None and plan.written is not None:
                state.write(k_TGD, v_TGD, plan.written)
                if plan.cached:
                    k_TGD, v_TGD = state.read()
        return self.out(attend(q_TAD, k_TGD, v_TGD, plan).flatten(1))  # type: ignore[no-any-return]
