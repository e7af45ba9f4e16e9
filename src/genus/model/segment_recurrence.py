"""A stack of layers that remembers what it has read in the batch before.

Legend: T cells, R rows, L row length, M remembered positions, P second states of a row, H hidden size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genus.model import States
from genus.model.attention.plan import Context
from genus.model.attention.relative import RelativeAttention, RelativeAttentionLayer, visible
from genus.model.cost import ComponentCost, linear_cost
from genus.model.stack import plans_of
from genus.model.stack.sharing import Unshared
from genus.model.transformer import Transformer, TransformerNetwork
from genus.part import Natural

if TYPE_CHECKING:
    from genus.batch import Batch, Memory, Packed
    from genus.model import Network
    from genus.model.attention.relative import RelativePlan
    from genus.model.cost import ExampleLengths


class SegmentRecurrentTransformer(Transformer):
    """h_n = layer_n(h_{n-1}, keys and values of [m_{n-1}, h_{n-1}]), m the last M states of the same text, no gradient.

    Source: Dai et al. 2019, section 3.2. Where the attention has a second stream (XLNet), its states begin as one
    learned vector and go through the layers beside the cells.
    """

    attention: RelativeAttention
    memory: Natural = 0
    """M, for each layer; 0 for none."""

    @property
    def in_words(self) -> str:
        """Its size, and how far back it remembers."""
        return f"recurrent {super().in_words}, remembering {self.memory} positions"

    def __post_init__(self) -> None:
        """Refuse sizes that contradict each other, and shared layers: each layer remembers its own states."""
        super().__post_init__()
        if not isinstance(self.stack, Unshared):
            raise ValueError(f"stack: layers that remember have weights of their own, not {type(self.stack).__name__}")

    def build(self, vocab_size: int) -> Network:
        """Return the network with fresh weights."""
        return SegmentRecurrentNetwork(self, vocab_size)

    def cost(self, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return what an encoder needs whose tokens see the memory too, and the first state of the second stream."""
        length = lengths["tokens"]
        seen = super().cost(vocab_size, {**lengths, "tokens": length + self.memory})
        more = self._keys(self.memory / length) + self.attention.extra_cost(self.hidden, length, self.memory)
        return seen + more.repeated(self.layers) + ComponentCost(self.attention.queries * self.hidden)

    def second(self, lengths: ExampleLengths) -> ComponentCost | None:
        """Return what a second state demands: as much as a cell, but keys and values, of which it has none."""
        if not self.attention.queries:
            return None
        length = lengths["tokens"]
        cell = self.block.cost(self, {**lengths, "tokens": length + self.memory})
        cell = cell + self.attention.extra_cost(self.hidden, length, self.memory)
        own = linear_cost(self.hidden, 2 * self.hidden)
        return ComponentCost(flops=cell.flops - own.flops, activations=cell.activations - own.activations).repeated(
            self.layers
        )

    def _keys(self, share: float) -> ComponentCost:
        """Return the maps to keys and values of what is remembered, which does not learn: half a backward pass."""
        flops = share * linear_cost(self.hidden, 2 * self.hidden).flops
        return ComponentCost(flops=flops / 2, forward_only_flops=flops / 2)


class SegmentRecurrentNetwork(TransformerNetwork):
    """A network that remembers, at work."""

    def __init__(self, choice: SegmentRecurrentTransformer, vocab_size: int) -> None:
        super().__init__(choice, vocab_size)
        self.length, self.depth = choice.memory, choice.layers
        self.dropout = nn.Dropout(choice.dropout)
        self.query: nn.Parameter | None = None
        if choice.attention.queries:
            self.query = nn.Parameter(torch.empty(1, 1, choice.hidden))
            choice.initialization.draw(self.query, "vector")

    def initial_memory(self, rows: int) -> Memory:
        """Return `memory` (layers, R, M, H), and `remembered` (R, M), which says that none of it is of any text."""
        if not self.length:
            return {}
        like = next(self.parameters())
        return {
            "memory": torch.zeros(self.depth, rows, self.length, self.hidden, dtype=like.dtype, device=like.device),
            "remembered": torch.zeros(rows, self.length, dtype=torch.bool, device=like.device),
        }

    def forward(self, batch: Batch, *, layers: bool = False) -> States:  # type: ignore[override]  # nothing beside it
        """Return `tokens` (T, H), `query` (R P, H) where cells have second states, and the memory that follows."""
        packed, x = batch.tokens, self.embed(batch.tokens)
        cells = len(x)
        if packed.query is not None and self.query is not None:
            second = self.query[0].expand(packed.query.numel(), -1)
            x = torch.cat([x, self.embed.dropout(second)])
        context = Context.of(packed, x, self.training, memory=batch.memory)
        each, states = list(self.layers.children()), []
        for number, (layer, plans) in enumerate(zip(each, plans_of(each, context, self._drop), strict=True)):
            states.append(x[:cells])
            x = layer(x, plans, {"attention": context.state(number)})
        kept = (*states, x[:cells]) if layers else None
        x = self.dropout(self.norm(x))
        streams = {"tokens": x[:cells]}
        if packed.query is not None:
            streams["query"] = x[cells:]
        return States(streams, update_memory(packed, batch.memory, states) if batch.memory else {}, layers=kept)

    def _drop(self, seen: RelativePlan) -> RelativePlan:
        """Drop out the encodings of distances like any states (released code)."""
        return replace(seen, distances=self.dropout(seen.distances))

    def _attentions(self) -> list[RelativeAttentionLayer]:
        return [module for module in self.layers.modules() if isinstance(module, RelativeAttentionLayer)]


def update_memory(packed: Packed, memory: Memory, states: list[Tensor]) -> Memory:
    """Return the memory after a batch: of each row the last M positions that its stream has come through.

    What is of another sequence than the last of them is kept in its place, but not remembered.
    """
    assert packed.flow is not None
    through, length = packed.flow.through, packed.row_length
    number = packed.sequence.view(-1, length)
    last = number.gather(1, (through - 1).clamp(min=0)[:, None])
    known = torch.cat([visible(packed, memory) & (number[:, :1] == last), number == last], 1)
    kept = through[:, None] + torch.arange(memory["remembered"].shape[1], device=through.device)
    at = kept[:, :, None].expand(-1, -1, states[0].shape[-1])
    each = zip(memory["memory"], states, strict=True)
    rows = [
        torch.cat([old, new.detach().view(len(number), length, -1).to(old.dtype)], 1).gather(1, at) for old, new in each
    ]
    return {"memory": torch.stack(rows), "remembered": known.gather(1, kept) & (through > 0)[:, None]}
