"""An encoder with global tokens of its own: BigBird-ETC (Zaheer et al. 2020, section 2, extended construction).

Legend: T tokens, N sequences, G global tokens added to each, H hidden size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genus.model import States
from genus.model.attention.block_sparse.layer import BlockSparseAttention
from genus.model.attention.plan import Context
from genus.model.cost import ComponentCost
from genus.model.transformer import Transformer, TransformerNetwork

if TYPE_CHECKING:
    from genus.batch import Batch, Packed
    from genus.model import Network
    from genus.model.cost import ExampleLengths


class GlobalTokenTransformer(Transformer):
    """An encoder that puts G = `attention.lead` vectors before every sequence: places for what concerns all of it.

    They go through all layers, see every token of their sequence and are seen by it, and are left out at the end.
    Deviations: which token a global one stands for (a paragraph, a sentence) is not said, so all sequences share G
    learned vectors; positions are absolute, as in ITC, not relative; and no contrastive loss trains the global tokens
    (appendix E.2).
    """

    attention: BlockSparseAttention

    def build(self, vocab_size: int) -> Network:
        """Return the network with fresh weights."""
        return GlobalTokenNetwork(self, vocab_size)

    def cost(self, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return what the encoder needs for as many tokens more, and their vectors."""
        longer = lengths["tokens"] + self.attention.num_global_tokens
        needs = super().cost(vocab_size, {**lengths, "tokens": longer}).scaled(longer / lengths["tokens"])
        return needs + ComponentCost(parameters=self.attention.num_global_tokens * self.hidden)


class GlobalTokenNetwork(TransformerNetwork):
    """An encoder with global tokens at work."""

    def __init__(self, choice: GlobalTokenTransformer, vocab_size: int) -> None:
        super().__init__(choice, vocab_size)
        self.extra = choice.attention.num_global_tokens
        self.embed.add_module("extra", nn.Embedding(self.extra, choice.hidden))  # as large as the normalized ones

    def forward(self, batch: Batch, *, layers: bool = False) -> States:  # type: ignore[override]  # nothing beside it
        """Return `tokens`, the last layer's states (T, H)."""
        packed = batch.tokens
        place, longer = lengthened(packed, self.extra)
        extra_GH = self.embed.get_submodule("extra")(torch.arange(self.extra, device=packed.ids.device))
        x = self.embed(packed)
        every = extra_GH.to(x.dtype).repeat(packed.offsets.numel() - 1, 1)
        x = torch.cat([x, every]).index_select(0, longer.ids)
        kept: list[Tensor] | None = [] if layers else None
        x = self.layers(x, Context.of(longer, x, self.training), kept)
        x = self.norm(x).index_select(0, place)
        return States({"tokens": x}, layers=None if kept is None else tuple(one.index_select(0, place) for one in kept))


def lengthened(packed: Packed, extra: int) -> tuple[Tensor, Packed]:
    """Return where each token lies (T,) in a stream whose sequences begin with `extra` more, and that stream.

    Its ids say which of (the T tokens, then `extra` for each of the N sequences) lies where. It is one row.
    """
    device, tokens, sequences = packed.ids.device, packed.ids.numel(), packed.offsets.numel() - 1
    offsets = packed.offsets + extra * torch.arange(sequences + 1, device=device, dtype=packed.offsets.dtype)
    order = torch.arange(tokens, device=device)
    sequence = torch.searchsorted(packed.offsets[1:], order, right=True)
    place = order + extra * (sequence + 1)
    ahead = (offsets[:-1, None] + torch.arange(extra, device=device)).flatten().long()
    ids = torch.empty(tokens + extra * sequences, dtype=torch.int64, device=device)
    ids[place], ids[ahead] = order, tokens + torch.arange(extra * sequences, device=device)
    positions = torch.empty_like(ids)
    positions[place], positions[ahead] = packed.positions + extra, torch.arange(extra, device=device).repeat(sequences)
    of_entry = torch.full_like(offsets[1:], -1).index_copy(0, sequence, packed.sequence)
    whose = torch.empty_like(ids, dtype=packed.sequence.dtype)
    whose[place], whose[ahead] = packed.sequence, of_entry.repeat_interleave(extra)
    longer = replace(packed, ids=ids, positions=positions, sequence=whose, offsets=offsets, facts={})
    return place, replace(longer, row_length=len(ids), one_per_row=False)
