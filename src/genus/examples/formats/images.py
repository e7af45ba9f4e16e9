"""Images alone, in rows of patches: what a model of images learns from without captions."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np

from genus.examples import EpochPlan, Example, ExampleFormat, Sequence
from genus.examples.formats.image_captions import FOLDER, check_images, each, image_of, images_of
from genus.images import decode, store
from genus.part import Count
from genus.text import Corpus, Fields

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.examples import Limits
    from genus.examples.blocks import Documents
    from genus.images.store import ImageStore
    from genus.model import Model
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


class Images(ExampleFormat):
    """An image as a sequence of patches, row by row, in the stream `tokens`; captions are not read.

    The image is read when the objective asks for its pixels, changed as it draws. The text of a run is the number of
    each image, of which no model reads a token.
    """

    stochastic: ClassVar[bool] = False
    nothing: ClassVar[str] = "there is no image"

    side: Count = 256
    """Pixels of each side of an image, as the model reads it."""
    patch: Count = 8
    """Pixels of each side of a patch."""
    broken: Literal["refuse", "skip"] = "refuse"
    """What is done with images that cannot be read: an error, or they are left out and counted."""

    def __post_init__(self) -> None:
        """Check that patches fill an image (ValueError)."""
        if self.side % self.patch:
            raise ValueError(f"examples.side: {self.side} pixels are no multiple of patches of {self.patch}")

    @property
    def length(self) -> int:
        """Patches of an image."""
        return (self.side // self.patch) ** 2

    def pixels(self, stream: str) -> int | None:
        """Return the numbers of a patch."""
        return decode.CHANNELS * self.patch**2

    def for_model(self, model: Model) -> Self:
        """Return the format with patches and images of a model's size."""
        pixels, longest = model.pixels("tokens"), model.max_length
        if pixels is None or longest is None:
            return self
        patch = math.isqrt(pixels // decode.CHANNELS)
        return replace(self, patch=patch, side=patch * math.isqrt(longest))

    def check_model(self, model: Model) -> None:
        """Check that an image has as many patches as the model reads (ValueError)."""
        if model.max_length != self.length:
            raise ValueError(f"examples: images of {self.side} pixels have {self.length} patches, the model reads "
                             f"{model.max_length}; set examples.side and the grid of the model alike")  # fmt: skip

    def check_limits(self, limits: Limits) -> None:
        """Check that a row holds an image (ValueError)."""
        if limits["tokens"] < self.length:
            raise ValueError(f"stages: max_length {limits['tokens']} is less than the {self.length} patches of an "
                             f"image; take stages.0.max_length={self.length}")  # fmt: skip

    def texts_of(self, corpus: Corpus, folder: Path) -> Corpus:
        """Return the numbers of images, whose store is made in the folder, or found there."""
        found = store.prepare(corpus.sources, folder / FOLDER, None, self.side, skip=self.broken == "skip")
        return Corpus([found.captions], Fields(store.TEXT, kept=(store.NUMBER,), together=store.NUMBER))

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Return an example for each image.

        Raises:
            GenusError: the corpus has no images.
        """
        check_images(store, self, "images")
        return each(store, documents, length=self.length)

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return an image that is not read yet."""
        number, images = image_of(store, int(plan.start[index])), images_of(store)
        ids = np.ones(self.length, dtype=np.int64)
        picture = partial(self.read_pixels, images, number)
        return Example({"tokens": Sequence(ids, 0 * ids, ids.astype(np.bool_), picture=picture)}, {})

    def read_pixels(self, images: ImageStore, number: int, rng: np.random.Generator | None) -> NDArray[np.uint8]:
        """Return the pixels (L, pixels) of an image of a store."""
        return self.patches(images[number], rng)

    def patches(self, data: bytes, rng: np.random.Generator | None = None) -> NDArray[np.uint8]:
        """Return the pixels (L, pixels) of an image file: its middle, or with a generator as `decode.augmented`."""
        image = decode.decoded(data)
        if rng is None:
            square = decode.cropped(decode.resized(image, self.side), self.side, None)
        else:
            square = decode.augmented(image, self.side, rng)
        return decode.patches(square, self.patch)
