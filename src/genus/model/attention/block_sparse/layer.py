"""BigBird's block-sparse attention: window, random and global blocks (Zaheer et al. 2020, section 2, appendix D).

Legend: b tokens of a chunk, of a block or of a strip; C chunks or blocks, of a batch or of a part of it; S slots for
tokens in all chunks or blocks; U global blocks of a sequence; W chunks or blocks of a window; Z random blocks.
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
"""Longest rows for which dense attention with a mask is faster than the block-sparse kernel."""


class BlockSparseAttention(Attention):
    """Block-sparse attention: each token attends to few blocks; time and memory are linear in the sequence length.

    A block of tokens attends to the global tokens, the blocks around it, and random blocks, each once. Global tokens
    attend to their whole sequence, which attends to them: they are its first tokens and its last blocks (ITC), or
    vectors added to the sequence (ETC, `GlobalTokenTransformer`). In a sequence of few blocks this is full attention.
    Rows of up to 512 tokens are computed by dense attention with a mask: the same function, and faster there.

    The random blocks depend only on the seed, the head, the index of the block and the length of the sequence, and
    never change.
    Deviations: each sequence is cut into blocks by itself, wherever it lies in a row, and the last block is the
    sequence's own, not the padding's; the released code draws by NumPy's generator, and has no attention dropout.
    """

    heads: Count
    bias: bool = True
    dropout: Fraction = 0.1
    """Dropout probability of the attention probabilities, in training."""
    block_size: Count = 64
    """b, tokens per block."""
    num_global_tokens: Natural = 64
    """Number of global tokens at the beginning of a sequence; they have blocks of their own."""
    num_global_tail_blocks: Natural = 1
    """Number of global blocks at the end of a sequence."""
    window_blocks: Count = 3
    """Size of the attention window in blocks, centered on the query's; an odd number."""
    random_blocks: Natural = 3
    """Number of random blocks per query block and head."""
    random_block_limit: Count | None = None
    """Number of blocks at the beginning of a sequence among which random blocks are drawn; None: all."""
    seed: Natural = 0
    """Layer n of a stack draws with this seed + n (released code: with n)."""

    @property
    def in_words(self) -> str:
        """The numbers of window blocks, random blocks, tokens per block and heads."""
        sizes = f"window of {self.window_blocks}, {self.random_blocks} random, of {self.block_size} tokens"
        return f"block-sparse ({sizes}), {self.heads} heads"

    def of_layer(self, number: int) -> BlockSparseAttention:
        """Return the attention with the layer's own seed, `seed` + `number`."""
        return replace(self, seed=self.seed + number)

    def plan_key(self) -> Hashable:
        """Return the choice with seed 0, as plans do not depend on the seed."""
        return replace(self, seed=0)

    def check(self, hidden: int) -> None:
        """Check that the heads divide the hidden size, and that the window has an odd number of blocks (ValueError)."""
        if hidden % self.heads:
            raise ValueError(f"{self.heads} attention heads do not divide a hidden size of {hidden}")
        if self.window_blocks % 2 == 0:
            raise ValueError(f"attention.window_blocks: expected an odd number of blocks, got {self.window_blocks}")

    def can_load(self, other: Attention) -> bool:
        """Return true for multi-head attention, which has the same weights (section 4: RoBERTa's checkpoint).

        Raises:
            GenusError: `other` differs in the number of heads or in `bias`.
        """
        if not isinstance(other, MultiHeadAttention):
            return False
        if (other.heads, other.bias) != (self.heads, self.bias):
            raise GenusError(f"the model read has {other.heads} attention heads, not {self.heads}: "
                             "take a row of its size, or set model.attention.heads")  # fmt: skip
        return True

    def build(self, hidden: int) -> AttentionLayer:
        """Return the module for hidden states of size H = `hidden`."""
        return BlockSparseAttentionLayer(self, hidden)

    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return the cost per token of projections, and of products with its keys and as a key of global tokens."""
        globals_ = (-(-self.num_global_tokens // self.block_size) + self.num_global_tail_blocks) * self.block_size
        seen = min(length, globals_ + (self.window_blocks + self.random_blocks) * self.block_size) + min(
            length, globals_
        )
        products = ComponentCost(flops=4.0 * min(length, seen) * hidden, activations=4 * hidden)
        return linear_cost(hidden, 3 * hidden, self.bias) + products + linear_cost(hidden, hidden, self.bias)


@dataclass(frozen=True, slots=True)
class BlockSparsePlan:
    """The plan of block-sparse attention: what the layers of a stack share for a batch."""

    packed: Packed
    layout: BlockLayout
    rows: BlockRows | None
    """The mask by rows, for dense attention; None: the block-sparse kernel is used."""
    near: Tensor
    """(C, U + W) int64: the global blocks and the window of each block."""
    allowed: Tensor
    """(C, U + W) bool: false for padding of `near`; all of it is padding for global and empty blocks."""
    center: Tensor
    """(C, U) int64: the global blocks of each block's sequence."""
    central: Tensor
    """(C, U) bool: false for padding of `center`."""
    dropout: float


