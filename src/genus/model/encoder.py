"""The encoder: embeddings, a stack of layers, and a pooler over the first token.

Legend: T tokens, E embedding size, H hidden size, N sequences.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from genus.model import Model, Network
from genus.model.attention import Attention
from genus.model.block import Block, PostNorm
from genus.model.demand import Demand
from genus.model.embed import Embedding
from genus.model.feedforward import FeedForward
from genus.model.head import OutputLayer
from genus.model.heads import Pooler
from genus.model.norm import LayerNorm, Norm
from genus.model.stack import Separate, Stack
from genus.model.visibility import Visibility
from genus.part import Count, Fraction, NotNegative, parts_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.batch import Batch


class Encoder(Model):
    """A Transformer encoder (Vaswani et al. 2017; Devlin et al. 2018, section 3)."""

    layers: Count
    hidden: Count
    attention: Attention
    feedforward: FeedForward
    embedding: Embedding = Embedding()
    norm: Norm = LayerNorm()
    block: Block = PostNorm()
    stack: Stack = Separate()
    pooler: Pooler | None = None
    dropout: Fraction = 0.1
    """On the output of each sub-layer, in training."""
    init_std: NotNegative = 0.02
    """Standard deviation of the normal distribution that weights start from; biases start at 0."""

    def __post_init__(self) -> None:
        """Refuse sizes that contradict each other."""
        self.attention.check(self.hidden)
        self.embedding.position.check(self.embedding_width)
        self.stack.check(self)

    @property
    def in_words(self) -> str:
        """What it is used as, its size, and what of the layers is out of the ordinary."""
        rules = parts_within(self.attention, Visibility)  # type: ignore[type-abstract]  # a slot is abstract
        use = "decoder" if rules and all(rule.causal for rule in rules) else "encoder"
        unusual = [part.in_words for part in (self.block, self.stack) if part.in_words]
        layers = "1 layer" if self.layers == 1 else f"{self.layers} layers"
        return ", ".join([f"{use}, {layers} of {self.hidden}", *unusual])

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
    def known_tasks(self) -> int | None:
        """The number of task vectors, where the embeddings have any."""
        return self.embedding.known_tasks

    @property
    def max_length(self) -> int | None:
        """The longest sequence that both positions and attention serve."""
        ends = [end for part in (self.embedding.position, self.attention) if (end := part.max_length) is not None]
        return min(ends, default=None)

    def layer(self, number: int) -> Encoder:
        """Return the encoder all of whose layers are as the one of that number: they may differ in their attention."""
        return replace(self, attention=self.attention.of_layer(number))

    def maker(self) -> Callable[[], nn.Module]:
        """Return what makes the layers, one after the other."""
        numbers = itertools.count()
        return lambda: self.block.build(self.layer(next(numbers)))

    def build(self, vocab_size: int) -> Network:
        """Return the network with fresh weights."""
        return EncoderNetwork(self, vocab_size)

    def pooled(self, pooler: Pooler) -> Model:
        """Return the encoder with a pooler, the one it has or this one."""
        return self if self.pooler else replace(self, pooler=pooler)

    def unpooled(self) -> Model:
        """Return the encoder without a pooler."""
        return replace(self, pooler=None)

    def over(self, source: Model) -> Model:
        """Return the source, or the encoder itself where its attention goes on with the weights of the source's."""
        return self if isinstance(source, Encoder) and self.attention.replaces(source.attention) else source

    def initialize(self, module: nn.Module) -> None:
        """Draw the weights of linear maps and embeddings from N(0, init_std²) and set biases to 0."""
        initialize(module, self.init_std)

    def demand(self, vocab_size: int, length: int) -> Demand:
        """Return embeddings and layers; of the pooler, which only heads call, the parameters."""
        pooler = Demand() if self.pooler is None else self.pooler.demand(self.width).on(0)
        layers = self.stack.demand(self, length)
        ends = self.embedding.demand(vocab_size, self.hidden) + self.block.closing(self).demand(self.width)
        return ends + layers + pooler

    def pool_flops(self) -> float:
        """Return the FLOPs of the pooler, where there is one."""
        return 0.0 if self.pooler is None else self.pooler.demand(self.width).flops


class EncoderNetwork(Network):
    """An encoder at work."""

    def __init__(self, choice: Encoder, vocab_size: int) -> None:
        super().__init__()
        self.hidden = choice.width
        self.embed = choice.embedding.build(vocab_size, choice.hidden)
        self.layers = choice.stack.build(choice.layers, choice.maker())
        self.norm = choice.block.closing(choice).build(choice.width)
        self.pooler = choice.pooler.build(choice.width) if choice.pooler else None
        initialize(self, choice.init_std)
        choice.block.initialize(self.layers, choice)

    @property
    def token_embedding(self) -> nn.Embedding:
        """The token table (V, E)."""
        return self.embed.tokens

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return `tokens`, the last layer's states (T, H)."""
        return {"tokens": self.norm(self.layers(self.embed(batch.tokens), batch.tokens))}

    def levels(self) -> list[nn.Module]:
        """Return the embeddings and each layer; layers that share their weights are one level."""
        return [self.embed, *self.layers.children()]

    def regions(self) -> list[nn.Module]:
        """Return the embeddings and each layer; what attention prepares for all layers stays outside."""
        return self.levels()

    def pool(self, hidden: Tensor) -> Tensor:
        """Return the pooler's vectors (N, H), or the states themselves where there is no pooler."""
        return hidden if self.pooler is None else self.pooler(hidden)


def initialize(module: nn.Module, std: float) -> None:
    """Draw the weights of linear maps and embeddings from N(0, std²) and set biases to 0 (BERT, released code)."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, std=std)
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, OutputLayer):
            part.draw(std)
