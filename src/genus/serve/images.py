"""Images as a model is served with them: vectors, classes told by texts, and cosines with texts.

Legend: N sequences, of a batch or of a part of it; E embedding size, at the input or at the output; M targets.
"""

from __future__ import annotations

import base64
import binascii
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import UsageError
from genus.images.decode import ImageError, size_of
from genus.serve.limits import NUMBER
from genus.serve.ticket import Refused, current
from genus.tasks.image_text import (
    ZeroShot,
    class_means,
    class_texts,
    image_length,
    image_rows,
    reads_images,
    scale_of,
    vectors_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from genus.examples import Example
    from genus.serve.served import Served

DECODED_AT_ONCE = 4
"""Images that are decoded at the same time: each of the largest takes about 150 MB."""
decoding = threading.BoundedSemaphore(DECODED_AT_ONCE)


def read_base64(image: str, number: int) -> bytes:
    """Return the bytes of an image that are given in base64, also as a data URL.

    Raises:
        UsageError: they are not.
    """
    if image.startswith(("http:", "https:")):
        raise UsageError(f"image {number}: addresses are not fetched; send the file in base64")
    _, _, data = image.partition(",") if image.startswith("data:") else ("", "", image)
    try:
        found = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise UsageError(f"image {number}: is no base64; send the bytes of a JPEG, PNG or WebP file so") from None
    if not found:
        raise UsageError(f"image {number}: is empty")
    return found


class Images:
    """What a model of images and texts answers of images; every method may be called by any thread."""

    def __init__(self, served: Served) -> None:
        """Take note of the model, which also has vectors of texts."""
        self.served = served
        self.there = reads_images(served.model) and bool(served.model.learner.heads)
        """Whether the model compares images with texts."""

    def embed(self, files: Sequence[bytes]) -> NDArray[np.float32]:
        """Return the unit vectors (N, E) of image files, of the square in the middle of each.

        Images of a request share forward passes; they are decoded in the request's own thread.

        Raises:
            Refused: the model reads no images, there are too many, or one is too large.
            UsageError: there is none.
            ImageError: one cannot be read.
        """
        self.served.need("see")
        length = self._take(files)
        model, limits, run = self.served.model, self.served.limits, self.served.run
        at_once, found = max(1, limits.batch_tokens // length), []
        for first in range(0, len(files), at_once):
            some = enumerate(files[first : first + at_once], first + 1)
            rows = replace(image_rows(model, ()), rows=[self._row(number, data) for number, data in some])
            found.append(self.served.inference.alone(partial(vectors_of, model, rows, run)))
            current.get().check()
        vectors = np.concatenate(found)
        self.served.bear(vectors.size * NUMBER)
        return vectors

    def compare(self, files: Sequence[bytes], texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the cosines (N, M) of images and texts.

        Raises:
            Refused: as `embed`.
            UsageError: there is no image, or no text.
            ImageError: an image cannot be read.
        """
        of_texts = self.served.embed(texts)
        return self.embed(files) @ of_texts.T

    def classify(self, files: Sequence[bytes], labels: Sequence[str], choice: ZeroShot) -> list[dict[str, float]]:
        """Return for each image the probability of each label, softmax over labels of s cos (zero-shot).

        A label's vector is the mean over the templates of the vectors of its texts.

        Raises:
            Refused: as `embed`.
            UsageError: there are fewer than two labels, or two are the same.
            ImageError: an image cannot be read.

        Source: Radford et al. 2021, section 3.1.2.
        """
        if len(labels) < 2 or len({*labels}) < len(labels):
            raise UsageError("labels: expected two or more, each once")
        classes_CE = class_means(self.served.embed(class_texts(labels, choice)), choice).numpy()
        logits = scale_of(self.served.model) * (self.embed(files) @ classes_CE.T).astype(np.float64)
        chances = np.exp(logits - logits.max(1, keepdims=True))
        chances /= chances.sum(1, keepdims=True)
        return [dict(zip(labels, row, strict=True)) for row in chances.tolist()]

    def _take(self, files: Sequence[bytes]) -> int:
        """Count images against the limits of a request, and return the tokens of each."""
        limits, length = self.served.limits, image_length(self.served.model)
        if not files:
            raise UsageError("there is no image; give one at least")
        if len(files) > limits.texts:
            raise Refused(413, f"{len(files):,} images in one request, of which it may have {limits.texts:,}")
        ticket = current.get()
        ticket.texts += len(files)
        ticket.tokens += len(files) * length
        if ticket.tokens > limits.tokens:
            raise Refused(413, f"{ticket.tokens:,} tokens in one request, of which it may have {limits.tokens:,}")
        ticket.check()
        return length

    def _row(self, number: int, data: bytes) -> list[Example]:
        """Return the row of an image file by its number, if it is not too large."""
        most = self.served.limits.image_pixels
        with decoding:
            current.get().check()
            try:
                width, height = size_of(data)
                if width * height > most:
                    raise Refused(413, f"image {number} has {width * height:,} pixels, of which it may have {most:,}")
                (row,) = image_rows(self.served.model, [data]).rows
            except ImageError as error:
                raise ImageError(f"image {number} {error}") from None
        return row
