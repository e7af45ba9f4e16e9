"""The encoder-decoder: a decoder that attends to the states that an encoder makes of another stream."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import torch

from genus.batch import Batch
from genus.errors import UsageError
from genus.model import Model, Network, States
from genus.model.attention.masks import Causal, Full
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.attention.plan import MATH_LENGTH, Source
from genus.model.cost import ComponentCost
from genus.model.transformer import Transformer  # a choice is read by its annotation
from genus.part import diff

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor, nn

    from genus.batch import Packed
    from genus.model.cache import Cache
    from genus.model.cost import ExampleLengths
    from genus.model.pooler import Pooler
    from genus.model.position import Position
    from genus.model.transformer import TransformerNetwork


class EncoderDecoder(Model):
    """An encoder reads the stream `source`; a decoder reads `tokens` and attends to the encoder's last states.

    Entry j of both streams is the same example: no example attends to another's source.

    Source: Vaswani et al. 2017, section 3.1.
    """

    encoder: Transformer
    decoder: Transformer
    shared: Literal["nothing", "embeddings", "layers"] = "embeddings"
    """The weights that serve both: none; the token embedding (Vaswani et al. 2017, section 3.4); or all weights of the
    encoder, beside which the decoder has its cross-attention (Raffel et al. 2019, section 3.2.2; released code,
    bi_v1_shared.gin)."""

    def __post_init__(self) -> None:
        """Check that both fit together (ValueError)."""
        if self.decoder.cross is None:
            raise ValueError("decoder.cross: the decoder has no cross-attention, so it could not see the source; set "
                             "decoder.cross=MultiHeadAttention")  # fmt: skip
        if self.encoder.cross is not None:
            raise ValueError("encoder.cross: an encoder has no other stream to attend to; leave it out")
        if self.decoder.shortens:
            raise ValueError(
                "decoder.stack: a decoder gives a state of each token; let its last layers make them whole"
            )
        if self.encoder.width != self.decoder.width:
            raise ValueError(f"encoder.hidden: cross-attention takes states as wide as the decoder's "
                             f"{self.decoder.width}, not {self.encoder.width}")  # fmt: skip
        if self.shared != "nothing" and self.encoder.embedding_width != self.decoder.embedding_width:
            raise ValueError(f"shared: token embeddings of {self.encoder.embedding_width} and "
                             f"{self.decoder.embedding_width} dimensions cannot be one; set it to nothing")  # fmt: skip
        unlike = [path for path, _, _ in diff(self.encoder, self.decoder) if not of_one_side(path)]
        if self.shared == "layers" and unlike:
            raise ValueError(f"shared: encoder and decoder differ in {unlike[0]}, so their layers cannot be one; take "
                             "shared=embeddings")  # fmt: skip

    @property
    def in_words(self) -> str:
        """Both, and what they share where it is not the token embedding."""
        told = f"encoder-decoder: {self.encoder.in_words}; {self.decoder.in_words}"
        unusual = {"nothing": "; token embeddings apart", "layers": "; layers shared"}
        return told + unusual.get(self.shared, "")

    @property
    def streams(self) -> frozenset[str]:
        """The encoder's `source` and the decoder's `tokens`."""
        return frozenset({"source", "tokens"})

    @property
    def width(self) -> int:
        """H, the size of the decoder's hidden states."""
        return self.decoder.width

    @property
    def embedding_width(self) -> int:
        """E, the size of the decoder's token embedding."""
        return self.decoder.embedding_width

    @property
    def max_length(self) -> int | None:
        """The longest sequence of `tokens`."""
        return self.decoder.max_length

    def max_length_of(self, stream: str) -> int | None:
        """Return the longest sequence of a stream that its positions allow."""
        return (self.encoder if stream == "source" else self.decoder).max_length

    @property
    def causal(self) -> bool:
        """Whether the decoder is causal."""
        return self.decoder.causal

    @property
    def facts(self) -> frozenset[str]:
        """Names of the facts per token that either reads."""
        return self.encoder.facts | self.decoder.facts

    @property
    def num_segments(self) -> int | None:
        """Number of segment embeddings of the encoder."""
        return self.encoder.num_segments

    @property
    def pooled_width(self) -> int:
        """Size of the decoder's pooled vectors."""
        return self.decoder.pooled_width

    def pooled(self, pooler: Pooler) -> Model:
        """Return the model with a pooler of the decoder's states: its own, else this one."""
        return replace(self, decoder=cast("Transformer", self.decoder.pooled(pooler)))

    def unpooled(self) -> Model:
        """Return the model without a pooler."""
        return replace(self, decoder=cast("Transformer", self.decoder.unpooled()))

    def pool_flops(self) -> float:
        """Return the FLOPs of the decoder's pooler per sequence."""
        return self.decoder.pool_flops()

    def merge_pretrained(self, source: Model) -> Model:
        """Return the source's architecture; of an encoder or a decoder, an encoder-decoder of two such (Rothe et al.).

        Of two such, the encoder's attention is bidirectional, the decoder's causal, and cross-attention is new. Of an
        encoder-decoder all is the source's, but for an encoder that makes the embeddings of what is read.

        Raises:
            UsageError: its attention cannot attend to another stream.

        Source: Rothe et al. 2020, Leveraging Pre-trained Checkpoints for Sequence Generation Tasks, section 3.
        """
        if isinstance(source, EncoderDecoder):
            embedding = self.encoder.embedding.continuing(source.encoder.embedding)
            if embedding == source.encoder.embedding:
                return source
            return replace(source, encoder=replace(source.encoder, embedding=embedding), shared="nothing")
        if not isinstance(source, Transformer) or not isinstance(source.attention, MultiHeadAttention):
            raise UsageError("--start: an encoder-decoder begins with an encoder or a decoder of MultiHeadAttention, "
                             "as bert or gpt2, or with another encoder-decoder; take one")  # fmt: skip
        encoder = replace(source, attention=replace(source.attention, mask=Full()), pooler=None)
        return mirrored(encoder, source.embedding.position)

    def build(self, vocab_size: int) -> Network:
        """Return the network with initial weights."""
        return EncoderDecoderNetwork(self, vocab_size)

    def initialize(self, module: nn.Module) -> None:
        """Initialize the weights of a head from the decoder's distribution."""
        self.decoder.initialize(module)

    def cost(self, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of `tokens`, on which the work on the source is shared out."""
        source, share = lengths["source"], lengths["source"] / lengths["tokens"]
        encoder = self.encoder.cost(vocab_size, {"tokens": source}) + ComponentCost(activations=self.encoder.width)
        table = self.decoder.embedding.table_parameters(vocab_size, self.decoder.hidden)
        counted = ComponentCost(-{"embeddings": table, "layers": encoder.parameters}.get(self.shared, 0))
        seen = {**lengths, "source": self.encoder.stack.length(source)}
        return self.decoder.cost(vocab_size, seen) + encoder.scaled(share) + counted


def of_one_side(path: str) -> bool:
    """Return whether a choice may differ between encoder and decoder whose layers share their weights."""
    return path.startswith("cross") or "mask" in path.split(".") or path == "embedding.position.both_directions"


def of_side(side: str, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return losses under the names that they have beside those of the other side."""
    return {f"{side}_{name}": loss for name, loss in losses.items()}


def added(losses: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the sums of losses by name."""
    total: dict[str, Tensor] = {}
    for each in losses:
        total = {name: total[name] + loss if name in total else loss for name, loss in each.items()}
    return total


def mirrored(encoder: Transformer, position: Position, layers: int | None = None) -> EncoderDecoder:
    """Return the model whose decoder is the encoder made causal, with the same attention to the source as well.

    Args:
        encoder: its attention is `MultiHeadAttention`.
        position: the decoder's; relative positions look back only.
        layers: the number of the decoder's layers; None: as many as the encoder's.
    """
    own = encoder.attention
    assert isinstance(own, MultiHeadAttention)
    decoder = replace(
        encoder,
        layers=encoder.layers if layers is None else layers,
        attention=replace(own, mask=Causal()),
        cross=own,
        embedding=replace(encoder.embedding, position=position),
    )
    return EncoderDecoder(encoder=encoder, decoder=decoder)


class EncoderDecoderNetwork(Network):
    """The module of an `EncoderDecoder`."""

    task_modules: ClassVar[tuple[str, ...]] = ("decoder.pooler",)

    def __init__(self, choice: EncoderDecoder, vocab_size: int) -> None:
        super().__init__()
        self.hidden = choice.width
        self.encoder = cast("TransformerNetwork", choice.encoder.build(vocab_size))
        self.decoder = cast("TransformerNetwork", choice.decoder.build(vocab_size))
        if choice.shared != "nothing":
            self.decoder.embed.tokens = self.encoder.embed.tokens
        if choice.shared == "layers":
            for name, weight in self.encoder.named_parameters():
                module, _, own = name.rpartition(".")
                setattr(self.decoder.get_submodule(module), own, weight)

    @property
    def token_embedding(self) -> nn.Embedding:
        """The decoder's token embedding (V, E)."""
        return self.decoder.token_embedding

    @property
    def token_embeddings(self) -> tuple[nn.Module, ...]:
        """The token embeddings of encoder and decoder, which may be one."""
        both = self.encoder.token_embedding, self.decoder.token_embedding
        return both[:1] if both[0] is both[1] else both

    def forward(
        self, batch: Batch, *, layers: bool = False, cache: Cache | None = None, source_cache: Cache | None = None
    ) -> States:
        """Forward pass: return `tokens` (T, H), and `source` where the batch has one.

        Args:
            batch: the batch; without a source, keys and values of cross-attention are those of `source_cache`.
            layers: also return the hidden states of every layer of the decoder.
            cache: key-value cache of the decoder's self-attention: read, and extended by the batch.
            source_cache: key-value cache of cross-attention: written where the batch has a source, else read.
        """
        source: Source | None = None
        streams: dict[str, Tensor] = {}
        losses: dict[str, Tensor] = {}
        if (packed := batch.streams.get("source")) is not None:
            packed, place = self.encoder.after_prompt(packed)
            source, losses = self.encoded(packed)
            if source.packed is packed:
                streams["source"] = source.states if place is None else source.states.index_select(0, place)
        found: States = self.decoder(batch, layers=layers, source=source, cache=cache, source_cache=source_cache)
        losses = of_side("encoder", losses) | of_side("decoder", found.losses)
        return replace(found, streams={**found.streams, **streams}, losses=losses)

    def encoded(self, packed: Packed) -> tuple[Source, dict[str, Tensor]]:
        """Return the source that the decoder attends to, and the encoder's auxiliary losses.

        Of a long row of many sources, as prompts come, some are encoded at a time: a mask or a position bias over such
        a row would have its length squared.
        """
        whole = torch.is_grad_enabled() or packed.row_length <= MATH_LENGTH or packed.tokens < packed.ids.numel()
        if whole or packed.rows > 1 or self.encoder.choice.shortens:
            return self.source_of(packed)
        parts = [self.source_of(part) for part in packed.parts(MATH_LENGTH)]
        layers = zip(*(source.by_layer for source, _ in parts), strict=True)
        joined = Source(packed, torch.cat([source.states for source, _ in parts]), tuple(map(torch.cat, layers)))
        return joined, added(losses for _, losses in parts)

    def source_of(self, packed: Packed) -> tuple[Source, dict[str, Tensor]]:
        """Return the encoder's last states of packed sources, and its auxiliary losses."""
        states: States = self.encoder(Batch({"tokens": packed}, {}))
        return Source(self.encoder.shortened(packed), states["tokens"]), states.losses

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Return the number of real tokens for each auxiliary loss of encoder and decoder."""
        source = self.encoder.counts_of(batch.streams["source"]) if "source" in batch.streams else {}
        return of_side("encoder", source) | of_side("decoder", self.decoder.counts(batch))

    def adopted(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of another encoder-decoder, or those of one network for both sides."""
        sides = ("encoder.", "decoder.")
        if any(name.startswith(sides) for name in given):
            return dict(given)
        return {f"{side}{name}": tensor for side in sides for name, tensor in given.items()}

    def cache(self, entries: int, *, cross: bool = False, dtype: torch.dtype | None = None) -> Cache | None:
        """Return an empty key-value cache of the decoder; see `TransformerNetwork.cache`.

        There is none where a source has other states than one of each token.
        """
        if self.encoder.embed.prompt is not None or self.encoder.choice.shortens:
            return None
        return self.decoder.cache(entries, cross=cross, dtype=dtype)

    def ahead(self, stream: str) -> int:
        """Return the number of positions of the encoder's prompt, or of the decoder's prefix."""
        return (self.encoder if stream == "source" else self.decoder).ahead("tokens")

    def prefix_host(self) -> Network:
        """Return the decoder."""
        return self.decoder.prefix_host()

    def prompt_host(self) -> Network:
        """Return the encoder."""
        return self.encoder.prompt_host()

    def pool(self, hidden: Tensor) -> Tensor:
        """Return the decoder's pooled vectors (N, H)."""
        return self.decoder.pool(hidden)

    def layer_groups(self) -> list[nn.Module]:
        """Return the embeddings and each layer, the encoder's first, for layer-wise learning rates."""
        return [*self.encoder.layer_groups(), *self.decoder.layer_groups()]

    def compile_units(self) -> list[nn.Module]:
        """Return the embeddings and each layer of both."""
        return [*self.encoder.compile_units(), *self.decoder.compile_units()]
