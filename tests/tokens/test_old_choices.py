"""Special tokens as they were written before `summary`, `bos` and `eos` are read as what they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from genus.part import Part
from genus.tokens import SpecialTokens, TokenizerConfig
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.bytes import Bytes
from genus.tokens.algorithms.sentencepiece_bpe import SentencePieceBPE
from genus.tokens.algorithms.unigram import XLNET, Unigram
from genus.tokens.algorithms.word_level import WordLevel
from genus.tokens.algorithms.wordpiece import WordPiece

if TYPE_CHECKING:
    from typing import Any

OLD = ("kind", "pad", "unk", "cls", "sep", "mask", "single", "pair")
PARTS = [
    WordPiece(vocab_size=300),
    ByteBPE(vocab_size=300),
    Unigram(vocab_size=300),
    Unigram(vocab_size=300, special_tokens=XLNET),
    SentencePieceBPE(vocab_size=300),
    WordLevel(vocab_size=300),
    Bytes(),
]


def old(part: Part) -> dict[str, Any]:
    """Return a part as schema 1 had it."""
    table = part.to_json()
    specials = {key: table["special_tokens"][key] for key in OLD} | {"kind": "Specials"}
    left_out = {"schema", "train_on", "train_seed", "special_tokens"}
    kind = {"WordLevel": "Words"}.get(table["kind"], table["kind"])
    return {key: value for key, value in table.items() if key not in left_out} | {"kind": kind, "specials": specials}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_old_choices_are_read_as_those_of_today(part: TokenizerConfig) -> None:
    assert TokenizerConfig.from_json(old(part)) == part


def test_names_of_ones_own_have_no_ends() -> None:
    own = SpecialTokens(
        pad="<p>", unk="<u>", cls="<c>", sep="<e>", mask="<m>", single="$A <e> <c>:2", pair="$A <e> $B <c>:2"
    )
    part = Unigram(vocab_size=300, special_tokens=own)
    read = TokenizerConfig.from_json(old(part))
    assert (read.special_tokens.summary, read.special_tokens.bos, read.special_tokens.eos) == ("last", None, None)
    assert (read.special_tokens.single, read.special_tokens.pair) == (own.single, own.pair)
