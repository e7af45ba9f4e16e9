"""Images as CLIP reads them: decoded, resized by their shorter side, cropped to a square, cut into patches.

Legend: S side of the square, p side of a patch.

Source: released code, clip.py, `_transform`; training crops: Radford et al. 2021, section 2.3. Deviation: colors become
RGB before an image is resized and not after it, as in transformers' CLIPImageProcessor; of RGB both are equal.
"""

from __future__ import annotations

import io
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.errors import GenusError, library
from genus.files import reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

CHANNELS = 3
LARGEST = 89_478_485
"""Most pixels of an image, encoded or resized: Pillow's limit, above which it warns of a decompression bomb."""
OF_16_BITS = 257
"""What a 16-bit number is divided by, so that 65,535 becomes 255."""


class ImageError(GenusError):
    """An image that cannot be read; the message says why, and whoever knows the image's name puts it in front."""


def pillow() -> Any:
    """Return the module `PIL.Image`.

    Raises:
        GenusError: Pillow is missing.
    """
    return library("PIL.Image", "reading images", "images")


def decoded(data: bytes) -> Any:
    """Return the image of a file's bytes in RGB: of animations the first frame, of 16 bits the upper 8.

    Raises:
        ImageError: it cannot be decoded, has too many pixels, or numbers of an unknown range.
    """
    with _opened(data) as image:
        image.load()
        return _rgb(image)


def size_of(data: bytes) -> tuple[int, int]:
    """Return width and height of a file's image, of which only the beginning is read.

    Raises:
        ImageError: it is of no known format, or has too many pixels.
    """
    with _opened(data) as image:
        width, height = image.size
        return width, height


@contextmanager
def _opened(data: bytes) -> Iterator[Any]:
    """Context manager: the image of a file's bytes, before it is decoded; what fails becomes an `ImageError`."""
    module = pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata and palettes
        warnings.simplefilter("error", module.DecompressionBombWarning)
        try:
            yield module.open(io.BytesIO(data))
        except ImageError:
            raise
        except (module.DecompressionBombWarning, module.DecompressionBombError):
            raise ImageError(f"has more than {LARGEST:,} pixels, which may be a decompression bomb") from None
        except Exception as error:  # what decoders of many formats raise has no narrower class
            raise ImageError(f"cannot be decoded ({reason(error)})") from None


def _rgb(image: Any) -> Any:
    if image.mode == "F":
        raise ImageError("has floating-point numbers, whose range is unknown; convert it to 8 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64) / OF_16_BITS
        image = pillow().fromarray(np.clip(values.round(), 0, 255).astype(np.uint8))
    return image.convert("RGB")


def resized(image: Any, side: int) -> Any:
    """Return an image whose shorter side has `side` pixels, by bicubic interpolation.

    Raises:
        ImageError: it would have too many pixels.
    """
    width, height = image.size
    shape = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    if shape[0] * shape[1] > LARGEST:
        raise ImageError(f"is {width:,} x {height:,} pixels, too narrow to be cut to a square of {side}")
    return image.resize(shape, pillow().Resampling.BICUBIC)


def cropped(image: Any, side: int, rng: np.random.Generator | None) -> NDArray[np.uint8]:
    """Return the square (S, S, 3) in the middle of a resized image, or with a generator one at a random place."""
    pixels = np.asarray(image)
    spare = [length - side for length in pixels.shape[:2]]
    top, left = (round(one / 2) if rng is None else int(rng.integers(one + 1)) for one in spare)
    return pixels[top : top + side, left : left + side]


def patches(square: NDArray[np.uint8], patch: int) -> NDArray[np.uint8]:
    """Return the patches ((S / p)², 3 p p) of a square (S, S, 3), row by row, each as channels of rows of pixels."""
    grid = len(square) // patch
    cut = square.reshape(grid, patch, grid, patch, CHANNELS)
    return cut.transpose(0, 2, 4, 1, 3).reshape(grid * grid, CHANNELS * patch * patch)


SMALLEST, LARGEST_SCALE = 9 / 8, 12 / 8
"""Sides of an image, over those of the square that is cut from it (Ramesh et al. 2021, listing 1)."""


def augmented(image: Any, side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a square (S, S, 3) of an image, at a random place and of a random size.

    A square of the shorter side, at a random place, is resized to 9/8 to 12/8 of S, no larger than it is but at least
    S, and a square of S is cut from a random place of that.

    Source: Ramesh et al. 2021, listing 1, without the last line, which flips half of the images.
    """
    shorter = min(image.size)
    left, top = (int(rng.integers(length - shorter + 1)) for length in image.size)
    least, most = (min(shorter, round(scale * side)) for scale in (SMALLEST, LARGEST_SCALE))
    size = max(side, int(rng.integers(least, most + 1)))
    box = (left, top, left + shorter, top + shorter)
    method = pillow().Resampling.BOX if size <= shorter else pillow().Resampling.BICUBIC
    return cropped(image.resize((size, size), method, box=box), side, rng)
