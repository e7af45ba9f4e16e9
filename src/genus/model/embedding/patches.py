"""Embedding of images: patches, each by one linear map of its pixels, after a class token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genus.model.cost import ComponentCost, linear_cost
from genus.model.embedding import Embedding, EmbeddingModule
from genus.part import Count, Positive

if TYPE_CHECKING:
    from genus.batch import Packed
    from genus.model.cost import ExampleLengths
    from genus.model.initialization import Initialization

CHANNELS = 3
BRIGHTEST = 255.0


class PatchEmbedding(Embedding):
    """Embedding of images: norm(W x + position) for patches of pixels x, and norm(class + position) before them.

    Pixels are numbers from 0 to 255 of three colors: (pixel / 255 - mean) / std is what W is multiplied with.

    Source: Dosovitskiy et al. 2020, section 3.1; the norm: Radford et al. 2021, section 2.4.
    """

    patch: Count = 32
    """p, the side of a patch in pixels."""
    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """Of each color (released code of CLIP, clip.py)."""
    image_std: tuple[Positive, Positive, Positive] = (0.26862954, 0.26130258, 0.27577711)
    """Standard deviation of each color (released code of CLIP, clip.py)."""

    @property
    def pixels(self) -> int:
        """Numbers of a patch: 3 p²."""
        return CHANNELS * self.patch**2

    @property
    def in_words(self) -> str:
        """What is embedded, and the positions."""
        return f"patches of {self.patch} + {self.position.in_words}"

    def table(self, vocab_size: int, size: int) -> nn.Embedding:
        """Return the embedding of the only token that is no patch, the class token (1, E)."""
        return nn.Embedding(1, size)

    def build(self, vocab_size: int, hidden: int) -> PatchEmbeddingModule:
        """Return the module, from packed images to vectors (T, H), with H = `hidden`."""
        return PatchEmbeddingModule(self, vocab_size, hidden)

    def cost(self, vocab_size: int, hidden: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of the map, the class token, the positions and the norm."""
        return super().cost(1, hidden, lengths) + linear_cost(self.pixels, self.width(hidden), bias=False)


class PatchEmbeddingModule(EmbeddingModule):
    """The module of a `PatchEmbedding`."""

    def __init__(self, choice: PatchEmbedding, vocab_size: int, hidden: int) -> None:
        super().__init__(choice, vocab_size, hidden)
        self.mean, self.std = choice.image_mean, choice.image_std
        self.patches = nn.Linear(choice.pixels, choice.width(hidden), bias=False)

    def init_weights(self, initialization: Initialization) -> None:
        """Draw the map of patches as embeddings are drawn."""
        initialization.draw(self.patches.weight, "input")

    def looked_up(self, packed: Packed) -> Tensor:
        """Return W x (T, E) of patches, and the class token's vector elsewhere.

        Raises:
            ValueError: the tokens are those of a text.
        """
        if packed.pixels is None:
            raise ValueError("a network of images was given a text")
        kind = next(self.parameters()).dtype
        mean, std = (torch.tensor(one, dtype=kind, device=packed.pixels.device) for one in (self.mean, self.std))
        colors = packed.pixels.to(kind).view(len(packed.ids), CHANNELS, -1) / BRIGHTEST
        x_TE: Tensor = self.patches(((colors - mean[:, None]) / std[:, None]).flatten(1))
        of_class = self.tokens(torch.zeros_like(packed.ids))
        return torch.where(packed.ids[:, None] == 0, of_class.to(x_TE.dtype), x_TE)
