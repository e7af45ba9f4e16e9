"""A toy member made of files only: an encoder-decoder whose decoder attends to the states of a packed source."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from genus.batch import Batch
from genus.model import Model, Network, States
from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.attention.plan import Source
from genus.model.block.residual import PreNorm
from genus.model.cost import ComponentCost
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.norm import Identity
from genus.model.position.rotary import Rotary
from genus.model.transformer import Transformer

if TYPE_CHECKING:
    from torch import nn

    from genus.model.cache import Cache
    from genus.model.cost import ExampleLengths
    from genus.model.transformer import TransformerNetwork


class EncoderDecoder(Model):
    """An encoder reads the stream `source`; a decoder reads `tokens`, and attends to what the encoder has made.

    One token embedding serves both (Vaswani et al. 2017, section 3.4).
    """

    encoder: Transformer
    decoder: Transformer

    def __post_init__(self) -> None:
        if self.decoder.cross is None or self.encoder.hidden != self.decoder.hidden:
            raise ValueError("an encoder-decoder needs a decoder with cross-attention, as wide as the encoder")

    @property
    def streams(self) -> frozenset[str]:
        return frozenset({"source", "tokens"})

    @property
    def width(self) -> int:
        return self.decoder.width

    @property
    def max_length(self) -> int | None:
        return self.decoder.max_length

    def max_length_of(self, stream: str) -> int | None:
        return (self.encoder if stream == "source" else self.decoder).max_length

    @property
    def causal(self) -> bool:
        return self.decoder.causal

    @property
    def facts(self) -> frozenset[str]:
        return self.encoder.facts | self.decoder.facts

    def build(self, vocab_size: int) -> Network:
        return EncoderDecoderNetwork(self, vocab_size)

    def initialize(self, module: nn.Module) -> None:
        self.decoder.initialize(module)

    def cost(self, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        source, share = lengths["source"], lengths["source"] / lengths["tokens"]
        encoder = self.encoder.cost(vocab_size, {"tokens": source}) + ComponentCost(activations=self.encoder.width)
        shared = ComponentCost(-vocab_size * self.decoder.embedding_width)
        return self.decoder.cost(vocab_size, lengths) + encoder.scaled(share) + shared


class EncoderDecoderNetwork(Network):
    def __init__(self, choice: EncoderDecoder, vocab_size: int) -> None:
        super().__init__()
        self.hidden = choice.width
        self.encoder = cast("TransformerNetwork", choice.encoder.build(vocab_size))
        self.decoder = cast("TransformerNetwork", choice.decoder.build(vocab_size))
        self.decoder.embed.tokens = self.encoder.embed.tokens

    @property
    def token_embedding(self) -> nn.Embedding:
        return self.decoder.token_embedding

    def forward(
        self, batch: Batch, *, layers: bool = False, cache: Cache | None = None, source_cache: Cache | None = None
    ) -> States:
        """Return `tokens` and `source`; without a source, its keys and values are those in `source_cache`."""
        source, streams = None, {}
        if (packed := batch.streams.get("source")) is not None:
            source = Source(packed, self.encoder(Batch({"tokens": packed}, {}))["tokens"])
            streams["source"] = source.states
        found = self.decoder(batch, layers=layers, source=source, cache=cache, source_cache=source_cache)
        return replace(found, streams={**found.streams, **streams})

    def layer_groups(self) -> list[nn.Module]:
        return [*self.encoder.layer_groups(), *self.decoder.layer_groups()]

    def compile_units(self) -> list[nn.Module]:
        return [*self.encoder.compile_units(), *self.decoder.compile_units()]


ATTENTION = MultiHeadAttention(heads=4, dropout=0.0)
ENCODER = Transformer(
    layers=2,
    hidden=48,
    attention=ATTENTION,
    feedforward=MLP(size=96),
    embedding=Embedding(segments=0, position=Rotary(), norm=Identity(), dropout=0.0),
    block=PreNorm(),
    dropout=0.0,
)
DECODER = replace(ENCODER, attention=replace(ATTENTION, mask=Causal()), cross=replace(ATTENTION, key_heads=2))
MODEL = EncoderDecoder(encoder=ENCODER, decoder=DECODER)
