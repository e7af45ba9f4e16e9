"""The attention masks of DALL-E as one picture: which keys (across) each query (down) attends to.

    python benchmarks/image_masks.py docs/dall-e-masks.png

A text of 6 places and 4 x 4 codes as in figure 11 of the paper, then of 8 and 8 x 8; by row, by column, and
convolutional with a kernel of 3 and of 5. Dark: the query attends to the key; gray: text.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from genus.files import replacing
from genus.model.attention.image_masks import ColumnMask, ConvolutionMask, ImageMask, RowMask
from genus.model.attention.masks import Place
from genus.tasks.draw import png

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE = 264
"""Pixels of each mask."""
SEEN, TEXT, OTHER = (31, 58, 95), (130, 150, 175), (240, 240, 240)


def drawn(mask: ImageMask) -> NDArray[np.uint8]:
    """Return a mask as an image (S, S, 3)."""
    length = mask.text + mask.grid**2
    place = torch.arange(length)
    allowed = mask.allowed(Place(place[:, None]), Place(place[None]))
    assert allowed is not None
    of_text = (place[:, None] < mask.text) | (place[None] < mask.text)
    colors = np.where(allowed[..., None], np.where(of_text[..., None], TEXT, SEEN), OTHER).astype(np.uint8)
    scale = SIZE // length
    large = colors.repeat(scale, 0).repeat(scale, 1)
    for line in range(0, length + 1):
        large[min(line * scale, len(large) - 1)] = large[:, min(line * scale, len(large) - 1)] = 255
    framed = np.full((SIZE, SIZE, 3), 255, np.uint8)
    framed[: len(large), : len(large)] = large
    return framed


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return
    rows = []
    for text, grid, kernel in ((6, 4, 3), (8, 8, 5)):
        kinds = (RowMask(text=text, grid=grid), ColumnMask(text=text, grid=grid))
        masks = [*map(drawn, kinds), drawn(ConvolutionMask(text=text, grid=grid, kernel=kernel))]
        rows.append(np.concatenate(masks, axis=1))
    with replacing(Path(sys.argv[1])) as beside:
        beside.write_bytes(png(np.concatenate(rows)))


if __name__ == "__main__":
    main()
