"""The vocabulary of a tokenizer for later stations: size, special token ids, word starts and templates."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from genus.tokens.merges import Merges

Template = tuple[tuple[int | None, int | None, int], ...]
"""The steps of a template: `(special id, None, segment)`, or `(None, 0 or 1, segment)` for the first or second text."""


SENTINEL = re.compile(r"<extra_id_(\d+)>")
"""Names of sentinels, as in T5's vocabulary."""
MOST_UNKNOWN = 0.02
"""Share of unknown tokens in a corpus above which it is said."""


def sentinels_of(extra: Iterable[str]) -> tuple[str, ...]:
    """Return those of the further special tokens that are named as sentinels, in their order; all, if none is."""
    extra = tuple(extra)
    named = {int(found[1]): name for name in extra if (found := SENTINEL.fullmatch(name))}
    return tuple(name for _, name in sorted(named.items())) or extra


def unknown_share(unknown: int, tokens: int) -> str:
    """Return a notice of the share of unknown tokens in a corpus, and of what to do."""
    return (
        f"{unknown / tokens:.0%} of the tokens are unknown (rare characters, or words of over 100 letters): train the "
        "tokenizer on this text with a larger tokens.alphabet or tokens.vocab_size, or take one of bytes, as roberta's"
    )


class Frames(Protocol):
    """How many special tokens the templates add, known of a vocabulary and of the choice of its special tokens."""

    def framing(self, segments: int) -> int:
        """Return how many special tokens frame one segment or two."""

    @property
    def target_framing(self) -> int:
        """How many special tokens frame the second stream of a pair of streams."""

    @property
    def target_start(self) -> int:
        """How many of these stand before it."""


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The vocabulary of a trained tokenizer, small enough to send to every loader worker; compared by identity.

    `single`, `pair` and `target` are the templates of `SpecialTokens`, with special tokens as ids.
    """

    size: int
    roles: Mapping[str, int]
    """Ids of the special tokens by role (`pad`, `unk`, `bos`, `eos`, `cls`, `sep`, `mask`), each optional."""
    special: NDArray[np.bool_]
    """(V,) special tokens: ids that corruption may neither select nor insert."""
    word_start: NDArray[np.bool_]
    """(V,) ids that start a word."""
    single: Template
    pair: Template
    target: Template | None = None
    """Template of the second stream of a pair of streams; None: as `single`."""
    summary: Literal["first", "last"] = "first"
    """Token whose hidden state represents the whole sequence."""
    texts: tuple[str, ...] = ()
    """Decoded text of each id, without white space; empty for special tokens."""
    counts: NDArray[np.int64] | None = None
    """(V,) number of occurrences of each id in the corpus; None: not counted."""
    extra: Mapping[str, int] = field(default_factory=dict)
    """The ids of further special tokens by name, in the order of `SpecialTokens.extra`: sentinels, control codes."""
    sentinel_ids: tuple[int, ...] | None = None
    """The ids of the pieces that stand for hidden spans, in their order; None: they are among `extra`."""
    merges: Merges | None = None
    """The merges of a BPE vocabulary, for dropout; None: nobody asked for them."""

    def id(self, role: str) -> int:
        """Return the id of the special token of a role.

        Raises:
            GenusError: the vocabulary has no token of this role.
        """
        if role not in self.roles:
            raise GenusError(
                f"the vocabulary has no {role} token; name it as {role}_token in special_tokens_map.json, "
                f"or as tokens.special_tokens.{role} before the tokenizer is trained"
            )
        return self.roles[role]

    @property
    def pad(self) -> int:
        """The padding id; 0 without a `pad` token, since packed models do not attend to padding."""
        return self.roles.get("pad", 0)

    @property
    def unk(self) -> int:
        """The id of `unk`; GenusError if there is none."""
        return self.id("unk")

    @property
    def cls(self) -> int:
        """The id of `cls`; GenusError if there is none."""
        return self.id("cls")

    @property
    def sep(self) -> int:
        """The id that separates and ends documents: that of `sep`, or of `eos` if there is no `sep`."""
        return self.id("sep") if self.end is None else self.end

    @property
    def end(self) -> int | None:
        """The id that separates and ends documents, as `sep`; None if the vocabulary has none."""
        return self.roles.get("sep", self.roles.get("eos"))

    @property
    def mask(self) -> int:
        """The id of `mask`; GenusError if there is none."""
        return self.id("mask")

    @property
    def begins(self) -> tuple[int, ...]:
        """The special tokens before the text in the template of a single text."""
        return _before_text(self.single)

    @property
    def finishes(self) -> tuple[int, ...]:
        """The special tokens after the text in the template of a single text."""
        return _before_text(self.single[::-1])[::-1]

    @property
    def target_begins(self) -> tuple[int, ...]:
        """The special tokens with which the second stream of a pair of streams begins."""
        return _before_text(self.target or self.single)

    @property
    def decoder_start(self) -> NDArray[np.int64]:
        """(1,) the token with which a decoder begins (`decoder_start_token_id`): the first of the second stream's."""
        return np.array((self.target_begins or (self.sep,))[:1], dtype=np.int64)

    @property
    def sentinels(self) -> NDArray[np.int64]:
        """The ids of the pieces that stand for hidden spans, in their order."""
        known, extra = self.sentinel_ids, self.extra
        return np.array([extra[name] for name in sentinels_of(extra)] if known is None else known, dtype=np.int64)

    def framing(self, segments: int) -> int:
        """Return the number of special tokens that the template adds to one segment or two."""
        return sum(special is not None for special, _, _ in (self.single if segments == 1 else self.pair))

    @property
    def target_framing(self) -> int:
        """Number of special tokens that the template adds to the second stream of a pair of streams."""
        return sum(special is not None for special, _, _ in self.target or self.single)

    @property
    def target_start(self) -> int:
        """Number of special tokens before the second stream of a pair of streams."""
        return len(self.target_begins)

    def whole(self, length: int) -> int:
        """Return the position of the token that represents the whole of a sequence of `length` tokens."""
        return 0 if self.summary == "first" else length - 1

    @property
    def segmented(self) -> bool:
        """Whether a template gives any token another segment id (token type id) than 0."""
        return any(segment for _, _, segment in (*self.single, *self.pair))

    @property
    def padding_side(self) -> str:
        """The side on which other libraries pad: left if the sequence ends with `cls`, which represents it.

        An end-of-text token that is also `cls`, as in streams, leaves padding on the right.
        """
        cls, end = self.roles.get("cls"), self.single[-1][0]
        return "left" if end is not None and end == cls != self.roles.get("sep") else "right"

    def frame(self, *texts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Add special tokens to one segment or two, as the template `single` or `pair` says.

        Returns:
            ids (L,), segment ids (L,), and fixed (L,) bool, true at the special tokens of the template.
        """
        return _framed(self.single if len(texts) == 1 else self.pair, texts)

    def frame_target(self, text: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Add special tokens to the second stream of a pair of streams, as the template `target` says; see `frame`."""
        return _framed(self.target or self.single, (text,))


def _before_text(template: Template) -> tuple[int, ...]:
    """Return the special tokens before the first text of a template."""
    ids = (special for special, _, _ in template)
    return tuple(itertools.takewhile(lambda special: special is not None, ids))  # type: ignore[arg-type]


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
