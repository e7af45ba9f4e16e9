"""Embeddings that an encoder of its own makes of the tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from genus.batch import Batch
from genus.model.embedding import Embedding, EmbeddingModule
from genus.model.transformer import Transformer  # a choice is read by its annotation

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genus.batch import Packed
    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.model.transformer import TransformerNetwork


class EncodedEmbedding(Embedding):
    """Embedding by another encoder: dropout(norm(encoder(tokens) + segment + position)).

    The encoder has a token table of its own. It learns to read one language for a pretrained model of another: its
    states take the place of the token embeddings that the model was pretrained with.

    Source: Lewis et al. 2019, section 3.4 (BART's machine translation).
    """

    encoder: Transformer
    """Reads the tokens; its states are as wide as the embedding."""

    def check(self, hidden: int) -> None:
        """Check that the encoder's states fit (ValueError)."""
        if self.encoder.width != hidden:
            raise ValueError(f"embedding.encoder.hidden: its states are added to positions of {hidden} dimensions; set "
                             f"it to {hidden}, not {self.encoder.width}")  # fmt: skip
        if self.encoder.cross is not None or self.encoder.causal:
            raise ValueError("embedding.encoder: it reads the tokens, whole; take an encoder")
        if self.encoder.shortens:
            raise ValueError("embedding.encoder: it gives a state of each token; take a stack that shortens nothing")

    @property
    def in_words(self) -> str:
        """The embeddings that are summed, the first of them an encoder's states."""
        return super().in_words.replace("token", f"states of an {self.encoder.in_words}", 1)

    @property
    def facts(self) -> frozenset[str]:
        """Names of the facts per token that the encoder reads, and that have embeddings."""
        return super().facts | self.encoder.facts

    def continuing(self, source: Embedding) -> Embedding:
        """Return this encoder with all else of the source's embedding."""
        return replace(
            self, segments=source.segments, position=source.position, norm=source.norm, dropout=source.dropout
        )

    def build(self, vocab_size: int, hidden: int) -> EncodedEmbeddingModule:
        """Return the module, from packed sequences to vectors (T, H), with H = `hidden`."""
        return EncodedEmbeddingModule(self, vocab_size, hidden)

    def cost(self, vocab_size: int, hidden: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of the encoder, the other tables and the norm."""
        return super().cost(0, hidden, lengths) + self.encoder.cost(vocab_size, {"tokens": lengths["tokens"]})


class EncodedEmbeddingModule(EmbeddingModule):
    """The module of an `EncodedEmbedding`."""

    def __init__(self, choice: EncodedEmbedding, vocab_size: int, hidden: int) -> None:
        super().__init__(choice, 1, hidden)
        del self.tokens
        self.encoder = cast("TransformerNetwork", choice.encoder.build(vocab_size))

    def __getattr__(self, name: str) -> nn.Module | Tensor:
        """Return the encoder's token embedding as this one's."""
        return self.encoder.token_embedding if name == "tokens" else super().__getattr__(name)

    def looked_up(self, packed: Packed) -> Tensor:
        """Return the encoder's states (T, E)."""
        return self.encoder(Batch({"tokens": packed}, {}))["tokens"]  # type: ignore[no-any-return]
