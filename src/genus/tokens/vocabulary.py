"""What the later stations need to know of a tokenizer: sizes, special ids, word starts, and how segments are framed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Template = tuple[tuple[int | None, int | None, int], ...]
"""The steps of a template: `(special id, None, segment)`, or `(None, 0 or 1, segment)` for the first or second text."""


class Frames(Protocol):
    """How many special tokens the templates add, known of a vocabulary and of the choice of its special tokens."""

    def framing(self, segments: int) -> int:
        """Return how many special tokens frame one segment or two."""

    @property
    def target_framing(self) -> int:
        """How many special tokens frame the second stream of a pair of streams."""


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The facts of a trained tokenizer, small enough to send to every loader worker; each equals itself only.

    `single`, `pair` and `target` are the templates of `SpecialTokens`, resolved to ids.
    """

    size: int
    roles: Mapping[str, int]
    """The ids of the special tokens that are there, by role (`pad`, `unk`, `bos`, `eos`, `cls`, `sep`, `mask`)."""
    special: NDArray[np.bool_]
    """(V,) bool: ids that no corruption may choose or put in."""
    word_start: NDArray[np.bool_]
    """(V,) bool: ids that start a word."""
    single: Template
    pair: Template
    target: Template | None = None
    """How the second stream of a pair of streams is framed; None: as `single`."""
    summary: Literal["first", "last"] = "first"
    """Which token of a framed sequence has the state for all of it."""
    texts: tuple[str, ...] = ()
    """What each id reads as, without white space; the special ones as nothing."""
    counts: NDArray[np.int64] | None = None
    """(V,) how often each id occurs in the corpus; None: nobody has counted."""
    extra: Mapping[str, int] = field(default_factory=dict)
    """The ids of further special tokens by name, in the order of `SpecialTokens.extra`: sentinels, control codes."""

    def id(self, role: str) -> int:
        """Return the id of the special token of a role.

        Raises:
            GenusError: the vocabulary has none.
        """
        if role not in self.roles:
            raise GenusError(
                f"the vocabulary has no {role} token; name it as {role}_token in special_tokens_map.json, "
                f"or as tokens.specials.{role} before the tokenizer is trained"
            )
        return self.roles[role]

    @property
    def pad(self) -> int:
        """The id in padding entries: without a `pad` token 0, since nothing looks at the padding of a packed model."""
        return self.roles.get("pad", 0)

    @property
    def unk(self) -> int:
        """The id of `unk`; GenusError where there is none."""
        return self.id("unk")

    @property
    def cls(self) -> int:
        """The id of `cls`; GenusError where there is none."""
        return self.id("cls")

    @property
    def sep(self) -> int:
        """The id that stands between documents and at their ends: of `sep`, or of `eos` where there is no `sep`."""
        return self.roles["eos"] if "sep" not in self.roles and "eos" in self.roles else self.id("sep")

    @property
    def mask(self) -> int:
        """The id of `mask`; GenusError where there is none."""
        return self.id("mask")

    def framing(self, segments: int) -> int:
        """Return how many special tokens frame one segment or two."""
        return sum(special is not None for special, _, _ in (self.single if segments == 1 else self.pair))

    @property
    def target_framing(self) -> int:
        """How many special tokens frame the second stream of a pair of streams."""
        return sum(special is not None for special, _, _ in self.target or self.single)

    def whole(self, length: int) -> int:
        """Return where in a framed sequence of that length the token stands whose state is for the whole of it."""
        return 0 if self.summary == "first" else length - 1

    @property
    def segmented(self) -> bool:
        """Whether a frame gives any token another segment number than 0."""
        return any(segment for _, _, segment in (*self.single, *self.pair))

    @property
    def padding_side(self) -> str:
        """On which side of a sequence other libraries put padding: never where `cls` stands for the whole of it.

        A mark of a text's end that serves as `cls` besides, as in streams, leaves padding on the right.
        """
        cls, end = self.roles.get("cls"), self.single[-1][0]
        return "left" if end is not None and end == cls != self.roles.get("sep") else "right"

    def frame(self, *texts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Frame one segment or two with special tokens.

        Returns:
            ids (L,), segment numbers (L,), and fixed (L,) bool, true where a special token of the frame stands.
        """
        return _framed(self.single if len(texts) == 1 else self.pair, texts)

    def frame_target(self, text: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Frame the text of the second stream of a pair of streams; returns what `frame` does."""
        return _framed(self.target or self.single, (text,))


def _framed(
    template: Template, texts: tuple[NDArray[np.int64], ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    ids, segments, fixed = [], [], []
    for special, slot, segment in template:
        piece = np.array([special], dtype=np.int64) if slot is None else texts[slot].astype(np.int64, copy=False)
        ids.append(piece)
        segments.append(np.full(len(piece), segment, dtype=np.int64))
        fixed.append(np.full(len(piece), slot is None))
    return np.concatenate(ids), np.concatenate(segments), np.concatenate(fixed)
