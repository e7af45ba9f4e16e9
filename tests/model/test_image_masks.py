"""Row, column and convolutional attention against the paper's words and figure 11, place by place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from genus import catalog
from genus.model.attention.image_masks import ColumnMask, ConvolutionMask, ImageMask, RowMask
from genus.model.attention.masks import Place

if TYPE_CHECKING:
    from collections.abc import Callable


def row(text: int, grid: int) -> ImageMask:
    return RowMask(text=text, grid=grid)


def column(text: int, grid: int) -> ImageMask:
    return ColumnMask(text=text, grid=grid)


def convolution(text: int, grid: int) -> ImageMask:
    return ConvolutionMask(text=text, grid=grid, kernel=3 if grid == 4 else 5)


def codes_of_row(code: int, grid: int) -> set[int]:
    """As many codes as a row has and one, itself the first: the last is above it (figure 11, a)."""
    return {code - back for back in range(grid + 1)}


def codes_of_column(code: int, grid: int) -> set[int]:
    """Those of its column, down to its own row (figure 11, b)."""
    return {above * grid + code % grid for above in range(code // grid + 1)}


def codes_of_convolution(code: int, grid: int) -> set[int]:
    """A square around it, whose rows go on in the next ones where the image ends (figure 11, d)."""
    half = 1 if grid == 4 else 2
    return {
        code - above * grid + beside
        for above in range(half + 1)
        for beside in range(-half, half + 1)
        if code - above * grid + beside <= code
    }


def slow(codes: Callable[[int, int], set[int]], text: int, grid: int) -> list[list[bool]]:
    """Return the mask by places: text sees text before it, codes see all of it and some codes."""
    length = text + grid * grid
    found = [[False] * length for _ in range(length)]
    for query in range(length):
        for key in range(query + 1):
            of_text = query < text or key < text
            found[query][key] = of_text or key - text in codes(query - text, grid)
    return found


KINDS = [(row, codes_of_row), (column, codes_of_column), (convolution, codes_of_convolution)]


@pytest.mark.parametrize("grid", [4, 6])
@pytest.mark.parametrize(("made", "codes"), KINDS, ids=["row", "column", "convolution"])
def test_masks_are_those_of_the_paper(made: Any, codes: Any, grid: int) -> None:
    """Figure 11 has a text of 6 and 4 x 4 codes, and a kernel of 3."""
    text = 6
    place = torch.arange(text + grid * grid)
    found = made(text, grid).allowed(Place(place[:, None]), Place(place[None]))
    assert found.tolist() == slow(codes, text, grid)


def test_figure_11_in_numbers() -> None:
    """Mask (a): five codes, itself among them; mask (d), 3 x 3: five codes, wrapped around."""
    place = torch.arange(6 + 16)
    last = Place(place[-1:, None]), Place(place[None])
    seen: Any = {}
    for made, _ in KINDS:
        allowed: Any = made(6, 4).allowed(*last)
        seen[made] = allowed[0, 6:].nonzero()[:, 0].tolist()
    assert seen[row] == [11, 12, 13, 14, 15]
    assert seen[column] == [3, 7, 11, 15]
    assert seen[convolution] == [10, 11, 12, 14, 15]


def test_a_kernel_wider_than_the_image_sees_all_before_it() -> None:
    """11 x 11 over 4 x 4 codes."""
    place = torch.arange(6 + 16)
    found = ConvolutionMask(text=6, grid=4).allowed(Place(place[:, None]), Place(place[None]))
    assert found is not None
    assert found.tolist() == (place[None] <= place[:, None]).tolist()


def test_layers_have_the_published_order() -> None:
    """Appendix B.1: column if i - 2 is a multiple of 4, i from 1 to 63, else row; the last is convolutional."""
    attention: Any = catalog.load("dall-e/12b").model
    kinds = [type(attention.attention.of_layer(number).mask) for number in range(64)]
    assert kinds[:4] == [RowMask, ColumnMask, RowMask, RowMask]
    assert kinds == [ColumnMask if (i - 2) % 4 == 0 else RowMask for i in range(1, 64)] + [ConvolutionMask]


def test_a_kernel_has_a_middle() -> None:
    with pytest.raises(ValueError, match="odd"):
        ConvolutionMask(kernel=4)
