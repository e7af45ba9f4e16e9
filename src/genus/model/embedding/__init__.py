"""Input embeddings: the sum of token, segment and position embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from genus.model.cost import ComponentCost
from genus.model.norm import LayerNorm, Norm
from genus.model.position import Position
from genus.model.position.learned import LearnedPosition
from genus.part import Fraction, Natural, Part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genus.batch import Packed
    from genus.model.cost import ExampleLengths
    from genus.model.split import Split


class Embedding(Part):
    """Input embedding: dropout(norm(token + segment + position)) (BERT, section 3 and figure 2)."""

    segments: Natural = 2
    """Number of segment embeddings; 0 for none."""
    position: Position = LearnedPosition()
    norm: Norm = LayerNorm()
    dropout: Fraction = 0.1

    @property
    def in_words(self) -> str:
        """The embeddings that are summed."""
        summed = ["token", *(["segment"] if self.segments > 1 else []), self.position.in_words]
        return " + ".join(part for part in summed if part)

    @property
    def facts(self) -> frozenset[str]:
        """Names of the facts per token (`Packed.facts`) that have embeddings."""
        return frozenset({"segment"} if self.segments else ())

    @property
    def pixels(self) -> int | None:
        """Numbers of a patch, where tokens are patches of images; None: they have ids."""
        return None

    @property
    def num_tasks(self) -> int | None:
        """Number of task embeddings; None: the embedding does not depend on the task."""
        return None

    def width(self, hidden: int) -> int:
        """Return E, the dimension of the embedding tables: here H."""
        return hidden

    def table(self, vocab_size: int, size: int) -> nn.Embedding:
        """Return the token embedding (V, E)."""
        return nn.Embedding(vocab_size, size)

    def table_parameters(self, vocab_size: int, hidden: int) -> int:
        """Return the number of parameters of the token embedding."""
        return vocab_size * self.width(hidden)

    def build(self, vocab_size: int, hidden: int) -> EmbeddingModule:
        """Return the module, from packed sequences to vectors (T, H), with H = `hidden`."""
        return EmbeddingModule(self, vocab_size, hidden)

    def check(self, hidden: int) -> None:
        """Check that the embedding fits a model of this size (ValueError)."""
        return

    def continuing(self, source: Embedding) -> Embedding:
        """Return the embedding of a model that starts from the weights of one with the embedding `source`."""
        return source

    def cost(self, vocab_size: int, hidden: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of the tables and the norm."""
        size = self.width(hidden)
        return ComponentCost((vocab_size + self.segments) * size) + self.position.cost(size) + self.norm.cost(size)


class EmbeddingModule(nn.Module):
    """The module of an `Embedding`."""

    def __init__(self, choice: Embedding, vocab_size: int, hidden: int) -> None:
        super().__init__()
        size = choice.width(hidden)
        self.tokens = choice.table(vocab_size, size)
        self.segments = nn.Embedding(choice.segments, size) if choice.segments else None
        self.positions = choice.position.build(size)
        self.norm = choice.norm.build(size)
        self.dropout = nn.Dropout(choice.dropout)
        self.prompt: nn.Module | None = None
        """Trained vectors in front of the text (`PromptVectors`); None: there are none."""

    def shardings(self) -> Mapping[str, Split | int]:
        """Return the split by tokens; a table of several parts, such as that of adaptive embeddings, stays whole."""
        return {"tokens": "vocabulary"} if isinstance(self.tokens, nn.Embedding) else {}

    def forward(self, packed: Packed) -> Tensor:
        """Forward pass: return embeddings (T, H) of packed sequences; here E = H."""
        return self.vectors(packed)

    def vectors(self, packed: Packed) -> Tensor:
        """Return normalized embeddings (T, E) before any projection, which another network may share."""
        return self.dropout(self.norm(self.total(packed)))  # type: ignore[no-any-return]

    def looked_up(self, packed: Packed) -> Tensor:
        """Return the token embeddings (T, E)."""
        return self.tokens(packed.ids)  # type: ignore[no-any-return]

    def total(self, packed: Packed) -> Tensor:
        """Return the sum of the embeddings (T, E), before norm and dropout."""
        x_TE: Tensor = self.looked_up(packed)
        if self.prompt is not None:
            x_TE = self.prompt(x_TE, packed)
        x_TE = x_TE + self.positions(packed.positions).to(x_TE.dtype)
        return x_TE if self.segments is None else x_TE + self.segments(packed.facts["segment"])
