"""ByT5's tokenizer: the bytes of a text, the last of which are sentinels too (Xue et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from tokenizers import AddedToken

from genus.part import Count, Natural
from genus.tokens import SpecialTokens
from genus.tokens.algorithms.bytes import WRITTEN, Bytes
from genus.tokens.files.layout import further_in, named_in, read_config, read_specials

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer as Backend

CLASS = "ByT5Tokenizer"
"""transformers' class, which has no vocabulary file."""
EXTRA = 125
"""Further special tokens of that class, where its configuration names no number."""


def extra(number: int) -> tuple[str, ...]:
    """Return the names of so many further special tokens, in the order of their ids."""
    return tuple(f"<extra_id_{one}>" for one in range(number))


BYT5 = SpecialTokens(
    pad="<pad>",
    unk="<unk>",
    eos="</s>",
    extra=extra(EXTRA),
    single="$A </s>",
    pair="$A </s> $B </s>",
    target="<pad> $A </s>",
    summary="last",
)
"""Ids: padding 0, end 1, unknown 2, byte b is b + 3; the further special tokens fill the released models' 384 rows."""


class ByT5Bytes(Bytes):
    """Bytes with ids from 3 on, as of transformers' `ByT5Tokenizer`; the ids of the last bytes are sentinels too.

    Sentinel i is byte 255 - i, for which a text may have its id as well: UTF-8 uses bytes up to 244. The further
    special tokens are none. White space beside the name of padding, end or unknown token in a text goes with the name.

    Source: Xue et al. 2021, section 3.1; released code, byt5/tasks.py, and t5/data/preprocessors.py: sentinel_id.
    Deviations: bytes that are no UTF-8 are decoded as U+FFFD, where the authors leave them out; U+001C to U+001F are no
    white space beside names.
    """

    vocab_size: Count = 384
    special_tokens: SpecialTokens = BYT5
    reused: Natural = 100
    """Number of bytes whose ids are sentinels (section 3.1: 100)."""

    def __post_init__(self) -> None:
        """Check that the vocabulary has room for all bytes, and that no more of them than there are are sentinels.

        Raises:
            ValueError: `vocab_size` is too small, or `reused` over 256.
        """
        super().__post_init__()
        if self.reused > len(WRITTEN):
            raise ValueError(f"reused: there are {len(WRITTEN)} bytes, not {self.reused}")

    @property
    def sentinels(self) -> tuple[str, ...]:
        """The last bytes, the very last one first."""
        return tuple(WRITTEN[::-1][: self.reused])

    def added(self, name: str) -> AddedToken:
        """Return a special token with a role as it is found in a text, with white space around it."""
        return AddedToken(name, lstrip=True, rstrip=True, special=True)

    def save_slow_files(self, backend: Backend, folder: Path) -> None:
        """Write nothing: bytes need no vocabulary."""
        return

    def hf_config(self) -> dict[str, Any]:
        """Return `ByT5Tokenizer` with the number of its further special tokens."""
        return {"tokenizer_class": CLASS, "extra_ids": len(self.special_tokens.extra)}

    @classmethod
    def from_folder(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Read a folder whose `tokenizer_config.json` names `ByT5Tokenizer`."""
        config = read_config(folder)
        if config.get("tokenizer_class") != CLASS:
            return None
        number = config.get("extra_ids")
        further = further_in(config) or extra(number if isinstance(number, int) else EXTRA)
        names = [(BYT5.roles() | named_in(config))[role] for role in ("pad", "eos", "unk")]
        pieces = {piece: number for number, piece in enumerate([*names, *WRITTEN, *further])}
        specials = read_specials(config, (BYT5,), pieces, folder, further=further)
        part = cls(vocab_size=len(pieces), special_tokens=specials)
        return part, part.of_vocabulary()
