"""Transformers with segment-level recurrence: a memory of hidden states from the batch before (Transformer-XL, XLNet).

Legend: B remembered positions before a row; P positions of a row that have a second (query) stream.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genus.errors import UsageError
from genus.model import States
from genus.model.attention.plan import Context
from genus.model.attention.relative import RelativeAttention, RelativeAttentionLayer, visible
from genus.model.cost import ComponentCost, linear_cost
from genus.model.stack import plans_of, run_layer
from genus.model.stack.sharing import Unshared
from genus.model.transformer import Transformer, TransformerNetwork
from genus.part import Natural

if TYPE_CHECKING:
    from genus.batch import Batch, Memory, Packed
    from genus.model import Network
    from genus.model.attention.relative import RelativePlan
    from genus.model.cache import Cache
    from genus.model.cost import ExampleLengths


class SegmentRecurrentTransformer(Transformer):
    """Segment-level recurrence: h_n = layer_n(h_{n-1}, keys and values of [m_{n-1}, h_{n-1}]).

    m are the last B hidden states of the same text, without gradient. If the attention has a query stream (XLNet), its
    states begin as one learned vector and pass the layers beside those of the tokens.

    Source: Dai et al. 2019, section 3.2.
    """

    attention: RelativeAttention
    memory: Natural = 0
    """B, the memory length in tokens, the same for each layer; 0: no memory."""

    @property
    def in_words(self) -> str:
        """The size of the network, and its memory length."""
        return f"recurrent {super().in_words}, remembering {self.memory} positions"

    def __post_init__(self) -> None:
        """Check the sizes, and that layers are not shared, as each has its own memory (ValueError)."""
        super().__post_init__()
        if not isinstance(self.stack, Unshared):
            raise ValueError(f"stack: layers that remember have weights of their own, not {type(self.stack).__name__}")
        if self.attention.queries and not self.block.caches:
            kind = type(self.block).__name__
            raise ValueError(f"block: {kind} mixes neighbors, which states of a query stream are not; take PostNorm")

    def build(self, vocab_size: int) -> Network:
        """Return the network with initial weights."""
        return SegmentRecurrentNetwork(self, vocab_size)

    def cost(self, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token, attention to the memory and the initial query-stream vector included."""
        length = lengths["tokens"]
        seen = super().cost(vocab_size, {**lengths, "tokens": length + self.memory})
        more = self._keys(self.memory / length) + self.attention.extra_cost(self.hidden, length, self.memory)
        return seen + more.repeated(self.layers) + ComponentCost(self.attention.queries * self.hidden)

    def second(self, lengths: ExampleLengths) -> ComponentCost | None:
        """Return the cost of a query-stream state: that of a token without keys and values; None without the stream."""
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
        """Return the cost of keys and values of the memory, which has no gradient: half a backward pass."""
        flops = share * linear_cost(self.hidden, 2 * self.hidden).flops
        return ComponentCost(flops=flops / 2, forward_only_flops=flops / 2)


class SegmentRecurrentNetwork(TransformerNetwork):
    """The module of a network with segment-level recurrence."""

    def __init__(self, choice: SegmentRecurrentTransformer, vocab_size: int) -> None:
        super().__init__(choice, vocab_size)
        self.length, self.depth = choice.memory, choice.layers
        self.dropout = nn.Dropout(choice.dropout)
        self.query: nn.Parameter | None = None
        if choice.attention.queries:
            self.query = nn.Parameter(torch.empty(1, 1, choice.hidden))
            choice.initialization.draw(self.query, "vector")

    def prompt_host(self) -> Network:
        """Refuse, as the memory of the text before it stands in front of a sequence (UsageError)."""
        raise UsageError("the memory of earlier text stands in front of a sequence, where trained vectors would")

    def initial_memory(self, rows: int) -> Memory:
        """Return `memory` (layers, R, B, H) of zeros, and `remembered` (R, B), false: no position is valid yet."""
        if not self.length:
            return {}
        like = next(self.parameters())
        return {
            "memory": torch.zeros(self.depth, rows, self.length, self.hidden, dtype=like.dtype, device=like.device),
            "remembered": torch.zeros(rows, self.length, dtype=torch.bool, device=like.device),
        }

    def forward(  # type: ignore[override]  # no source beside it
        self, batch: Batch, *, layers: bool = False, cache: Cache | None = None
    ) -> States:
        """Forward pass: return `tokens` (T, H), `query` (R P, H) if there is a query stream, and the next memory.

        With a key-value cache, whole texts are remembered in it, and there is no memory beside.
        """
        packed, x = batch.tokens, self.embed(batch.tokens)
        cells = len(x)
        if packed.query is not None and self.query is not None:
            second = self.query[0].expand(packed.query.numel(), -1)
            x = torch.cat([x, self.embed.dropout(second)])
        context = Context.of(packed, x, self.training, memory=batch.memory, cache=cache)
        each, states = list(self.layers.children()), []
        made = plans_of(each, context, self._drop if cache is None else None)
        for number, (layer, plans) in enumerate(zip(each, made, strict=True)):
            states.append(x[:cells])
            x = run_layer(layer, x, plans, context, number)
        if cache is not None:
            cache.advance()
        kept = (*states, x[:cells]) if layers else None
        x = self.dropout(self.norm(x))
        streams = {"tokens": x[:cells]}
        if packed.query is not None:
            streams["query"] = x[cells:]
        memory = update_memory(packed, batch.memory, states) if batch.memory else {}
        return States(streams, memory, context.losses, layers=kept)

    def _drop(self, seen: RelativePlan) -> RelativePlan:
        """Apply dropout to the encodings of distances, as to hidden states (released code)."""
        return replace(seen, distances=self.dropout(seen.distances))

    def _attentions(self) -> list[RelativeAttentionLayer]:
        return [module for module in self.layers.modules() if isinstance(module, RelativeAttentionLayer)]


def update_memory(packed: Packed, memory: Memory, states: list[Tensor]) -> Memory:
    """Return the memory after a batch: the last B positions of each row's stream, lookahead left out.

    Positions of other sequences than that of the last one are stored, but marked as not remembered.
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
