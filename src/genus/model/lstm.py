"""The LSTM language model, of one direction or of two side by side (Dai and Le 2015; Peters et al. 2018, ELMo).

Of two directions each has H and F of its own, and the states of both are side by side, 2 H.

Legend: F inner size of a feed-forward network or of an LSTM.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from genus.model import Model, Network, States
from genus.model.cost import ComponentCost, linear_cost
from genus.model.embedding import Embedding
from genus.model.initialization import Initialization, Normal, initialize
from genus.model.lstm_layer import LayerMix, LSTMLayer
from genus.model.norm import Identity
from genus.model.pooler import Pooler
from genus.model.position import NoPosition
from genus.model.recurrence import Steps
from genus.model.state_cache import StateCache
from genus.part import Count, Depth, Fraction

if TYPE_CHECKING:
    from genus.batch import Batch, Memory, Packed
    from genus.model.cache import Cache
    from genus.model.cost import ExampleLengths
    from genus.model.recurrence import State

UNPOSITIONED = Embedding(segments=0, position=NoPosition(), norm=Identity(), dropout=0.0)


class LSTM(Model):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; with the forget gate of Gers et al. 2000).

    i, f, g, o = W x_t + U h_{t-1} + b,  c_t = s(f) c_{t-1} + s(i) tanh(g),  h_t = s(o) tanh(c_t), with s the sigmoid

    With `size`, h_t = V s(o) tanh(c_t) (Sak et al. 2014). States begin at 0 in every sequence, or as they ended in the
    row before, where a text goes on there: truncated back-propagation through time. With two directions, each has
    layers of its own, and the states of both are side by side; the second one reads from the end.
    """

    layers: Depth
    hidden: Count
    """H, the size of the hidden states of a direction."""
    size: Count | None = None
    """F, the number of cells, whose output is projected to the hidden size; None: H cells, and no projection."""
    inputs: Count | None = None
    """E, the size of the token embedding, which the first layer reads; None: H."""
    directions: Literal[1, 2] = 1
    residual: bool = False
    """Whether each layer but the first adds its input to its output."""
    mixed: bool = False
    """Whether the states are gamma Σ_j softmax(s)_j h_j over embeddings (j = 0) and layers (ELMo, equation 1)."""
    embedding: Embedding = UNPOSITIONED
    pooler: Pooler | None = None
    dropout: Fraction = 0.0
    """Dropout probability of the input of every layer, and of the output of the last one, in training."""
    forget_bias: float = 1.0
    """Initial bias of the forget gate."""
    initialization: Initialization = Normal()
    """Distribution of the initial weights; biases start at 0, but for the forget gate."""

    def __post_init__(self) -> None:
        """Check that sizes and positions fit together (ValueError)."""
        position = self.embedding.position
        if position.rotates or position.biases:
            raise ValueError(f"embedding.position: an LSTM does not take {type(position).__name__}")
        if self.initialization.by_width:
            raise ValueError(f"initialization: an LSTM does not take {type(self.initialization).__name__}")
        position.check(self.embedding_width)
        if self.mixed and self.embedding_width != self.hidden:
            raise ValueError(f"mixed: embeddings of {self.embedding_width} numbers cannot be mixed with states of "
                             f"{self.hidden}; leave inputs out")  # fmt: skip

    @property
    def in_words(self) -> str:
        """Directions, layers and sizes."""
        layers = "1 layer" if self.layers == 1 else f"{self.layers} layers"
        cells = "" if self.size is None else f", {self.size} cells"
        return f"{'LSTM' if self.directions == 1 else 'LSTM both ways'}, {layers} of {self.hidden}{cells}"

    @property
    def width(self) -> int:
        """Dimension of the output states: those of all directions."""
        return self.directions * self.hidden

    @property
    def embedding_width(self) -> int:
        """E, the size of the token embedding."""
        return self.inputs or self.hidden

    @property
    def pooled_width(self) -> int:
        """Dimension of the pooler's output; without a pooler, that of the states."""
        return self.width if self.pooler is None else self.pooler.width(self.width)

    @property
    def max_length(self) -> int | None:
        """Longest sequence that the positions of the embedding allow; None: unlimited."""
        return self.embedding.position.max_length

    @property
    def causal(self) -> bool:
        """Whether there is one direction."""
        return self.directions == 1

    @property
    def facts(self) -> frozenset[str]:
        """Names of the facts per token that have embeddings."""
        return self.embedding.facts

    @property
    def num_tasks(self) -> int | None:
        """Number of task embeddings; None: there are none."""
        return self.embedding.num_tasks

    @property
    def num_segments(self) -> int | None:
        """Number of segment embeddings; None: there are none."""
        return self.embedding.segments or None

    @property
    def one_way(self) -> Model | None:
        """The model of the first of two directions; None: there is one."""
        return replace(self, directions=1, mixed=False, pooler=None) if self.directions == 2 else None

    def build(self, vocab_size: int) -> Network:
        """Return the network with initial weights."""
        return LSTMNetwork(self, vocab_size)

    def pooled(self, pooler: Pooler) -> Model:
        """Return the model with a pooler: its own, else this one; of two directions, the layers are mixed."""
        return replace(self, pooler=self.pooler or pooler, mixed=self.mixed or self.directions == 2)

    def unpooled(self) -> Model:
        """Return the model without a pooler; of two directions, the layers are mixed."""
        return replace(self, pooler=None, mixed=self.mixed or self.directions == 2)

    def initialize(self, module: nn.Module) -> None:
        """Initialize the weights of a head from the model's distribution."""
        initialize(module, self.initialization)

    @property
    def state_sizes(self) -> tuple[int, int]:
        """H and F, the sizes of what a direction carries from token to token: hidden state and cells."""
        return self.hidden, self.size or self.hidden

    def inputs_of(self, layer: int) -> int:
        """Return the dimension of the input of a layer."""
        return self.embedding_width if layer == 0 else self.hidden

    def cost(self, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of embeddings and layers; of the pooler, which heads call, only the parameters."""
        total = self.embedding.cost(vocab_size, self.embedding_width, lengths)
        for layer in range(self.layers):
            total = total + self._layer_cost(self.inputs_of(layer)).repeated(self.directions)
        if self.mixed:
            total = total + ComponentCost(self.layers + 2, activations=self.layers * self.width)
        return total if self.pooler is None else total + self.pooler.cost(self.width).scaled(0)

    def _layer_cost(self, inputs: int) -> ComponentCost:
        """Return the cost of one direction of a layer: gates, states, and the matrices of its maps."""
        cells = self.size or self.hidden
        cost = linear_cost(inputs, 4 * cells) + linear_cost(self.hidden, 4 * cells, bias=False)
        matrices = 2.0 * self.hidden * self.hidden * 4 * cells
        if self.size is not None:
            cost = cost + linear_cost(cells, self.hidden, bias=False)
            matrices += 2.0 * cells * cells * self.hidden
        return cost + ComponentCost(activations=10 * cells, frozen_input_flops=matrices)

    def pool_flops(self) -> float:
        """Return the FLOPs of the pooler per sequence; 0 without a pooler."""
        return 0.0 if self.pooler is None else self.pooler.cost(self.width).flops


class LSTMNetwork(Network):
    """The module of an `LSTM`."""

    task_modules: ClassVar[tuple[str, ...]] = ("pooler", "mix")

    def __init__(self, choice: LSTM, vocab_size: int) -> None:
        super().__init__()
        self.choice, self.hidden = choice, choice.width
        self.embed = choice.embedding.build(vocab_size, choice.embedding_width)
        self.layers = nn.ModuleList(LSTMLayer(choice, number) for number in range(choice.layers))
        self.mix = LayerMix(choice.layers + 1) if choice.mixed else None
        self.pooler = choice.pooler.build(choice.width) if choice.pooler else None
        self.dropout = nn.Dropout(choice.dropout)
        initialize(self, choice.initialization)

    @property
    def token_embedding(self) -> nn.Embedding:
        """The token embedding (V, E)."""
        return self.embed.tokens

    def forward(self, batch: Batch, *, layers: bool = False, cache: Cache | None = None) -> States:
        """Forward pass: return `tokens` (T, H), or (T, 2 H), and the memory of the next batch if this one has one.

        Args:
            batch: the batch, whose stream `tokens` is read.
            layers: also return the states of every layer, the embeddings as those of each direction.
            cache: the states after the tokens read so far: read, and replaced by those after the batch.
        """
        packed, x = batch.tokens, self.embed(batch.tokens)
        steps = [Steps.of(packed, backward=bool(number)) for number in range(self.choice.directions)]
        given, ends = [each.taken(x) for each in steps], []
        kept = [torch.cat([x] * len(steps), -1)]
        for number, layer in enumerate(self.layers):
            given, states = layer(given, self._begin(number, batch, steps[0], cache), steps)
            ends.append(states[0])
            if layers or self.mix is not None or number == len(self.layers) - 1:
                kept.append(torch.cat([each.returned(h, len(x)) for each, h in zip(steps, given, strict=True)], -1))
        if cache is not None:
            self._store(cast("StateCache", cache), steps[0], ends)
            cache.advance()
        last = kept[-1] if self.mix is None else self.mix(kept)
        memory = last_states(packed, steps[0], ends) if batch.memory else {}
        return States({"tokens": self.dropout(last)}, memory, layers=tuple(kept) if layers else None)

    def _begin(self, number: int, batch: Batch, steps: Steps, cache: Cache | None) -> list[State]:
        """Return what each direction of a layer begins with, (N, H) and (N, F): the cache, the memory, or 0."""
        like, sizes = next(self.parameters()), self.choice.state_sizes
        if cache is not None:
            return [cast("StateCache", cache).read(number, steps.sequences)]
        if not batch.memory:
            h, c = (torch.zeros(len(steps.sequences), size, dtype=like.dtype, device=like.device) for size in sizes)
            return [(h, c)] * self.choice.directions
        return [remembered(batch, number, steps)]

    def _store(self, cache: StateCache, steps: Steps, ends: list[State]) -> None:
        """Write the states after the last token of each sequence to the cache."""
        last = steps.last()
        for number, (h, c) in enumerate(ends):
            cache.write(number, steps.sequences, (h[last], c[last]))

    def cache(self, entries: int, *, cross: bool = False, dtype: torch.dtype | None = None) -> Cache | None:
        """Return an empty cache of states; None for cross-attention, and of two directions.

        Args:
            entries: the most tokens of all sequences together.
            cross: for cross-attention, which an LSTM does not have.
            dtype: not read: states are as precise as the weights.
        """
        if cross or self.choice.directions > 1:
            return None
        like = next(self.parameters())
        return StateCache([self.choice.state_sizes] * self.choice.layers, entries, like.dtype, like.device)

    def initial_memory(self, rows: int) -> Memory:
        """Return `hidden` (layers, R, H) and `cells` (layers, R, F) of zeros; nothing of two directions."""
        if self.choice.directions > 1:
            return {}
        like = next(self.parameters())
        sizes = zip(("hidden", "cells"), self.choice.state_sizes, strict=True)
        options: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
        return {name: torch.zeros(self.choice.layers, rows, size, **options) for name, size in sizes}

    def layer_groups(self) -> list[nn.Module]:
        """Return the embeddings and each layer, for layer-wise learning rates."""
        return [self.embed, *self.layers]

    def compile_units(self) -> list[nn.Module]:
        """Return the embeddings: a compiler would write out every step of the layers."""
        return [self.embed]

    def pool(self, hidden: Tensor) -> Tensor:
        """Return the pooler's vectors; without a pooler, the states themselves."""
        return hidden if self.pooler is None else self.pooler(hidden)


def remembered(batch: Batch, number: int, steps: Steps) -> State:
    """Return what each sequence begins a layer with: how its text ended in the row before, or 0."""
    packed, flow = batch.tokens, batch.tokens.flow
    assert flow is not None, "only batches of streams are remembered"
    row = steps.starts // packed.row_length
    goes_on = (flow.continues[row] & (steps.starts % packed.row_length == 0))[:, None]
    h, c = (batch.memory[name][number][row] * goes_on for name in ("hidden", "cells"))
    return h, c


def last_states(packed: Packed, steps: Steps, ends: list[State]) -> Memory:
    """Return the memory after a batch: the states after the last token of each row that the next row continues."""
    assert packed.flow is not None, "only batches of streams are remembered"
    through = packed.flow.through
    last = torch.arange(packed.rows, device=through.device) * packed.row_length + (through - 1).clamp(min=0)
    there = (through > 0)[:, None]
    place = torch.zeros_like(packed.ids).index_copy(0, steps.index, torch.arange(len(steps.index)).to(last.device))
    found = zip(*[[state.detach()[place[last]] * there for state in pair] for pair in ends], strict=True)
    return {name: torch.stack(states) for name, states in zip(("hidden", "cells"), found, strict=True)}
