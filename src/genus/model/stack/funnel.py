"""The Funnel-Transformer: sequences become shorter from block to block (Dai et al. 2020).

What is pooled lies within one sequence; the shorter sequences lie in rows of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from genus.errors import UsageError
from genus.model.attention.masks import AttentionMask
from genus.model.cost import ComponentCost
from genus.model.feedforward import Routing
from genus.model.stack import Stack, plans_of, run_layer, run_layers
from genus.part import Count, Natural, parts_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.batch import Packed
    from genus.model.attention.plan import Context
    from genus.model.cost import ExampleLengths
    from genus.model.transformer import Transformer

ROUND = 8
"""Rows of pooled states have a multiple of so many positions, so that few lengths occur."""


class Funnel(Stack):
    """Funnel: blocks of layers, of which all but the first begin by taking the means of `pooling` neighbors.

    The first layer of a block attends in the length of the block before; its output is pooled after the residual
    connection of self-attention. With a decoder, the last layers have a state for each token again: that of the first
    block plus the last block's at its place. Without one, states stay short, as for the encoder of an encoder-decoder.

    Source: Dai et al. 2020, section 2. Deviations, as in Narang et al.'s code (mesh_tensorflow, funnel_transformer.py):
    the output of attention is pooled, where the paper pools its queries; positions are counted anew after pooling. The
    first token is pooled as others are.
    """

    gives_states: ClassVar[bool] = False
    keeps_states: ClassVar[bool] = False

    blocks: tuple[Count, ...]
    """The number of layers of each block."""
    decoder: Natural = 2
    """The number of layers after the blocks, at full length."""
    pooling: Count = 2
    """Neighbors that become one."""

    @property
    def in_words(self) -> str:
        """The layers of each block, and of the decoder."""
        ends = f" and {self.decoder}" if self.decoder else ""
        return f"funnel of {', '.join(map(str, self.blocks))} layers{ends}"

    @property
    def shortens(self) -> bool:
        """Whether there is no decoder."""
        return not self.decoder

    def length(self, tokens: int) -> int:
        """Return the number of states of a sequence of `tokens` tokens."""
        return tokens if self.decoder else self.pooled(tokens, len(self.blocks) - 1)

    def pooled(self, tokens: int, times: int) -> int:
        """Return the length of a sequence after pooling so many times."""
        for _ in range(times):
            tokens = -(-tokens // self.pooling)
        return tokens

    def check(self, model: Transformer) -> None:
        """Check that the blocks hold all layers of an encoder, whose masks read no fact of a token (ValueError)."""
        if not self.blocks or sum(self.blocks) + self.decoder != model.layers:
            raise ValueError(f"stack.blocks: {list(self.blocks)} and a decoder of {self.decoder} are not the model's "
                             f"{model.layers} layers")  # fmt: skip
        rules = parts_within(model.attention, AttentionMask)  # type: ignore[type-abstract]  # a slot is abstract
        if not model.block.pools:
            raise ValueError(f"stack: a layer of {type(model.block).__name__} pools nothing; take PreNorm or PostNorm")
        if any(not rule.full for rule in rules) or model.cross is not None:
            raise ValueError("stack: pooled tokens know of later ones, and facts of single tokens are lost; take "
                             "Funnel for encoders with full attention")  # fmt: skip

    def build(self, layers: int, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the module of `layers` layers."""
        return FunnelLayers(self, [make() for _ in range(layers)])

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token: a block's layers have fewer tokens, each of which attends to fewer."""
        tokens, total, number = lengths["tokens"], ComponentCost(), 0
        for block, layers in enumerate((*self.blocks, self.decoder)):
            times = 0 if block == len(self.blocks) else block
            now, before = self.pooled(tokens, times), self.pooled(tokens, max(times - 1, 0))
            for place in range(layers):
                layer, attends = model.layer(number), before if place == 0 else now
                whole = layer.block.cost(layer, {**lengths, "tokens": attends}).scaled(attends / tokens)
                spared = replace(layer.feedforward.cost(model.hidden), parameters=0).scaled((attends - now) / tokens)
                total, number = total + whole + spared.repeated(-1), number + 1
        return total


