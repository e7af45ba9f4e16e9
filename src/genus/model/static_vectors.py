"""Static word vectors: one vector for each token, whatever stands beside it (Mikolov et al. 2013; GloVe, fastText).

Legend: E embedding size, at the input or at the output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genus.model import Model, Network, States
from genus.model.embedding import Embedding
from genus.model.initialization import Glorot, Initialization, initialize
from genus.model.norm import Identity
from genus.model.position import NoPosition
from genus.part import Count

if TYPE_CHECKING:
    from genus.batch import Batch, Packed
    from genus.model.cost import ComponentCost, ExampleLengths

LOOKUP = Embedding(segments=0, position=NoPosition(), norm=Identity(), dropout=0.0)


class StaticVectors(Model):
    """Embedding lookup: the state of a token is its vector.

    The first token of a sequence, the `cls` of its template, has the mean of the vectors of all others as its state,
    or 0 where there are none. So what reads whole sequences reads the mean of the words, as does a mean of all states.
    """

    size: Count
    """E, the dimension of the vectors."""
    initialization: Initialization = Glorot(embedding_std=0.1)
    """Distribution of vectors that are not read, and of the weights of heads: ours."""

    @property
    def in_words(self) -> str:
        """The size."""
        return f"static vectors of {self.size}"

    @property
    def width(self) -> int:
        """E, the dimension of the states."""
        return self.size

    @property
    def max_length(self) -> int | None:
        """None: there are no positions."""
        return None

    def build(self, vocab_size: int) -> Network:
        """Return the network with initial weights."""
        return VectorLookup(self, vocab_size)

    def initialize(self, module: nn.Module) -> None:
        """Initialize the weights of a head from the model's distribution."""
        initialize(module, self.initialization)

    def cost(self, vocab_size: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the parameters of the table; a lookup and a mean have no multiplications that are counted."""
        return LOOKUP.cost(vocab_size, self.size, lengths)


class VectorLookup(Network):
    """The module of `StaticVectors`."""

    def __init__(self, choice: StaticVectors, vocab_size: int) -> None:
        super().__init__()
        self.hidden = choice.size
        self.embed = LOOKUP.build(vocab_size, choice.size)
        choice.initialize(self)

    @property
    def token_embedding(self) -> nn.Embedding:
        """The table (V, E)."""
        return self.embed.tokens

    def layer_groups(self) -> list[nn.Module]:
        """Return the table: there is no layer."""
        return [self.embed]

    def forward(self, batch: Batch, *, layers: bool = False) -> States:
        """Forward pass: return `tokens` (T, E), which are the only layer too."""
        x_TE = self.embed(batch.tokens)
        x_TE = torch.where(_first(batch.tokens)[:, None], _means(x_TE, batch.tokens), x_TE)
        return States({"tokens": x_TE}, layers=(x_TE,) if layers else None)


def _first(packed: Packed) -> Tensor:
    """Return (T,) bool, true at the first token of each sequence."""
    starts_T = packed.offsets[packed.sequence.clamp(min=0).long()]
    return (torch.arange(len(starts_T), device=starts_T.device) == starts_T) & (packed.sequence >= 0)


def _means(x_TE: Tensor, packed: Packed) -> Tensor:
    """Return (T, E) the mean of the vectors of a sequence's tokens but the first, for each of its tokens."""
    entry_T = packed.sequence.clamp(min=0).long()
    other_T = (packed.sequence >= 0) & ~_first(packed)
    given_TE = (x_TE * other_T[:, None]).to(torch.promote_types(x_TE.dtype, torch.float32))
    sums_JE = given_TE.new_zeros(len(packed.offsets) - 1, x_TE.shape[1]).index_add(0, entry_T, given_TE)
    means_JE = sums_JE / (packed.offsets.diff() - 1).clamp(min=1)[:, None]
    return means_JE[entry_T].to(x_TE.dtype)
