"""Offsets of tokens: the characters of the text that each stands for, in texts of many scripts."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genus.text.alignment import aligned
from genus.text.normalization import ThaiNormalization
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.byte_fallback_bpe import ByteFallbackBPE
from genus.tokens.algorithms.bytes import Bytes
from genus.tokens.algorithms.presegmented_words import PresegmentedWords
from genus.tokens.algorithms.sentencepiece_bpe import SentencePieceBPE
from genus.tokens.algorithms.unigram import XLNET, Unigram
from genus.tokens.algorithms.unigram_no_spaces import UnigramNoSpaces
from genus.tokens.algorithms.word_level import WordLevel
from genus.tokens.algorithms.wordpiece import WordPiece

if TYPE_CHECKING:
    from genus.tokens import TokenizerConfig
    from genus.tokens.tokenizer import Tokenizer

TEXTS = [
    "The Walt Disney Company, of Burbank (California), owns ABC.",
    "Le CAFÉ, e\u0301te\u0301 à Zürich; ﬁne ½ — İstanbul, naïve.",
    "นายสมชายไปกรุงเทพฯ เมื่อวันที่ 3 มกราคม พ.ศ. 2533",
    "ذهب مَرْحَبًا بِكَ إلى القاهرة في عام ٢٠٢٠، ثم عاد.",
    "One 👩‍👩‍👧 and 👍🏽 or 🇹🇭!\n\nNext  line,\ttabs\r\nand [SEP] </s> <unk> ends ",
    "東京は日本の首都です。人口は1400万人。",
]
KINDS: dict[str, TokenizerConfig] = {
    "wordpiece": WordPiece(vocab_size=300, lowercase=True),
    "wordpiece, cased": WordPiece(vocab_size=300, lowercase=False),
    "byte bpe": ByteBPE(vocab_size=320),
    "unigram": Unigram(vocab_size=220),
    "unigram of xlnet": Unigram(vocab_size=220, lowercase=False, plain=False, special_tokens=XLNET),
    "bpe of sentencepiece": SentencePieceBPE(vocab_size=300),
    "bpe with bytes": ByteFallbackBPE(vocab_size=400),
    "bytes": Bytes(),
    "words": WordLevel(vocab_size=90, min_frequency=1),
    "unigram without spaces": UnigramNoSpaces(vocab_size=220, normalization=ThaiNormalization(words=None)),
    "words by a dictionary": PresegmentedWords(vocab_size=90, min_frequency=1, normalization=ThaiNormalization()),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def trained(kind: str) -> Tokenizer:
    if kind == "words by a dictionary":
        pytest.importorskip("pythainlp")
    return KINDS[kind].train(TEXTS * 20)


@kinds
def test_every_token_has_its_characters(kind: str) -> None:
    """In order; together they have all characters but white space and what a normalization removes."""
    tokenizer = trained(kind)
    for text, ids in zip(TEXTS, tokenizer.encode(TEXTS, specials=False), strict=True):
        found, places = tokenizer.encode_with_offsets(text)
        assert found.tolist() == ids
        assert places.shape == (len(ids), 2)
        starts, stops = places.T
        assert (np.diff(starts) >= 0).all()
        assert (np.diff(stops) >= 0).all()
        assert (starts >= 0).all()
        assert (starts <= stops).all()
        assert (stops <= len(text)).all()
        covered = {place for start, stop in places.tolist() for place in range(start, stop)}
        lost = "".join(one for place, one in enumerate(text) if place not in covered and not one.isspace())
        assert not {one for one in lost if unicodedata.category(one) not in {"Cf", "Cc"}}


def letters(text: str) -> str:
    """Return a text without case, marks, white space and invisible characters, compatible ones as one."""
    found = unicodedata.normalize("NFKD", text.casefold())
    return "".join(one for one in found if not one.isspace() and unicodedata.category(one)[0] not in {"M", "C"})


@kinds
def test_the_characters_say_what_the_tokens_say(kind: str) -> None:
    """From an unknown token to each before the next one; bytes of a part of a character say nothing."""
    tokenizer, compared = trained(kind), 0
    unknown = tokenizer.vocabulary.roles.get("unk")
    for text in TEXTS:
        ids, places = (side.tolist() for side in tokenizer.encode_with_offsets(text))
        first = 0
        for number, one in enumerate(ids):
            if one == unknown and kind != "bytes":
                first = number + 1
                continue
            said = tokenizer.decode(ids[first : number + 1])
            if "\ufffd" not in said:
                start, stop = places[first][0], places[number][1]
                assert letters(text[start:stop]).startswith(letters(said))  # a ligature has several tokens
                assert letters(said).startswith(letters(text[start : stop - 1]))
                compared += 1
    assert compared > 40


def test_marks_that_are_dropped_go_with_the_letter_before_them() -> None:
    tokenizer, text = trained("unigram"), "e\u0301te\u0301 กรุง"
    places = tokenizer.encode_with_offsets(text)[1].tolist()
    assert {text[start:stop] for start, stop in places} >= {"e\u0301", "กร\u0e38"}


@settings(deadline=None)
@given(st.lists(st.text("abกด\u0e38É", min_size=1, max_size=4), unique=True, max_size=9), st.data())
def test_words_that_are_left_of_a_text_are_found_in_it(words: list[str], data: st.DataObject) -> None:
    """Whatever words are left out, and however much white space; places ascend, also of what was put in."""
    words = list({word.lower(): word for word in words}.values())
    kept = [word for word in words if data.draw(st.booleans())]
    text, cleaned = "  ".join(words), " ".join(kept).lower()
    for word in kept:
        at = f" {cleaned} ".index(f" {word.lower()} ")
        [(start, stop)] = aligned(text, cleaned, [(at, at + len(word))])
        assert text[start:stop] == word
    strange = data.draw(st.text("abก ", max_size=12))
    places = np.array(aligned(text, strange, [(place, place + 1) for place in range(len(strange))])).reshape(-1, 2)
    assert (np.diff(places, axis=0) >= 0).all()
    assert (places[:, 0] <= places[:, 1]).all()
    assert ((places >= 0) & (places <= len(text))).all()


@pytest.mark.parametrize(
    ("text", "cleaned", "span", "expected"),
    [
        ("R &amp; D now", "R & D now", (2, 3), "&"),
        ("R &amp; D now", "R & D now", (4, 9), "D now"),
        ("มากมากมาก ดี", "มาก ดี", (4, 6), "ดี"),
        ("no (  ) more", "no more", (3, 7), "more"),
        ("so     long", "so long", (3, 7), "long"),
    ],
)
def test_places_after_a_normalization(text: str, cleaned: str, span: tuple[int, int], expected: str) -> None:
    [(start, stop)] = aligned(text, cleaned, [span])
    assert text[start:stop] == expected
