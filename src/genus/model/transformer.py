"""The Transformer encoder or decoder: embeddings, a stack of layers, and a pooler on the first token."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch

from genus.errors import UsageError
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
from genus.model.front import PROMPT
from genus.model.initialization import Initialization, Normal, initialize
from genus.model.norm import LayerNorm, Norm
from genus.model.pooler import Pooler
from genus.model.stack import Stack
from genus.model.stack.sharing import Unshared
from genus.part import Count, Depth, Fraction, parts_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from genus.batch import Batch, Packed
    from genus.model.attention.plan import Source
    from genus.model.cost import ExampleLengths
    from genus.model.front import PrefixKeys, PromptVectors


WITHOUT_ORDER = frozenset({"prefix", "order"})
"""Facts that are 0 for every token where a batch has none: no prefix, and under `Ordered` attention to all tokens."""


class Transformer(Model):
    """A Transformer encoder, or with causal masks a decoder (Vaswani et al. 2017; Devlin et al. 2018, section 3)."""

    layers: Depth
    hidden: Count
    attention: Attention
    feedforward: FeedForward
    embedding: Embedding = Embedding()
    norm: Norm = LayerNorm()
    block: Block = PostNorm()
    stack: Stack = Unshared()
    pooler: Pooler | None = None
    cross: Attention | None = None
    """Cross-attention to another stream, between self-attention and feed-forward; None: no cross-attention."""
    dropout: Fraction = 0.1
    """Dropout probability of the output of each sub-layer, in training."""
    initialization: Initialization = Normal()
    """Distribution of the initial weights; biases start at 0."""

    def __post_init__(self) -> None:
        """Check that sizes, positions, attention and stack fit together (ValueError)."""
        self.attention.check(self.hidden)
        self.embedding.check(self.hidden)
        self.embedding.position.check(self.embedding_width)
        if self.cross is not None:
            self.cross.check(self.hidden)
            if not self.cross.crosses:
                kind = type(self.cross).__name__
                raise ValueError(f"cross: {kind} cannot attend to another stream; take MultiHeadAttention")
        position, attention = self.embedding.position, self.attention.of_layer(0)
        if self.initialization.by_width and self.embedding_width != self.hidden:
            raise ValueError(f"initialization: {type(self.initialization).__name__} needs token embeddings as wide as "
                             "the hidden states")  # fmt: skip
        taken = attention.takes_positions and (attention.takes_rotation or not position.rotates)
        if (position.rotates or position.biases) and not taken:
            raise ValueError(f"embedding.position: {type(attention).__name__} does not take {type(position).__name__}")
        if position.rotates:
            position.rotation(attention.head_sizes(self.hidden)[1])
        self.block.check(self)
        self.stack.check(self)

    @property
    def in_words(self) -> str:
        """Encoder or decoder, its size, and block and stack if they are not the defaults."""
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
        """Whether the attention masks of all layers are causal."""
        rules = parts_within(self.attention, AttentionMask)  # type: ignore[type-abstract]  # a slot is abstract
        return bool(rules) and all(rule.causal for rule in rules)

    @property
    def causal_after_prefix(self) -> bool:
        """Whether the attention masks of all layers are causal, or prefix masks."""
        rules = parts_within(self.attention, AttentionMask)  # type: ignore[type-abstract]  # a slot is abstract
        return bool(rules) and all(rule.causal or rule.prefix is not None for rule in rules)

    @property
    def facts(self) -> frozenset[str]:
        """Names of the facts per token (`Packed.facts`) that embeddings and attention masks read."""
        rules = parts_within(self.attention, AttentionMask)  # type: ignore[type-abstract]  # a slot is abstract
        return self.embedding.facts.union(*(rule.needs for rule in rules))

    @property
    def width(self) -> int:
        """Dimension of the output states: the hidden size, or a multiple in stacks of several states."""
        return self.stack.width(self.hidden)

    @property
    def embedding_width(self) -> int:
        """E, the size of the token embedding."""
        return self.embedding.width(self.hidden)

    @property
    def pooled_width(self) -> int:
        """Dimension of the pooler's output; without a pooler, that of the hidden states."""
        return self.width if self.pooler is None else self.pooler.width(self.width)

    @property
    def num_tasks(self) -> int | None:
        """Number of task embeddings; None: there are none."""
        return self.embedding.num_tasks

    @property
    def num_segments(self) -> int | None:
        """Number of segment embeddings; None: there are none."""
        return self.embedding.segments or None

    @property
    def max_length(self) -> int | None:
        """Maximum sequence length in tokens of both positions and attention; None: unlimited."""
        ends = [end for part in (self.embedding.position, self.attention) if (end := part.max_length) is not None]
        return min(ends, default=None)

    def pixels(self, stream: str) -> int | None:
        """Return the numbers of a patch, where the embedding is of images; None: tokens have ids."""
        return self.embedding.pixels

    @property
    def losses(self) -> frozenset[str]:
        """Names of the auxiliary losses of layers and stack."""
        return self.feedforward.losses | self.stack.losses

    @property
    def shortens(self) -> bool:
        """Whether there are fewer states than tokens."""
        return self.stack.shortens

    def layer(self, number: int) -> Transformer:
        """Return the model with attention, feed-forward network and block of layer `number` in all layers."""
        attention, block = self.attention.of_layer(number), self.block.of_layer(number)
        feedforward = self.feedforward.of_layer(number)
        if attention is self.attention and block is self.block and feedforward is self.feedforward:
            return self
        return replace(self, attention=attention, block=block, feedforward=feedforward)

    def layer_factory(self) -> Callable[[], nn.Module]:
        """Return a function that builds the next layer at each call."""
        numbers = itertools.count()
        return lambda: self.block.build(self.layer(next(numbers)))

    def build(self, vocab_size: int) -> Network:
        """Return the network with initial weights."""
        return TransformerNetwork(self, vocab_size)

    def pooled(self, pooler: Pooler) -> Model:
        """Return the model with a pooler: its own, else this one."""
        return self if self.pooler else replace(self, pooler=pooler)

    def unpooled(self) -> Model:
        """Return the model without a pooler."""
        return replace(self, pooler=None)

    def merge_pretrained(self, source: Model) -> Model:
        """Return the source's architecture, or this one if its attention can load the weights of the source's."""
        return self if isinstance(source, Transformer) and self.attention.can_load(source.attention) else source

    def initialize(self, module: nn.Module) -> None:
        """Initialize the weights of a head from the model's distribution."""
        initialize(module, self.initialization.of_width(self.hidden))

    def cost(self, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of embeddings and layers; of the pooler, which heads call, only the parameters."""
        pooler = ComponentCost() if self.pooler is None else self.pooler.cost(self.width).scaled(0)
        layers = self.stack.cost(self, lengths)
        ends = self.embedding.cost(vocab_size, self.hidden, lengths) + self.block.final_norm(self).cost(self.width)
        return ends + self.bias_cost() + layers + pooler

    def bias_cost(self) -> ComponentCost:
        """Return the cost of the position bias on attention scores, if any."""
        position = self.embedding.position
        return position.bias_cost(self.attention.head_sizes(self.hidden)[0]) if position.biases else ComponentCost()

    def pool_flops(self) -> float:
        """Return the FLOPs of the pooler per sequence; 0 without a pooler."""
        return 0.0 if self.pooler is None else self.pooler.cost(self.width).flops


class TransformerNetwork(Network):
    """The module of a `Transformer`."""

    def __init__(self, choice: Transformer, vocab_size: int) -> None:
        super().__init__()
        self.hidden = choice.width
        self.embed = choice.embedding.build(vocab_size, choice.hidden)
        self.layers = choice.stack.build(choice.layers, choice.layer_factory())
        self.norm = choice.block.final_norm(choice).build(choice.width)
        self.pooler = choice.pooler.build(choice.width) if choice.pooler else None
        position, self.choice, self.untold = choice.embedding.position, choice, choice.facts & WITHOUT_ORDER
        self.prefix: PrefixKeys | None = None
        """Trained keys and values of each layer, in front of every sequence; None: there are none."""
        taken = choice.attention.head_sizes(choice.hidden) if position.rotates or position.biases else (0, 0)
        self.position_bias, self.rotation = position.bias(taken[0], choice.hidden), position.rotation(taken[1])
        initialize(self, choice.initialization.of_width(choice.hidden))

    @property
    def token_embedding(self) -> nn.Embedding:
        """The token embedding (V, E)."""
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
        """Forward pass: return `tokens`, the last layer's hidden states (T, H).

        Args:
            batch: the batch, whose stream `tokens` is read; without the fact `prefix` it has no prefixes, without
                `order` no order.
            layers: also return the hidden states of every layer.
            source: the stream that cross-attention attends to.
            cache: key-value cache of self-attention: read, and extended by the batch.
            source_cache: key-value cache of cross-attention: written if a source is given, else read.
        """
        kept: list[Tensor] | None = [] if layers else None
        packed, place = self.after_prompt(batch.tokens)
        if self.prefix is not None:
            packed = replace(packed, positions=packed.positions + self.prefix.length)
        x = self.embed(packed)
        if missing := self.untold - packed.facts.keys():
            packed = replace(packed, facts={**packed.facts, **dict.fromkeys(missing, torch.zeros_like(packed.ids))})
        given: dict[str, Any] = {"source": source, "cache": cache, "source_cache": source_cache}
        given |= {"rotation": self.rotation, "bias": self.position_bias}
        given |= {"prefix": None if self.prefix is None else self.prefix()}
        context = Context.of(packed, x, self.training, **given)
        x = self.layers(x, context, kept)
        if cache is not None:
            cache.advance()
        if source_cache is not None and source is not None:
            source_cache.advance()
        x = self.norm(x)
        if place is not None:
            x, kept = x.index_select(0, place), kept and [one.index_select(0, place) for one in kept]
        return States({"tokens": x}, losses=context.losses, layers=None if kept is None else tuple(kept))

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the number of real tokens for each auxiliary loss of the layers."""
        return self.counts_of(batch.tokens)

    def counts_of(self, packed: Packed) -> dict[str, Tensor]:
        """Return the number of real tokens of a stream for each auxiliary loss of the layers."""
        return {name: (packed.sequence >= 0).sum() for name in sorted(self.choice.losses)}

    def shortened(self, packed: Packed) -> Packed:
        """Return the stream of the states: `packed`, unless the stack shortens sequences."""
        return cast("Any", self.layers).shortened(packed) if self.choice.shortens else packed

    def prefix_host(self) -> Network:
        """Return the network; refuse attention whose keys are not those of the tokens (UsageError)."""
        attention, stack = self.choice.attention, self.choice.stack
        if not (attention.takes_prefix and stack.gives_states):
            kind = type(stack if attention.takes_prefix else attention).__name__
            raise UsageError(f"{kind} has no place for trained keys and values in front of those of the tokens")
        return self

    def prompt_host(self) -> Network:
        """Return the network; refuse a stack whose states are not those of the tokens (UsageError)."""
        if self.choice.shortens:
            kind = type(self.choice.stack).__name__
            raise UsageError(f"{kind} makes sequences shorter, so no trained vectors can stand in front of them")
        return self

    def ahead(self, stream: str) -> int:
        """Return the number of positions of prefix and prompt."""
        prompt = cast("PromptVectors | None", self.embed.prompt)
        return (0 if self.prefix is None else self.prefix.length) + (0 if prompt is None else len(prompt.vectors))

    def key_shapes(self) -> list[tuple[int, int]]:
        """Return G and D, heads and head size of keys and values, of each layer from the first to the last."""
        layers: list[Any] = list(self.layers.children())
        shapes: list[tuple[int, int]] = [layer.attention.cache_shape() for layer in layers]
        return shapes if len(shapes) == self.choice.layers else shapes[:1] * self.choice.layers

    def after_prompt(self, packed: Packed) -> tuple[Packed, Tensor | None]:
        """Return the stream with room for the prompt in front of each sequence, and the place (T,) of each token in it.

        Without a prompt, or where there is room already, the stream is returned as it is, and None.
        """
        prompt = cast("PromptVectors | None", self.embed.prompt)
        return (packed, None) if prompt is None or PROMPT in packed.facts else prompt.before(packed)

    def cache(self, entries: int, *, cross: bool = False, dtype: torch.dtype | None = None) -> Cache | None:
        """Return an empty key-value cache; None if the attention supports none, so that all tokens are recomputed.

        Args:
            entries: the most tokens of all sequences together.
            cross: for cross-attention instead of self-attention; every layer has its own keys and values.
            dtype: of keys and values; None: that of the weights.
        """
        if self.prefix is not None or self.embed.prompt is not None or not self.choice.block.caches:
            return None
        like = next(self.parameters())
        each = [getattr(layer, "cross" if cross else "attention", None) for layer in self.layers.children()]
        shapes = [None if layer is None else layer.cache_shape() for layer in each]
        if None in shapes or len(shapes) != self.choice.layers:
            return None
        return Cache(cast("list[tuple[int, int]]", shapes), entries, dtype or like.dtype, like.device)

    def layer_groups(self) -> list[nn.Module]:
        """Return the embeddings and each layer, for layer-wise learning rates; layers with shared weights are one."""
        return [self.embed, *self.layers.children()]

    def compile_units(self) -> list[nn.Module]:
        """Return the embeddings and each layer; attention plans are made outside compiled regions."""
        return self.layer_groups()

    def pool(self, hidden: Tensor) -> Tensor:
        """Return the pooler's vectors (N, H); without a pooler, the hidden states themselves."""
        return hidden if self.pooler is None else self.pooler(hidden)
