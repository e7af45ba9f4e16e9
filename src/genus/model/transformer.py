"""The encoder: embeddings, a stack of layers, and a pooler over the first token.

Legend: T tokens, E embedding size, H hidden size, N sequences.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from genus.model import Model, Network, States
from genus.model.attention import Attention
from genus.model.attention.masks import AttentionMask
from genus.model.attention.plan import Context
from genus.model.block import Block
from genus.model.block.residual import PostNorm
from genus.model.cache import Cache
from genus.model.cost import ComponentCost
from genus.model.embedding import Embedding
from genus.model.feedforward import FeedForward
from genus.model.initialization import Initialization, Normal, initialize
from genus.model.norm import LayerNorm, Norm
from genus.model.pooler import Pooler
from genus.model.stack import Stack
from genus.model.stack.sharing import Unshared
from genus.part import Count, Fraction, parts_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from genus.batch import Batch
    from genus.model.attention.plan import Source
    from genus.model.cost import ExampleLengths


class Transformer(Model):
    """A Transformer encoder (Vaswani et al. 2017; Devlin et al. 2018, section 3)."""

    layers: Count
    hidden: Count
    attention: Attention
    feedforward: FeedForward
    embedding: Embedding = Embedding()
    norm: Norm = LayerNorm()
    block: Block = PostNorm()
    stack: Stack = Unshared()
    pooler: Pooler | None = None
    cross: Attention | None = None
    """Attention to another stream, between attention and feed-forward; None: there is none."""
    dropout: Fraction = 0.1
    """On the output of each sub-layer, in training."""
    initialization: Initialization = Normal()
    """What weights start from; biases start at 0."""

    def __post_init__(self) -> None:
        """Refuse sizes that contradict each other."""
        self.attention.check(self.hidden)
        self.embedding.position.check(self.embedding_width)
        if self.cross is not None:
            self.cross.check(self.hidden)
            if not self.cross.crosses:
                raise ValueError(f"cross: {type(self.cross).__name__} cannot attend to another stream; take Softmax")
        position, attention = self.embedding.position, self.attention.of_layer(0)
        if (position.rotates or position.biases) and not attention.takes_positions:
            raise ValueError(f"embedding.position: {type(attention).__name__} does not take {type(position).__name__}")
        if position.rotates:
            position.rotation(attention.head_sizes(self.hidden)[1])
        self.stack.check(self)

    @property
    def in_words(self) -> str:
        """What it is used as, its size, and what of the layers is out of the ordinary."""
        use = "decoder" if self.causal else "encoder"
        unusual = [part.in_words for part in (self.block, self.stack) if part.in_words]
        layers = "1 layer" if self.layers == 1 else f"{self.layers} layers"
        return ", ".join([f"{use}, {layers} of {self.hidden}", *unusual])

    @property
    def streams(self) -> frozenset[str]:
        """`tokens`, and with cross-attention the source, whose states are given by the model that it is a part of."""
        return frozenset({"tokens"} if self.cross is None else {"tokens", "source"})

    @property
    def causal(self) -> bool:
        """Whether the masks of all layers let no token see one after it."""
        rules = parts_within(self.attention, AttentionMask)  # type: ignore[type-abstract]  # a slot is abstract
        return bool(rules) and all(rule.causal for rule in rules)

    @property
    def facts(self) -> frozenset[str]:
        """Names of the facts of tokens that embeddings and masks read."""
        rules = parts_within(self.attention, AttentionMask)  # type: ignore[type-abstract]  # a slot is abstract
        return self.embedding.facts.union(*(rule.needs for rule in rules))

    @property
    def width(self) -> int:
        """How many numbers the stack gives a token: the hidden size, unless it keeps several states."""
        return self.stack.width(self.hidden)

    @property
    def embedding_width(self) -> int:
        """Width of the token embedding."""
        return self.embedding.width(self.hidden)

    @property
    def pooled_width(self) -> int:
        """Width of what the pooler gives, where there is one."""
        return self.width if self.pooler is None else self.pooler.width(self.width)

    @property
    def num_tasks(self) -> int | None:
        """The number of task vectors, where the embeddings have any."""
        return self.embedding.num_tasks

    @property
    def max_length(self) -> int | None:
        """The longest sequence that both positions and attention serve."""
        ends = [end for part in (self.embedding.position, self.attention) if (end := part.max_length) is not None]
        return min(ends, default=None)

    def layer(self, number: int) -> Transformer:
        """Return the encoder all of whose layers are as the one of that number: they may differ in their attention."""
        attention = self.attention.of_layer(number)
        return self if attention is self.attention else replace(self, attention=attention)

    def layer_factory(self) -> Callable[[], nn.Module]:
        """Return what makes the layers, one after the other."""
        numbers = itertools.count()
        return lambda: self.block.build(self.layer(next(numbers)))

    def build(self, vocab_size: int) -> Network:
        """Return the network with fresh weights."""
        return TransformerNetwork(self, vocab_size)

    def pooled(self, pooler: Pooler) -> Model:
        """Return the encoder with a pooler, the one it has or this one."""
        return self if self.pooler else replace(self, pooler=pooler)

    def unpooled(self) -> Model:
        """Return the encoder without a pooler."""
        return replace(self, pooler=None)

    def merge_pretrained(self, source: Model) -> Model:
        """Return the source, or the encoder itself where its attention goes on with the weights of the source's."""
        return self if isinstance(source, Transformer) and self.attention.can_load(source.attention) else source

    def initialize(self, module: nn.Module) -> None:
        """Draw the weights of a head from the model's own distribution."""
        initialize(module, self.initialization)

    def cost(self, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return embeddings and layers; of the pooler, which only heads call, the parameters."""
        pooler = ComponentCost() if self.pooler is None else self.pooler.cost(self.width).scaled(0)
        layers = self.stack.cost(self, lengths)
        ends = self.embedding.cost(vocab_size, self.hidden) + self.block.final_norm(self).cost(self.width)
        return ends + self.bias_demand() + layers + pooler

    def bias_demand(self) -> ComponentCost:
        """Return what positions need that bias the scores."""
        position = self.embedding.position
        return position.bias_demand(self.attention.head_sizes(self.hidden)[0]) if position.biases else ComponentCost()

    def pool_flops(self) -> float:
        """Return the FLOPs of the pooler, where there is one."""
        return 0.0 if self.pooler is None else self.pooler.cost(self.width).flops


class TransformerNetwork(Network):
    """An encoder at work."""

    def __init__(self, choice: Transformer, vocab_size: int) -> None:
        super().__init__()
        self.hidden = choice.width
        self.embed = choice.embedding.build(vocab_size, choice.hidden)
        self.layers = choice.stack.build(choice.layers, choice.layer_factory())
        self.norm = choice.block.final_norm(choice).build(choice.width)
        self.pooler = choice.pooler.build(choice.width) if choice.pooler else None
        position, self.choice = choice.embedding.position, choice
        taken = choice.attention.head_sizes(choice.hidden) if position.rotates or position.biases else (0, 0)
        self.position_bias, self.rotation = position.bias(taken[0]), position.rotation(taken[1])
        initialize(self, choice.initialization)

    @property
    def token_embedding(self) -> nn.Embedding:
        """The token table (V, E)."""
        return self.embed.tokens

    def forward(
        self,
        batch: Batch,
        *,
        layers: bool = False,
        source: Source | None = None,
        cache: Cache | None = None,
        source_cache: Cache | None = None,
    ) -> States:
        """Return `tokens`, the last layer's states (T, H).

        Args:
            batch: its stream `tokens` is read.
            layers: return the hidden states of every layer too.
            source: what cross-attention attends to.
            cache: keys and values of earlier tokens; those of the batch are written to it.
            source_cache: keys and values of the source: written where a source is given, else read.
        """
        kept: list[Tensor] | None = [] if layers else None
        packed, x = batch.tokens, self.embed(batch.tokens)
        given: dict[str, Any] = {"source": source, "cache": cache, "source_cache": source_cache}
        given |= {"rotation": self.rotation, "bias": self.position_bias}
        x = self.layers(x, Context.of(packed, x, self.training, **given), kept)
        if cache is not None:
            cache.advance(packed)
        if source_cache is not None and source is not None:
            source_cache.advance(source.packed)
        return States({"tokens": self.norm(x)}, layers=None if kept is None else tuple(kept))

    def cache(self, slots: int, capacity: int, *, cross: bool = False) -> Cache | None:
        """Return an empty cache of keys and values; None where attention has none, so that all is read again.

        Args:
            slots: how many sequences it holds.
            capacity: tokens of each.
            cross: of cross-attention's keys and values, of which every layer has its own.
        """
        like = next(self.parameters())
        each = [getattr(layer, "cross" if cross else "attention", None) for layer in self.layers.children()]
        shapes = [None if layer is None else layer.cache_shape() for layer in each]
        if None in shapes or len(shapes) != self.choice.layers:
            return None
        return Cache(cast("list[tuple[int, int]]", shapes), slots, capacity, like.dtype, like.device)

    def layer_groups(self) -> list[nn.Module]:
        """Return the embeddings and each layer; layers that share their weights are one level."""
        return [self.embed, *self.layers.children()]

    def compile_units(self) -> list[nn.Module]:
        """Return the embeddings and each layer; what attention prepares for all layers stays outside."""
        return self.layer_groups()

    def pool(self, hidden: Tensor) -> Tensor:
        """Return the pooler's vectors (N, H), or the states themselves where there is no pooler."""
        return hidden if self.pooler is None else self.pooler(hidden)
