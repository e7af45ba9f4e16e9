"""BigBird's attention: a window, a few random blocks, and global tokens (Zaheer et al. 2020, section 2, appendix D).

Legend: T tokens, H hidden size, X blocks, b cells of a block, A heads, D = H / A, S blocks that a block sees.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from genus.errors import GenusError
from genus.model.attention import Attention, AttentionLayer
from genus.model.attention.block_sparse.kernel import BlockPairs, attend_blocks
from genus.model.attention.block_sparse.layout import BlockLayout, BlockRows, draw_blocks, in_rows, lay_out
from genus.model.attention.kernels import attend
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.attention.plan import AttentionPlan, Side, with_mask
from genus.model.compile import uncompiled
from genus.model.cost import ComponentCost, linear_cost
from genus.part import Count, Fraction, Natural

if TYPE_CHECKING:
    from collections.abc import Hashable

    from genus.batch import Packed
    from genus.model.attention.plan import Context, Kernel

DENSE_LENGTH = 512
"""Longest rows for which all pairs of tokens, under a mask, are faster than pairs of blocks."""


class BlockSparseAttention(Attention):
    """Softmax attention in which a token sees few blocks of its sequence: time and memory are linear in its length.

    A block of tokens sees the global tokens, the blocks around it, and blocks drawn at random, each once. Global tokens
    see, and are seen by, their whole sequence: the first `lead` and the last `tail` blocks (ITC), or vectors added to
    the sequence (ETC, `GlobalTokenTransformer`). A sequence of few blocks is seen in full, as nothing is left that is
    not. In rows of up to 512 tokens all pairs are computed, under a mask: the same function, and faster there.

    Which blocks are drawn hangs on the seed, the head, the number of the block and the length of the sequence alone,
    and never changes.
    Deviations: sequences are cut into blocks each for itself, wherever it lies in a row, and the last block is the
    sequence's own, not the padding's; released code draws by NumPy's generator, and drops no probability out.
    """

    heads: Count
    bias: bool = True
    dropout: Fraction = 0.1
    """On the attention probabilities, in training."""
    block_size: Count = 64
    """b, tokens of a block."""
    num_global_tokens: Natural = 64
    """Global tokens at the beginning of a sequence; they have blocks of their own."""
    num_global_tail_blocks: Natural = 1
    """Global blocks at its end."""
    window_blocks: Count = 3
    """Blocks around a block that it sees, itself among them; an odd number."""
    random_blocks: Natural = 3
    """Blocks drawn at random."""
    random_block_limit: Count | None = None
    """Blocks at the beginning of a sequence among which they are drawn; None: all of it."""
    seed: Natural = 0
    """Layer n of a stack draws with this seed + n (released code: with n)."""

    @property
    def in_words(self) -> str:
        """What a block sees beside the global tokens, and the heads."""
        sizes = f"window of {self.window_blocks}, {self.random_blocks} random, of {self.block_size} tokens"
        return f"block-sparse ({sizes}), {self.heads} heads"

    def of_layer(self, number: int) -> BlockSparseAttention:
        """Return the choice with the layer's own seed."""
        return replace(self, seed=self.seed + number)

    def plan_key(self) -> Hashable:
        """Return the choice but for the seed, of which no plan knows."""
        return replace(self, seed=0)

    def check(self, hidden: int) -> None:
        """Refuse heads that do not divide the hidden size, and numbers of blocks that cannot be."""
        if hidden % self.heads:
            raise ValueError(f"{self.heads} attention heads do not divide a hidden size of {hidden}")
        if self.window_blocks % 2 == 0:
            raise ValueError(f"attention.window_blocks: expected an odd number of blocks, got {self.window_blocks}")

    def can_load(self, other: Attention) -> bool:
        """Say yes to full attention, whose weights are the same (section 4: RoBERTa's checkpoint).

        Raises:
            GenusError: it has another number of heads.
        """
        if not isinstance(other, MultiHeadAttention):
            return False
        if (other.heads, other.bias) != (self.heads, self.bias):
            raise GenusError(f"the model read has {other.heads} attention heads, not {self.heads}: "
                             "take a row of its size, or set model.attention.heads")  # fmt: skip
        return True

    def build(self, hidden: int) -> AttentionLayer:
        """Return the layer."""
        return BlockSparseAttentionLayer(self, hidden)

    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return the projections, two products with the blocks that a token sees, and two with the global ones."""
        globals_ = (-(-self.num_global_tokens // self.block_size) + self.num_global_tail_blocks) * self.block_size
        seen = min(length, globals_ + (self.window_blocks + self.random_blocks) * self.block_size) + min(
            length, globals_
        )
        products = ComponentCost(flops=4.0 * min(length, seen) * hidden, activations=4 * hidden)
        return linear_cost(hidden, 3 * hidden, self.bias) + products + linear_cost(hidden, hidden, self.bias)


@dataclass(frozen=True, slots=True)
class BlockSparsePlan:
    """What the layers of a stack share for a batch."""

    packed: Packed
    layout: BlockLayout
    rows: BlockRows | None
    """The rows of tokens, where attention is computed for all pairs in them; None where it is for pairs of blocks."""
    near: Tensor
    """(X, E + W) int64: the global blocks and the window of each block."""
    allowed: Tensor
    """(X, E + W) bool: which of them there are; for global and empty blocks none."""
    center: Tensor
    """(X, E) int64: the global blocks."""
    central: Tensor
    """(X, E) bool: which of them there are."""
    dropout: float


class BlockSparseAttentionLayer(AttentionLayer):
    """The module of block-sparse attention; its weights are those of full attention."""

    choice: BlockSparseAttention

    def __init__(self, choice: BlockSparseAttention, hidden: int) -> None:
        super().__init__()
        self.choice, self.head_size = choice, hidden // choice.heads
        self.query = nn.Linear(hidden, hidden, bias=choice.bias)
        self.key = nn.Linear(hidden, hidden, bias=choice.bias)
        self.value = nn.Linear(hidden, hidden, bias=choice.bias)
        self.out = nn.Linear(hidden, hidden, bias=choice.bias)

    def plan(self, context: Context) -> BlockSparsePlan:
        """Return the blocks of the batch, and who sees whom but for what is drawn."""
        choice, packed = self.choice, context.packed
        layout = lay_out(packed, choice.block_size, choice.num_global_tokens, choice.num_global_tail_blocks)
        (center, central), (window, inside) = layout.global_blocks(), layout.window(choice.window_blocks)
        sparse = ~layout.is_global()[:, None]
        return BlockSparsePlan(
            packed=packed,
            layout=layout,
            rows=in_rows(layout, packed.row_length, choice.window_blocks)
            if packed.row_length <= DENSE_LENGTH
            else None,
            near=torch.cat([center, window], 1),
            allowed=torch.cat([central, inside], 1) & sparse,
            center=center,
            central=central,
            dropout=choice.dropout if context.training else 0.0,
        )

    def forward(self, x: Tensor, shared: BlockSparsePlan, state: None = None) -> Tensor:
        """Return (T, H)."""
        if shared.rows is not None:
            q_TAD, k_TAD, v_TAD = (
                self.by_drawn_head(project(x), self.choice.heads) for project in (self.query, self.key, self.value)
            )
            out_TAD = attend(q_TAD, k_TAD, v_TAD, self._view(shared, shared.rows))
            return self.out(out_TAD.flatten(1))  # type: ignore[no-any-return]
        mixed_XAbD = self._attend(self._blocks(x, shared.layout), shared)
        mixed_CH = mixed_XAbD.transpose(1, 2).reshape(len(shared.layout.token), -1)
        return self.out(mixed_CH.index_select(0, shared.layout.cell))  # type: ignore[no-any-return]

    def _blocks(self, x: Tensor, layout: BlockLayout) -> Tensor:
        """Return queries, keys and values on the axis of blocks (3, X, A, b, D)."""
        cells_CH = (project(x).index_select(0, layout.token) for project in (self.query, self.key, self.value))
        cells_XbH = (cells.view(*layout.real.shape, -1) for cells in cells_CH)
        return torch.stack([self.by_drawn_head(cells, self.choice.heads).transpose(1, 2) for cells in cells_XbH])

    @uncompiled
    def _attend(self, qkv_3XAbD: Tensor, seen: BlockSparsePlan) -> Tensor:
        """Return what the cells take up (X, A, b, D): by a kernel of its own, with indices of this layer's own."""
        return attend_blocks(qkv_3XAbD, self.pairs(seen), seen.dropout)

    @uncompiled
    def _view(self, seen: BlockSparsePlan, rows: BlockRows) -> AttentionPlan:
        """Return which tokens see which in this layer: with indices of its own, as above."""
        side, kernel = Side.of(seen.packed), "math" if rows.place.device.type == "cpu" else "sdpa"
        plan = AttentionPlan(cast("Kernel", kernel), side, side, seen.dropout)
        return with_mask(plan, rows.allowed(self.draw(seen.layout)))

    def pairs(self, seen: BlockSparsePlan) -> BlockPairs:
        """Return which blocks see which in this layer."""
        layout, choice = seen.layout, self.choice
        drawn_XAZ = self.draw(layout)
        there = (drawn_XAZ >= 0) & ~layout.is_global()[:, None, None]
        near, allowed = (x[:, None].expand(-1, choice.heads, -1) for x in (seen.near, seen.allowed))
        return BlockPairs(
            seen=torch.cat([near, layout.blocks(drawn_XAZ, there)], 2),
            allowed=torch.cat([allowed, there], 2),
            center=seen.center,
            central=seen.central,
            real=layout.real,
        )

    def draw(self, layout: BlockLayout) -> Tensor:
        """Return (X, A, R) the numbers, in their sequence, of the blocks drawn for each block; -1 for none."""
        choice = self.choice
        return draw_blocks(
            layout, choice.window_blocks, choice.random_blocks, choice.random_block_limit, choice.seed, choice.heads
        )
