"""An encoder with additional global tokens: BigBird-ETC (Zaheer et al. 2020, section 2, extended construction).

Legend: g global tokens that are added to a sequence; J entries of a packed batch, those of padding included.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genus.errors import UsageError
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
    """An encoder that prepends g = `attention.num_global_tokens` learned global tokens to every sequence.

    They pass all layers, attend to every token of their sequence, which attends to them, and are left out of the
    output. Deviations: global tokens are not assigned to tokens (a paragraph, a sentence), so all sequences share g
    learned vectors; positions are absolute, as in ITC, not relative; and there is no contrastive loss on the global
    tokens (appendix E.2).
    """

    attention: BlockSparseAttention

    def build(self, vocab_size: int) -> Network:
        """Return the network with initial weights."""
        return GlobalTokenNetwork(self, vocab_size)

    def cost(self, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per real token of the encoder, g more tokens per sequence and their embeddings included."""
        longer = lengths["tokens"] + self.attention.num_global_tokens
        needs = super().cost(vocab_size, {**lengths, "tokens": longer}).scaled(longer / lengths["tokens"])
        return needs + ComponentCost(parameters=self.attention.num_global_tokens * self.hidden)


class GlobalTokenNetwork(TransformerNetwork):
    """The module of an encoder with additional global tokens."""

    def __init__(self, choice: GlobalTokenTransformer, vocab_size: int) -> None:
        super().__init__(choice, vocab_size)
        self.extra = choice.attention.num_global_tokens
        self.embed.add_module("extra", nn.Embedding(self.extra, choice.hidden))  # N(0, 1), as large as normalized ones

    def prompt_host(self) -> Network:
        """Refuse, as the global tokens stand in front of a sequence (UsageError)."""
        raise UsageError("the global tokens stand in front of a sequence, where trained vectors would")

    def forward(self, batch: Batch, *, layers: bool = False) -> States:  # type: ignore[override]  # nothing beside it
        """Forward pass: return `tokens`, the last layer's hidden states (T, H), without global tokens."""
        packed = batch.tokens
        place, longer = lengthened(packed, self.extra)
        extra_gH = self.embed.get_submodule("extra")(torch.arange(self.extra, device=packed.ids.device))
        x = self.embed(packed)
        ahead = extra_gH.to(x.dtype).repeat(packed.offsets.numel() - 1, 1)
        x = torch.cat([x, ahead]).index_select(0, longer.ids)
        kept: list[Tensor] | None = [] if layers else None
        context = Context.of(longer, x, self.training)
        x = self.layers(x, context, kept)
        x = self.norm(x).index_select(0, place)
        every = None if kept is None else tuple(one.index_select(0, place) for one in kept)
        return States({"tokens": x}, losses=context.losses, layers=every)


def lengthened(packed: Packed, extra: int) -> tuple[Tensor, Packed]:
    """Return the index (T,) of each token in a stream whose sequences begin with `extra` more tokens, and that stream.

    The ids of the stream are a gather index into the T tokens, followed by `extra` tokens for each of the J entries.
    It is one row.
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
    longer = replace(packed, ids=ids, positions=positions, sequence=whose, offsets=offsets, facts={}, original=None)
    return place, replace(longer, row_length=len(ids), one_per_row=False)
