"""Pairs of an image and a caption of it, in rows of two streams.

Legend: D documents.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np

from genus.errors import GenusError
from genus.examples import EpochPlan, Example, ExampleFormat, Sequence
from genus.images import decode, store
from genus.part import Count
from genus.text import TEXT, Corpus, Fields

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.examples import Limits
    from genus.examples.blocks import Documents
    from genus.images.store import ImageStore
    from genus.model import Model
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary

IMAGE = "image"
FOLDER = "images"
"""Name of the image store, beside the token store of its captions."""


def image_length(side: int, patch: int) -> int:
    """Return the tokens of an image: its patches and the class token."""
    return 1 + (side // patch) ** 2


class ImageCaptions(ExampleFormat):
    """An image, as its patches after a class token, and one of its captions, framed by its template.

    A caption that is longer than a row loses its end, the template's last token stays (released code of CLIP, clip.py,
    `tokenize`: truncate). The image is read when the objective asks for its pixels, at a place that it draws.
    """

    provides: ClassVar[frozenset[str]] = frozenset({IMAGE})
    streams: ClassVar[frozenset[str]] = frozenset({IMAGE, "tokens"})
    stochastic: ClassVar[bool] = False
    nothing: ClassVar[str] = "no caption has any text; look at the column that --field names"

    side: Count = 224
    """Pixels of each side of an image, as the model reads it."""
    patch: Count = 32
    """Pixels of each side of a patch."""
    broken: Literal["refuse", "skip"] = "refuse"
    """What is done with images that cannot be read, or have no caption: an error, or they are left out and counted."""

    def __post_init__(self) -> None:
        """Check that patches fill an image (ValueError)."""
        if self.side % self.patch:
            raise ValueError(f"examples.side: {self.side} pixels are no multiple of patches of {self.patch}")

    @property
    def length(self) -> int:
        """Tokens of an image."""
        return image_length(self.side, self.patch)

    def pixels(self, stream: str) -> int | None:
        """Return the numbers of a patch; None for captions."""
        return decode.CHANNELS * self.patch**2 if stream == IMAGE else None

    def for_model(self, model: Model) -> Self:
        """Return the format with patches and images of a model's size."""
        pixels, longest = model.pixels(IMAGE), model.max_length_of(IMAGE)
        if pixels is None or longest is None:
            return self
        patch = math.isqrt(pixels // decode.CHANNELS)
        return replace(self, patch=patch, side=patch * math.isqrt(longest - 1))

    def check_limits(self, limits: Limits) -> None:
        """Check that a row holds an image (ValueError)."""
        if limits[IMAGE] < self.length:
            raise ValueError(f"stages: image_length {limits[IMAGE]} is less than the {self.length} tokens of an image; "
                             f"take stages.0.image_length={self.length}")  # fmt: skip

    def texts_of(self, corpus: Corpus, folder: Path) -> Corpus:
        """Return the captions of images, whose store is made in the folder, or found there."""
        column = store.TEXT if corpus.fields.text == TEXT.text else corpus.fields.text
        found = store.prepare(corpus.sources, folder / FOLDER, column, self.side, skip=self.broken == "skip")
        return Corpus([found.captions], Fields(store.TEXT, kept=(store.NUMBER,), together=store.NUMBER))

    def left_out(self, store: Store, vocabulary: Vocabulary, limits: Limits) -> str:
        """Return a notice of the captions that lose their end."""
        first, last = _tokens(store, 0, len(store.documents))
        most = limits["tokens"] - vocabulary.framing(1)
        long = int((last - first > most).sum())
        if not long:
            return ""
        return f"{long:,} of {len(first):,} captions are longer than {limits['tokens']} tokens and lose their end"

    def plan(
        self, documents: Documents, store: Store, vocabulary: Vocabulary, limits: Limits, seed: int, epoch: int
    ) -> EpochPlan:
        """Return a caption for each example, without what does not fit.

        Raises:
            GenusError: the corpus has no images.
        """
        check_images(store, self, "images with captions")
        frame = vocabulary.framing(1)
        found = each(store, documents, limits["tokens"] - frame)
        lengths = {IMAGE: np.full(len(found.start), self.length), "tokens": found.stop - found.start + frame}
        return replace(found, lengths=lengths)

    def read(self, plan: EpochPlan, index: int, store: Store, vocabulary: Vocabulary) -> Example:
        """Return image and caption; the target of the pair is at the caption's summary token, labeled by the image."""
        caption = Sequence(*vocabulary.frame(plan.text(index, store)))
        number, images = image_of(store, int(plan.start[index])), images_of(store)
        whole = np.array([vocabulary.whole(len(caption.ids))])
        picture = self.sequence(partial(self.read_pixels, images, number))
        return Example({IMAGE: picture, "tokens": caption}, {IMAGE: (whole, np.array([number]))})

    def sequence(self, picture: partial[NDArray[np.uint8]]) -> Sequence:
        """Return the tokens of an image, whose pixels the function returns."""
        ids = np.minimum(np.arange(self.length), 1)
        return Sequence(ids, np.zeros_like(ids), np.ones(len(ids), dtype=np.bool_), picture=picture)

    def read_pixels(self, images: ImageStore, number: int, rng: np.random.Generator | None) -> NDArray[np.uint8]:
        """Return the pixels (L, pixels) of an image, 0 for its class token."""
        return self.patches(images[number], rng)

    def patches(self, data: bytes, rng: np.random.Generator | None = None) -> NDArray[np.uint8]:
        """Return the pixels (L, pixels) of an image file's square, at a random place with a generator."""
        square = decode.cropped(decode.resized(decode.decoded(data), self.side), self.side, rng)
        found = decode.patches(square, self.patch)
        return np.concatenate([np.zeros_like(found[:1]), found])


def check_images(store: Store, examples: ExampleFormat, what: str) -> None:
    """Check that a corpus has images (GenusError)."""
    if store.images is None:
        raise GenusError(f"{type(examples).__name__} needs images, and the corpus is text; name a table, a folder or "
                         f"shards of {what}")  # fmt: skip


def each(store: Store, documents: Documents, most: int | None = None, length: int = 0) -> EpochPlan:
    """Return a plan with an example of `length` tokens for each document, of whose text it has `most` tokens."""
    first, last = _tokens(store, documents.first, documents.last)
    number = len(first)
    return EpochPlan(
        offsets=np.arange(number + 1),
        start=first,
        stop=last if most is None else np.minimum(last, first + most),
        segment=np.zeros(number, dtype=np.int8),
        label=np.full(number, -1, dtype=np.int8),
        lengths={"tokens": np.full(number, length)},
    )


def images_of(captions: Store) -> ImageStore:
    """Return the image store beside a token store of captions.

    Raises:
        GenusError: there is none.
    """
    if captions.folder is None:
        raise GenusError("a store of captions in memory has no images beside it; prepare it in a folder")
    return store.opened(captions.folder.parent / FOLDER)


def image_of(captions: Store, start: int) -> int:
    """Return the number of the image whose caption begins with a token of the store."""
    assert captions.images is not None
    documents = range(len(captions.documents))
    at = bisect_right(documents, start, key=lambda one: int(captions.sentences[captions.documents[one, 0]])) - 1
    return int(captions.images[at])


def _tokens(store: Store, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (D,) the first token of some documents, and the one past the last."""
    begin, end = store.sentences[store.documents[first:last]].T
    return begin, end
