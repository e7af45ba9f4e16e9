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
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
"""Mean and standard deviation of each color in CLIP's training data (released code, clip.py, `_transform`)."""


def standardized(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...], kind: torch.dtype) -> Tensor:
    """Return (pixel / 255 - mean) / std of patches (..., 3 p p), whose numbers are those of each color in turn."""
    center, spread = (torch.tensor(one, dtype=kind, device=pixels.device)[:, None] for one in (mean, std))
    colors = pixels.to(kind).view(*pixels.shape[:-1], CHANNELS, -1) / BRIGHTEST
    return ((colors - center) / spread).flatten(-2)


class PatchEmbedding(Embedding):
    """Embedding of images: norm(W x + position) for patches of pixels x, and norm(class + position) before them.

    Pixels are numbers from 0 to 255 of three colors: (pixel / 255 - mean) / std is what W is multiplied with.

    Source: Dosovitskiy et al. 2020, section 3.1; the norm: Radford et al. 2021, section 2.4.
    """

    patch: Count = 32
    """p, the side of a patch in pixels."""
    image_mean: tuple[float, float, float] = IMAGE_MEAN
    """Of each color."""
    image_std: tuple[Positive, Positive, Positive] = IMAGE_STD
    """Standard deviation of each color."""

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
        x_TE: Tensor = self.patches(standardized(packed.pixels, self.mean, self.std, kind))
        of_class = self.tokens(torch.zeros_like(packed.ids))
        return torch.where(packed.ids[:, None] == 0, of_class.to(x_TE.dtype), x_TE)
