"""Images of captions: codes drawn one by one by a model of captions and codes, decoded to pixels, ranked by another.

Legend: N images, S pixels of a side, C codes of an image.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from genus.errors import GenusError, UsageError, say
from genus.examples.keys import generator
from genus.files import reason, replacing
from genus.generate.reader import Reader
from genus.images.decode import ImageError, decoded, pillow
from genus.objectives import evaluating
from genus.tasks.image_text import image_vectors, reads_images, text_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.examples.formats.captioned_codes import CaptionedCodes
    from genus.export.folder import LoadedModel
    from genus.export.starting.codes import Codebook
    from genus.generate.sampling import TokenByToken

DRAWS = 1 << 21
"""Purpose of the keys of draws: far from those of training and of texts."""
TOGETHER = 32
"""Images that are drawn together."""
BETWEEN, BACKGROUND = 2, 255
"""Pixels between the images of a picture, and their color."""


@dataclass(frozen=True)
class Drawing:
    """What was drawn for one caption: images (N, S, S, 3), their codes (N, C), and scores, best first, if ranked."""

    caption: str
    images: NDArray[np.uint8]
    codes: NDArray[np.int64]
    scores: tuple[float, ...] = ()


class Drawer:
    """Draws images for captions with one model, whose codes a discrete VAE decodes."""

    reader: type[Reader] = Reader

    def __init__(self, model: LoadedModel, codebook: Codebook, precision: str = "float32") -> None:
        """Prepare for captions.

        Raises:
            UsageError: the model draws no images, or learned the codes of another codebook.
        """
        if not model.recipe.examples.reads_codes:
            raise UsageError(f"{model.recipe.name} draws no images; take a model such as dall-e's")
        self.model, self.codebook, self.precision = model, codebook, precision
        self.examples = cast("CaptionedCodes", model.recipe.examples)
        codebook.check(self.examples)
        self.area = self.examples.grid**2

    def ids(self, captions: Sequence[str]) -> list[NDArray[np.int64]]:
        """Return the token ids of captions; what is too long loses its end, which is said."""
        vocabulary = self._tokenizer.vocabulary
        encoded = [np.array(one, np.int64) for one in self._tokenizer.encode(captions, specials=False)]
        most = self.examples.text - vocabulary.framing(1)
        if cut := sum(len(one) > most for one in encoded):
            say(f"{cut:,} of {len(encoded):,} captions are longer than {self.examples.text} tokens and lose their end")
        return encoded

    @property
    def _tokenizer(self) -> Any:
        return self.model.tokenizer.read_by(causal=True)

    def draw(
        self,
        captions: Sequence[str],
        count: int,
        decoding: TokenByToken,
        seed: int = 0,
        top: NDArray[np.int64] | None = None,
    ) -> Iterator[Drawing]:
        """Yield what is drawn for each caption.

        Draws are keyed by seed, caption and image, so that neither depends on how many others there are.

        Args:
            captions: the texts.
            count: images of each.
            decoding: how a code is chosen.
            seed: of all draws.
            top: the first codes of every image, row by row, which are given; None: none is.
        """
        given = np.zeros(0, np.int64) if top is None else top
        vocabulary = self._tokenizer.vocabulary
        for number, (caption, ids) in enumerate(zip(captions, self.ids(captions), strict=True)):
            prompt = self.examples.prompt(ids, given, vocabulary)
            codes: list[NDArray[np.int64]] = []
            for first in range(0, count, TOGETHER):
                images = range(first, min(count, first + TOGETHER))
                draws = [generator(seed, DRAWS, number, image) for image in images]
                drawn = self._codes(prompt, draws, decoding)
                codes.append(np.concatenate([np.tile(given, (len(images), 1)), drawn], 1))
            whole = np.concatenate(codes)
            yield Drawing(caption, self.codebook.pictures(whole), whole)

    def _codes(
        self, prompt: list[int], draws: Sequence[np.random.Generator], decoding: TokenByToken
    ) -> NDArray[np.int64]:
        """Return the codes (N, C) that follow a prompt, as many as its image lacks."""
        learner, size = self.model.learner, self.examples.length
        reader = self.reader(learner, self.model.recipe.model, size * len(draws), self.precision, ways=("image",))
        found: list[list[int]] = []
        for slot in range(len(draws)):
            reader.open(slot, size)
        new = dict.fromkeys(range(len(draws)), prompt)
        with evaluating(learner), torch.inference_mode():
            for _ in range(size - len(prompt) + 1):
                logits = reader.read(new)
                uniform = torch.tensor([one.random() for one in draws], dtype=torch.float64, device=logits.device)
                found.append(decoding.choose(logits.float(), uniform).tolist())
                new = {slot: [code] for slot, code in enumerate(found[-1])}
        return np.array(found, np.int64).T


def ranked(drawing: Drawing, ranker: LoadedModel) -> Drawing:
    """Return what was drawn, the image first whose vector has the largest cosine with the caption's.

    Source: Ramesh et al. 2021, section 2.6, with CLIP (Radford et al. 2021).

    Raises:
        UsageError: the ranker has no vectors of images and texts.
    """
    if not reads_images(ranker):
        raise UsageError(f"{ranker.recipe.name} has no vectors of images; take a model such as clip's")
    images = np.concatenate([*image_vectors(ranker, map(png, drawing.images))])
    scores = images @ text_vectors(ranker, [drawing.caption])[0]
    order = np.argsort(-scores, kind="stable")
    return Drawing(drawing.caption, drawing.images[order], drawing.codes[order], tuple(scores[order].tolist()))


def top_of(path: Path, codebook: Codebook, rows: int | None) -> NDArray[np.int64]:
    """Return the first codes of an image, of its upper half or of so many rows of codes.

    Raises:
        GenusError: the image cannot be read.
        UsageError: it has another size than those of the discrete VAE, or the rows are none of its.
    """
    side, grid = codebook.choice.side, codebook.choice.grid
    kept = grid // 2 if rows is None else rows
    if not 1 <= kept < grid:
        raise UsageError(f"--keep: expected 1 to {grid - 1} rows of codes, of which an image has {grid}, got {kept}")
    try:
        image = decoded(path.read_bytes())
    except OSError as error:
        raise GenusError(f"{path}: cannot be read: {reason(error)}") from None
    except ImageError as error:
        raise GenusError(f"{path}: {error}") from None
    if image.size != (side, side):
        width, height = image.size
        raise UsageError(f"{path}: is {width} x {height} pixels, and the discrete VAE reads {side} x {side}; resize it")
    (codes,) = codebook.encode([np.asarray(image)])
    return codes[0, : kept * grid]


def png(image: NDArray[np.uint8]) -> bytes:
    """Return an image (S, S, 3) as the bytes of a PNG file."""
    held = io.BytesIO()
    pillow().fromarray(image).save(held, format="PNG")
    return held.getvalue()


def picture(rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return one image of rows of images (N, S, S, 3), a row each."""
    side, most = rows[0].shape[1], max(map(len, rows))
    step = side + BETWEEN
    canvas = np.full((len(rows) * step - BETWEEN, most * step - BETWEEN, 3), BACKGROUND, np.uint8)
    for number, row in enumerate(rows):
        for place, image in enumerate(row):
            canvas[number * step : number * step + side, place * step : place * step + side] = image
    return canvas


def write(path: Path, rows: Sequence[NDArray[np.uint8]]) -> None:
    """Write one PNG of rows of images, beside the old file and renamed.

    Raises:
        GenusError: it cannot be written.
    """
    with replacing(path) as beside:
        beside.write_bytes(png(picture(rows)))
