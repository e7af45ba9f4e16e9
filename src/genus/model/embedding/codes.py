"""Embedding of a text and then of an image's codes, in one sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genus.model.cost import ComponentCost
from genus.model.embedding import Embedding, EmbeddingModule
from genus.model.position.grid import TextThenGrid
from genus.part import Count

if TYPE_CHECKING:
    from genus.batch import Packed
    from genus.model.cost import ExampleLengths


class TextThenCodes(Embedding):
    """Embedding of pieces below position `text`, of a padding of its own at each place there, and of codes after them.

    Below `text`, an id from V on stands for padding, of which every place has a vector. At position `text` an image
    starts, whatever the id; what follows are the codes themselves, 0 to `codes` - 1, each one place after its own: the
    state at position `text` + i, which has row and column of code i, is that from which code i is predicted.

    Source: Ramesh et al. 2021, section 2.2, and appendix B.1 with figure 10.
    """

    text: Count = 256
    """Positions of the text."""
    codes: Count = 8192
    """Size of the codebook."""

    @property
    def in_words(self) -> str:
        """The embeddings that are summed."""
        return f"{super().in_words}; codes ({self.codes:,})"

    def check(self, hidden: int) -> None:
        """Check that the positions have the same text (ValueError)."""
        if not isinstance(self.position, TextThenGrid) or self.position.text != self.text:
            raise ValueError(f"embedding.position: expected TextThenGrid with text={self.text}")

    def build(self, vocab_size: int, hidden: int) -> TextThenCodesModule:
        """Return the module, from packed sequences to vectors (T, H), with H = `hidden`."""
        return TextThenCodesModule(self, vocab_size, hidden)

    def cost(self, vocab_size: int, hidden: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of the tables and the norm."""
        own = (self.text + self.codes + 1) * self.width(hidden)
        return super().cost(vocab_size, hidden, lengths) + ComponentCost(parameters=own)


class TextThenCodesModule(EmbeddingModule):
    """The module of `TextThenCodes`."""

    def __init__(self, choice: TextThenCodes, vocab_size: int, hidden: int) -> None:
        super().__init__(choice, vocab_size, hidden)
        self.text, self.vocab_size, self.size = choice.text, vocab_size, choice.codes
        width = choice.width(hidden)
        self.paddings = nn.Embedding(choice.text, width)
        self.codes = nn.Embedding(choice.codes + 1, width)

    def looked_up(self, packed: Packed) -> Tensor:
        """Return the vectors (T, E) of pieces, paddings, the start of an image, and codes."""
        ids, place = packed.ids, packed.positions
        of_piece = self.tokens(ids.clamp(max=self.vocab_size - 1))
        of_padding = self.paddings(place.clamp(max=self.text - 1))
        of_text = torch.where((ids < self.vocab_size)[:, None], of_piece, of_padding)
        of_code = self.codes(torch.where(place == self.text, self.size, ids.clamp(max=self.size - 1)))
        return torch.where((place < self.text)[:, None], of_text, of_code)
