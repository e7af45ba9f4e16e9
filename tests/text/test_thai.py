"""Thai's cleaning and segmenters: against the rules as their paper and code state them, and the library's own."""

from __future__ import annotations

import builtins
import sys
import unicodedata

import pytest

from genus.errors import GenusError
from genus.text.emoji import EMOJI
from genus.text.normalization import ThaiNormalization, ThaiWikipediaNormalization
from genus.text.segment import DictionaryWords, StackedWords, newmm, sefr_cut

PLAIN = ThaiNormalization(words=None)
LAUGH, HEART = "\U0001f602", "\u2764"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Anbsp;amp;nbsp;B @.@ ", "a & b."),  # fastai's example, in small letters
        ("a<br />b", "a b"),
        ("&lt;b&gt; &#3585;", "<b> \u0e01"),
        ("hey() whats[;] up{*&} man(hey)", "hey whats up man(hey)"),  # released code, rm_brackets
        ("x ( ,\u0e01\u0e32, ) y", "x (\u0e01\u0e32) y"),
        ("\u0e01\n\u0e02", "\u0e01 \u0e02"),
        ("oh         no", "oh no"),
        ("\u0e01\u0e32\u0e32\u0e32\u0e32\u0e32\u0e32\u0e32", "\u0e01\u0e32"),  # released code, replace_rep_after
        ("\u0e01\u0e32\u0e32\u0e32", "\u0e01\u0e32\u0e32\u0e32"),  # three times is no repetition
        ("555555", "5"),
        ("\u0e14\u0e35 \U0001f495", "\u0e14\u0e35 \U0001f495"),  # emoji stay
    ],
)
def test_each_rule(text: str, cleaned: str) -> None:
    assert PLAIN.clean(text) == cleaned


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("\u0e01\u0e17\u0e21 (;)\u0e40\u0e1b\u0e47\u0e19 ()(1)", "\u0e01\u0e17\u0e21\u0e40\u0e1b\u0e47\u0e19 ()(1)"),
        ("A\xa0B", "A B"),  # letters keep their case
        ("\ufeffab\u00adc", "abc"),
        ("5555  \u0e01\u0e32\u0e32\u0e32\u0e32", "5555  \u0e01\u0e32\u0e32\u0e32\u0e32"),  # repetitions stay
    ],
)
def test_rules_of_the_wikipedia_models(text: str, cleaned: str) -> None:
    """Released code, preprocess_thwiki_extracted.py and clean_data-thwiki.py, which does less than for other texts."""
    assert ThaiWikipediaNormalization().clean(text) == cleaned


def test_a_repeated_word_stands_once() -> None:
    """Four times water after a word that makes no longer one of it."""
    pytest.importorskip("pythainlp")
    like, water = "\u0e0a\u0e2d\u0e1a", "\u0e19\u0e49\u0e33"
    assert ThaiNormalization().clean(like + 4 * water) == like + water
    assert ThaiNormalization(words=None).clean(like + 4 * water) == like + 4 * water


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [  # released code: ungroup_emoji, then replace_wrep_post, on the words of newmm
        ("\u0e14\u0e35" + 2 * LAUGH, "\u0e14\u0e35" + LAUGH),
        (3 * LAUGH + 2 * HEART, LAUGH + HEART),
        (LAUGH + HEART + LAUGH, LAUGH + HEART + LAUGH),
        (2 * LAUGH + "ok", 2 * LAUGH + "ok"),  # one word, and not all of it emoji
        ("\u0e14\u0e35 " + 2 * LAUGH, "\u0e14\u0e35 " + 2 * LAUGH),  # `<_>` and both are one word
        (2 * (HEART + "\ufe0f"), 2 * (HEART + "\ufe0f")),  # what makes it colored is no emoji
        (2 * "\U0001f1f9\U0001f1ed", 2 * "\U0001f1f9\U0001f1ed"),  # letters of a flag are none either
        ("\u0e14\u0e35 >>>>", "\u0e14\u0e35 "),  # with the mark's they are five, and one is left, which closes it
    ],
)
def test_emoji_stand_once(text: str, cleaned: str) -> None:
    pytest.importorskip("pythainlp")
    assert ThaiNormalization().clean(text) == cleaned


@pytest.mark.slow
def test_emoji_are_unicode_s() -> None:
    regex = pytest.importorskip("regex")
    every = {char for char in map(chr, range(0x80, sys.maxunicode)) if regex.match(r"\p{Emoji}", char)}
    flags = {char for char in every if regex.match(r"\p{Regional_Indicator}", char)}
    assert {char for char in every - flags if unicodedata.category(char) != "Cn"} <= EMOJI <= every - flags


def test_words_are_the_library_s() -> None:
    tokenize = pytest.importorskip("pythainlp.tokenize")
    text = "\u0e2d\u0e32\u0e20\u0e23\u0e13\u0e4c, \u0e1b\u0e31\u0e0d\u0e0d\u0e32 ok 12"
    found = DictionaryWords().words(text)
    assert found == tokenize.word_tokenize(text, engine="newmm")
    assert "".join(found) == text


def test_syllables_are_shorter_than_words() -> None:
    tokenize = pytest.importorskip("pythainlp.tokenize")
    text = "\u0e1b\u0e23\u0e30\u0e40\u0e17\u0e28\u0e44\u0e17\u0e22"
    found = DictionaryWords(units="syllables").words(text)
    assert found == tokenize.syllable_tokenize(text, engine="dict")
    assert len(found) == 3


@pytest.mark.parametrize(
    ("segmenter", "library", "say"),
    [(DictionaryWords(), "pythainlp", "genus\\[thai\\]"), (StackedWords(), "sefr_cut", "sefr-cut")],
)
def test_a_missing_library_is_named(
    segmenter: DictionaryWords | StackedWords, library: str, say: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    newmm.cache_clear()
    sefr_cut.cache_clear()
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name.split(".")[0] == library:
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(GenusError, match=f"pip install '?{say}"):
        segmenter.words("\u0e01\u0e32")
    newmm.cache_clear()


def test_stacked_words_are_joined_to_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library returns a list for each text of a list, or one in a list for a text; a stand-in for it."""
    library = type(sys)("sefr_cut")
    library.load_model = lambda engine: None  # type: ignore[attr-defined]
    library.tokenize = lambda text: [[text[:2], text[2:]]]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sefr_cut", library)
    sefr_cut.cache_clear()
    assert StackedWords().words("\u0e01\u0e32\u0e1a\u0e34\u0e19") == ["\u0e01\u0e32", "\u0e1a\u0e34\u0e19"]
    sefr_cut.cache_clear()