class BlockSparseAttentionLayer(AttentionLayer):
    """The module of block-sparse attention; its weights are those of multi-head attention."""

    choice: BlockSparseAttention

    def __init__(self, choice: BlockSparseAttention, hidden: int) -> None:
        super().__init__()
        self.choice, self.head_size = choice, hidden // choice.heads
        self.query = nn.Linear(hidden, hidden, bias=choice.bias)
        self.key = nn.Linear(hidden, hidden, bias=choice.bias)
        self.value = nn.Linear(hidden, hidden, bias=choice.bias)
        self.out = nn.Linear(hidden, hidden, bias=choice.bias)

    def plan(self, context: Context) -> BlockSparsePlan:
        """Return the block layout of the batch and its attention mask, without the random blocks."""
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
        """Forward pass: return (T, H)."""
        if shared.rows is not None:
            q_TAD, k_TAD, v_TAD = (
                self.by_drawn_head(project(x), self.choice.heads) for project in (self.query, self.key, self.value)
            )
            out_TAD = attend(q_TAD, k_TAD, v_TAD, self._view(shared, shared.rows))
            return self.out(out_TAD.flatten(1))  # type: ignore[no-any-return]
        mixed_CAbD = self._attend(self._blocks(x, shared.layout), shared)
        mixed_SH = mixed_CAbD.transpose(1, 2).reshape(len(shared.layout.token), -1)
        found = mixed_SH.index_select(0, shared.layout.cell).masked_fill(shared.layout.padding[:, None], 0.0)
        return self.out(found)  # type: ignore[no-any-return]

    def _blocks(self, x: Tensor, layout: BlockLayout) -> Tensor:
        """Return queries, keys and values by blocks (3, C, A, b, D)."""
        cells_SH = (project(x).index_select(0, layout.token) for project in (self.query, self.key, self.value))
        cells_CbH = (cells.view(*layout.real.shape, -1) for cells in cells_SH)
        return torch.stack([self.by_drawn_head(cells, self.choice.heads).transpose(1, 2) for cells in cells_CbH])

    @uncompiled
    def _attend(self, qkv_3CAbD: Tensor, seen: BlockSparsePlan) -> Tensor:
        """Return attention outputs (C, A, b, D) by the block-sparse kernel, with this layer's own gather indices."""
        return attend_blocks(qkv_3CAbD, self.pairs(seen), seen.dropout)

    @uncompiled
    def _view(self, seen: BlockSparsePlan, rows: BlockRows) -> AttentionPlan:
        """Return the plan of dense attention with this layer's mask."""
        side, kernel = Side.of(seen.packed), "math" if rows.place.device.type == "cpu" else "sdpa"
        plan = AttentionPlan(cast("Kernel", kernel), side, side, seen.dropout)
        return with_mask(plan, rows.allowed(self.draw(seen.layout)))

    def pairs(self, seen: BlockSparsePlan) -> BlockPairs:
        """Return the block-sparse attention mask of this layer, random blocks included."""
        layout, choice = seen.layout, self.choice
        drawn_CAZ = self.draw(layout)
        there = (drawn_CAZ >= 0) & ~layout.is_global()[:, None, None]
        near, allowed = (x[:, None].expand(-1, choice.heads, -1) for x in (seen.near, seen.allowed))
        return BlockPairs(
            seen=torch.cat([near, layout.blocks(drawn_CAZ, there)], 2),
            allowed=torch.cat([allowed, there], 2),
            center=seen.center,
            central=seen.central,
            real=layout.real,
        )

    def draw(self, layout: BlockLayout) -> Tensor:
        """Return (C, A, Z) int64, the random blocks of each block, as indices in their sequence; -1 for none."""
        choice = self.choice
        return draw_blocks(
            layout, choice.window_blocks, choice.random_blocks, choice.random_block_limit, choice.seed, choice.heads
        )
