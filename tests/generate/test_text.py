"""Text as it grows: whole characters, stop strings that begin and go on otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from generate.writers import TEXTS
from genus.generate.text import Text
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.sentencepiece_bpe import SentencePieceBPE
from genus.tokens.algorithms.wordpiece import WordPiece

if TYPE_CHECKING:
    from genus.tokens.tokenizer import Tokenizer

KINDS = [ByteBPE(vocab_size=300), WordPiece(vocab_size=120), SentencePieceBPE(vocab_size=300)]


@pytest.fixture(params=KINDS, ids=lambda kind: type(kind).__name__)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return request.param.train(TEXTS)  # type: ignore[no-any-return]


@pytest.mark.parametrize("text", ["the cat sat", "naïve café — 東京 🙂", "mat . \n\n the"])
def test_token_by_token_is_the_text(tokenizer: Tokenizer, text: str) -> None:
    prompt, ids = tokenizer.encode(["the dog", text])
    grown = Text(tokenizer, prompt)
    pieces = [grown.add([number], last=place == len(ids) - 1) for place, number in enumerate(ids)]
    whole = tokenizer.decode(prompt + ids)
    assert "".join(pieces) == grown.text == whole[len(tokenizer.decode(prompt)) :]
    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces)


def test_a_character_is_never_cut() -> None:
    tokenizer = ByteBPE(vocab_size=261).train(["abc"] * 10)
    ids = tokenizer.encode(["🙂é"])[0]
    assert len(ids) == 6
    grown = Text(tokenizer, [])
    assert [grown.add([number]) for number in ids] == ["", "", "", "🙂", "", "é"]


def test_half_a_character_at_the_end_is_shown_as_such() -> None:
    tokenizer = ByteBPE(vocab_size=261).train(["abc"] * 10)
    grown = Text(tokenizer, [])
    assert grown.add(tokenizer.encode(["é"])[0][:1], last=True) == "\N{REPLACEMENT CHARACTER}"


def test_the_beginning_of_a_stop_string_is_held_back() -> None:
    tokenizer = ByteBPE(vocab_size=261).train(["abc"] * 10)
    ids = {letter: tokenizer.encode([letter])[0] for letter in "abcx"}
    grown = Text(tokenizer, [], stop=("abc",))
    given = [grown.add(ids[letter]) for letter in "xababx"]
    assert given == ["x", "", "", "ab", "", "abx"]
    assert not grown.stopped
    given = [grown.add(ids[letter]) for letter in "abc"]
    assert given == ["", "", ""]
    assert (grown.stopped, grown.text) == (True, "xababx")


def test_the_first_of_several_stop_strings_counts() -> None:
    tokenizer = ByteBPE(vocab_size=261).train(["abc"] * 10)
    grown = Text(tokenizer, [], stop=("c", "bc"))
    assert grown.add(tokenizer.encode(["abc"])[0], last=True) == "a"
