"""Masks of a text and then an image, as codes row by row: which earlier codes a code attends to.

They are rules on positions alone: below `text` a position is one of the text, from there on of the image.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from genus.model.attention.masks import AttentionMask
from genus.part import Count

if TYPE_CHECKING:
    from torch import Tensor

    from genus.model.attention.masks import Place


class ImageMask(AttentionMask):
    """A causal mask in which codes attend to all of the text and to some of the codes before them.

    The text attends to itself causally. An image has n x n codes, with n = `grid`, and i - j is how far back in that
    order code j lies from code i.

    Source: Ramesh et al. 2021, section 2.2 and appendix B.1 with figure 11; Child et al. 2019 (arXiv:1904.10509).
    """

    text: Count = 256
    """Positions of the text."""
    grid: Count = 32
    """n, codes of each side of an image."""

    @property
    def causal(self) -> bool:
        """True."""
        return True

    @abstractmethod
    def reaches(self, back: Tensor) -> Tensor:
        """Return whether a code attends to the one that lies so far back, 0 or more."""

    def allowed(self, query: Place, key: Place) -> Tensor | None:
        """Return the mask: no later position, and a position of the text or a code within reach."""
        back = query.position - key.position
        of_text = (query.position < self.text) | (key.position < self.text)
        return (back >= 0) & (of_text | self.reaches(back))


class RowMask(ImageMask):
    """Row attention: i - j <= n, back to the code above."""

    def reaches(self, back: Tensor) -> Tensor:
        """Return i - j <= n."""
        return back <= self.grid


class ColumnMask(ImageMask):
    """Column attention: i - j is a multiple of n, the codes above in the same column."""

    def reaches(self, back: Tensor) -> Tensor:
        """Return whether n divides i - j."""
        return back % self.grid == 0


class ConvolutionMask(ImageMask):
    """Convolutional attention: i - j = r n + c with 0 <= r <= h and |c| <= h, the upper half of a square around a code.

    h = (`kernel` - 1) / 2. As in row attention, what leaves a row goes on in the next (wrap-around).
    """

    kernel: Count = 11
    """Side of the square, an odd number (appendix B.1, figure 11: 11)."""

    def __post_init__(self) -> None:
        """Check that the square has a middle (ValueError)."""
        if self.kernel % 2 == 0:
            raise ValueError(f"mask.kernel: expected an odd number, got {self.kernel}")

    def reaches(self, back: Tensor) -> Tensor:
        """Return whether i - j is r n + c for some r and c."""
        half = self.kernel // 2
        found = back <= half
        for row in range(1, half + 1):
            found = found | ((back - row * self.grid).abs() <= half)
        return found
