"""Multi-head attention (Vaswani et al. 2017, section 3.2): self-attention and cross-attention.

Legend: G heads of keys and values.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast

from torch import Tensor, nn

from genus.model.attention import Attention, AttentionLayer
from genus.model.attention.cached import attend_cached, pieces
from genus.model.attention.kernels import attend, attention_weights
from genus.model.attention.masks import AttentionMask, Full
from genus.model.attention.plan import AttentionPlan, Side, plan_after_prefix, plan_attention
from genus.model.cost import ComponentCost, linear_cost
from genus.part import Count, Fraction, Positive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genus.model.attention.plan import Context, KeysAndValues
    from genus.model.cache import Cache, LayerCache
    from genus.model.initialization import Initialization
    from genus.model.split import Split


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
    scale: Positive | None = None
    """Factor on the attention scores; None: 1 / sqrt(D). The query map is drawn 1 / (scale sqrt(D)) times as large, so
    that scores begin as they do without it (T5; released code: fold_scaling_into_initializer)."""

    @property
    def in_words(self) -> str:
        """The numbers of heads, and the attention mask."""
        groups = f"{self.key_heads} heads of keys" if self.key_heads else ""
        return ", ".join(part for part in ("softmax", f"{self.heads} heads", groups, self.mask.in_words) if part)

    @property
    def takes_prefix(self) -> bool:
        """Whether trained keys and values can stand in front: they can."""
        return True

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

    def cross_cost(self, hidden: int, tokens: int, source: int) -> ComponentCost:
        """Return the same where keys and values are of the source; its states are kept by whoever made them."""
        heads, size = self.head_sizes(hidden)
        wide, narrow, share = heads * size, (self.key_heads or heads) * size, source / tokens
        products = ComponentCost(flops=4.0 * source * wide, activations=wide + 2 * narrow * share)
        keys = replace(linear_cost(hidden, 2 * narrow, self.bias).scaled(share), activations=0.0)
        return linear_cost(hidden, wide, self.bias) + keys + products + linear_cost(wide, hidden, self.bias)


class MultiHeadAttentionLayer(AttentionLayer):
    """The module of multi-head attention."""

    choice: MultiHeadAttention
    gathers = True

    def __init__(self, choice: MultiHeadAttention, hidden: int) -> None:
        super().__init__()
        heads, self.head_size = choice.head_sizes(hidden)
        wide, narrow = heads * self.head_size, (choice.key_heads or heads) * self.head_size
        self.choice = choice
        self.query = nn.Linear(hidden, wide, bias=choice.bias)
        self.key = nn.Linear(hidden, narrow, bias=choice.bias)
        self.value = nn.Linear(hidden, narrow, bias=choice.bias)
        self.out = nn.Linear(wide, hidden, bias=choice.bias)

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the output projection, and the query map where scores have a factor of their own."""
        super().init_weights(initialization)
        if self.choice.scale is not None:
            initialization.draw(self.query.weight, "hidden", self.head_size**-0.5 / self.choice.scale)

    def shardings(self) -> Mapping[str, Split | int]:
        """Return the split by heads."""
        return {"query": "column", "key": "column", "value": "column", "out": "row"}

    def cache_shape(self) -> tuple[int, int]:
        """Return G and D, the number of key-value heads and the head size."""
        return self.choice.key_heads or self.choice.heads, self.head_size

    def plan(self, context: Context) -> AttentionPlan:
        """Return the plan of self-attention, or of cross-attention where `context.across`."""
        if context.across:
            return self._across(context)
        packed, cache = context.packed, context.cache
        if context.prefix is not None:
            plan = self._after_prefix(context, len(context.prefix[0][0]))
        elif cache is None:
            side = Side.of(packed)
            plan = self._plan(context, side, side, self.choice.mask)
        else:
            plan = self._cached(context, cache)
            plan = replace(plan, written=cache.places())
        if context.rotation is not None:
            plan = replace(plan, rotation=context.rotation(packed.positions).to(context.dtype))
        return plan

    def _cached(self, context: Context, cache: Cache, keys: Cache | None = None) -> AttentionPlan:
        """Return the plan of new tokens that attend to their slots of a cache, or of the source's."""
        side, found = Side.of(context.packed), pieces(cache, context.packed, self.choice.mask, context.bias, keys=keys)
        return AttentionPlan("cached", side, side, scale=self.choice.scale, pieces=found)

    def _plan(self, context: Context, q: Side, k: Side, rule: AttentionMask) -> AttentionPlan:
        choice, packed = self.choice, None if context.across or q is not k else context.packed
        dropout = choice.dropout if context.training else 0.0
        return plan_attention(
            q, k, rule, context.dtype, dropout=dropout, scale=choice.scale, bias=context.bias, packed=packed
        )

    def _after_prefix(self, context: Context, length: int) -> AttentionPlan:
        """Return the plan of self-attention in which every token also attends to `length` keys in front."""
        choice, side = self.choice, Side.of(context.packed)
        dropout = choice.dropout if context.training else 0.0
        return plan_after_prefix(
            side, choice.mask, context.dtype, length, dropout=dropout, scale=choice.scale, bias=context.bias
        )

    def _across(self, context: Context) -> AttentionPlan:
        """Return the plan of cross-attention, from new tokens to a source or to its cached keys and values."""
        source, cache = context.source, context.cache
        if cache is not None and context.source_cache is not None:
            plan = self._cached(context, cache, context.source_cache)
            if source is None:
                return plan
            return replace(plan, source=source.states, written=context.source_cache.places())
        if source is None:
            raise ValueError("cross-attention needs a source, or a cache of its keys and values")
        plan = self._plan(context, Side.of(context.packed), Side.of(source.packed), self.choice.mask)
        return replace(plan, source=source.states)

    def forward(self, x: Tensor, plan: AttentionPlan, state: LayerCache | KeysAndValues | None = None) -> Tensor:
        """Forward pass: return (T, H), and write new keys and values to the cache in `state`.

        Where the plan is that of a prefix, the state is the prefix's keys and values.
        """
        return self.out(self.attended(x, plan, state).flatten(1))  # type: ignore[no-any-return]

    def attended(self, x: Tensor, plan: AttentionPlan, state: LayerCache | KeysAndValues | None = None) -> Tensor:
        """Return what each head has attended to (T, A, D), before the output projection; see `forward`."""
        q_TAD, cached = self._turned(self.query(x), plan), plan.kernel == "cached"
        if not cached or plan.written is not None:
            given = x if plan.source is None else plan.source
            k_TGD, v_TGD = self._turned(self.key(given), plan), self.by_head(self.value(given))
        if not cached:
            front = state if isinstance(state, tuple) else None
            return attend(q_TAD, k_TGD, v_TGD, plan, front=front)
        state = cast("LayerCache", state)
        if plan.written is not None:
            state.write(k_TGD, v_TGD, plan.written)
        return attend_cached(q_TAD, state, plan)

    def weights(self, x: Tensor, plan: AttentionPlan) -> Tensor:
        """Return the attention weights (R, A, Q, K) of a plan of rows.

        Raises:
            UsageError: the plan's kernel never has them, or keys are cached.
        """
        given = x if plan.source is None else plan.source
        return attention_weights(self._turned(self.query(x), plan), self._turned(self.key(given), plan), plan)

    def _turned(self, x: Tensor, plan: AttentionPlan) -> Tensor:
        """Return queries or keys (T, A, D), rotated by their positions where positions rotate."""
        by_head = self.by_head(x)
        return by_head if plan.rotation is None else plan.rotation.turn(by_head)