class FunnelLayers(nn.ModuleList):
    """The module of a funnel."""

    def __init__(self, choice: Funnel, layers: list[nn.Module]) -> None:
        super().__init__(layers)
        self.choice = choice

    def forward(self, x: Tensor, context: Context, kept: list[Tensor] | None = None) -> Tensor:
        """Forward pass: return (T, H), or without a decoder the pooled states.

        Raises:
            UsageError: the hidden states of every layer are requested, which are not of all tokens.
        """
        if kept is not None:
            raise UsageError("model.stack: a funnel has no states of every token in every layer")
        number, first, place = 0, x, torch.arange(len(x), device=x.device)
        short = context
        for block, layers in enumerate(self.choice.blocks):
            own = list(self)[number : number + layers]
            if block:
                x, pooled = self.pool(own[0], x, short, number)
                own, number, short = own[1:], number + 1, replace(short, packed=pooled.packed)
                place = pooled.place[place]
            x = run_layers(own, x, short)
            number += len(own)
            first = first if block else x
        if not self.choice.decoder:
            return x
        whole = x.index_select(0, place).masked_fill(context.packed.sequence[:, None] < 0, 0.0)
        return run_layers(list(self)[number:], first + whole, context)

    def pool(self, layer: nn.Module, x: Tensor, context: Context, number: int) -> tuple[Tensor, Pooled]:
        """Apply the first layer of a block, which pools; return the states and what was pooled."""
        pooled = Pooled.of(context.packed, self.choice.pooling)
        [plans] = plans_of([layer], context)
        if (routing := Routing.of(getattr(layer, "feedforward", None), pooled.packed)) is not None:
            plans["feedforward"] = routing
        return run_layer(layer, x, {**plans, "pool": pooled.mean}, context, number), pooled

    def shortened(self, packed: Packed) -> Packed:
        """Return the stream of the states."""
        for _ in self.choice.blocks[1:] if self.choice.shortens else ():
            packed = Pooled.of(packed, self.choice.pooling).packed
        return packed


@dataclass(frozen=True, slots=True)
class Pooled:
    """A packed stream, each position of which is that of some neighbors in another one."""

    packed: Packed
    place: Tensor
    """(T,) int64 index of each old position's new one; 0 for padding."""
    members: Tensor
    """(T', pooling) int64 indices of the old positions of each new one."""
    valid: Tensor
    """(T', pooling, 1) bool: whether there is such a neighbor."""

    @classmethod
    def of(cls, packed: Packed, size: int) -> Pooled:
        """Return a stream whose sequences have one position for each `size` neighbors; lengths are read on the CPU."""
        known = packed.on_cpu()
        old, rows = known.offsets.long(), known.rows
        lengths = known.lengths_of_entries().long()
        new = -(-lengths // size)
        row = torch.where(lengths > 0, old[:-1] // known.row_length, rows)
        used = torch.zeros(rows + 1, dtype=torch.long).index_add(0, row, new)[:rows]
        row_length = -(-max(int(used.max()), 1) // ROUND) * ROUND
        sizes = new.index_add(0, closing_entries(known), row_length - used)
        offsets = torch.cat([old[:1], sizes.cumsum(0)])
        entry = known.entries()
        within = torch.arange(len(entry)) - old[entry]
        real = known.sequence >= 0
        place = torch.where(real, offsets[entry] + within // size, 0)
        position = torch.arange(rows * row_length) - offsets[:-1].repeat_interleave(sizes)
        whose = torch.arange(len(sizes)).repeat_interleave(sizes)
        inside = position[:, None] * size + torch.arange(size)
        valid = inside < lengths[whose][:, None]
        members = torch.where(valid, old[whose][:, None] + inside, 0)
        shorter = replace(
            known,
            ids=torch.zeros_like(position),
            positions=position,
            sequence=torch.where(lengths > 0, torch.arange(len(lengths)), -1)[whose].to(known.sequence.dtype),
            offsets=offsets.to(known.offsets.dtype),
            row_length=row_length,
            tokens=int(new.sum()),
            facts={},
        )
        device = packed.ids.device
        shorter = shorter if device.type == "cpu" else shorter.to(device)
        return cls(shorter, place.to(device), members.to(device), valid[:, :, None].to(device))

    def mean(self, x: Tensor) -> Tensor:
        """Return the means (T', H) of neighbors; 0 for padding."""
        found = x[self.members].masked_fill(~self.valid, 0.0).sum(1)
        return found / self.valid.sum(1).clamp(min=1).to(x.dtype)


def closing_entries(packed: Packed) -> Tensor:
    """Return the entry (R,) of padding that ends each row."""
    ends = (torch.arange(packed.rows) + 1) * packed.row_length
    empty = (packed.lengths_of_entries() == 0).nonzero()[:, 0]
    return empty[torch.searchsorted(packed.offsets.long()[1:][empty].contiguous(), ends)]
