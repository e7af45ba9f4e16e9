"""What the later stations need to know of a tokenizer: sizes, special ids, word starts, and how segments are framed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The facts of a trained tokenizer, small enough to send to every loader worker; each equals itself only.

    `single` and `pair` are templates resolved to ids: each step is `(special id, None, segment)` for a special token or
    `(None, slot, segment)` for the text of slot 0 (`$A`) or 1 (`$B`).
    """

    size: int
    pad: int
    unk: int
    cls: int
    sep: int
    mask: int
    special: NDArray[np.bool_]
    """(V,) bool: ids that no corruption may choose or put in."""
    word_start: NDArray[np.bool_]
    """(V,) bool: ids that start a word."""
    single: tuple[tuple[int | None, int | None, int], ...]
    pair: tuple[tuple[int | None, int | None, int], ...]
    texts: tuple[str, ...] = ()
    """What each id reads as, without white space; the special ones as nothing."""
    counts: NDArray[np.int64] | None = None
    """(V,) how often each id occurs in the corpus; None: nobody has counted."""

    def framing(self, segments: int) -> int:
        """Return how many special tokens frame one segment or two."""
        return sum(special is not None for special, _, _ in (self.single if segments == 1 else self.pair))

    def whole(self, length: int) -> int:
        """Return where in a framed sequence of that length the token stands that stands for the whole of it.

        Most frames begin with `cls`; one that does not ends with it, as XLNet's.
        """
        return 0 if self.single[0][0] == self.cls else length - 1

    @property
    def segmented(self) -> bool:
        """Whether a frame gives any token another segment number than 0."""
        return any(segment for _, _, segment in (*self.single, *self.pair))

    @property
    def padding_side(self) -> str:
        """On which side of a sequence other libraries put padding: never where `cls` stands for the whole of it.

        A mark of a text's end that serves as `cls` besides, as in streams, leaves padding on the right.
        """
        return "left" if self.single[-1][0] == self.cls != self.sep else "right"

    def frame(self, *texts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Frame one segment or two with special tokens.

        Returns:
            ids (L,), segment numbers (L,), and fixed (L,) bool, true where a special token of the frame stands.
        """
        ids, segments, fixed = [], [], []
        for special, slot, segment in self.single if len(texts) == 1 else self.pair:
            piece = np.array([special], dtype=np.int64) if slot is None else texts[slot].astype(np.int64, copy=False)
            ids.append(piece)
            segments.append(np.full(len(piece), segment, dtype=np.int64))
            fixed.append(np.full(len(piece), slot is None))
        return np.concatenate(ids), np.concatenate(segments), np.concatenate(fixed)
