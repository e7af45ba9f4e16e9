"""The slot `Segmenter`: word segmentation for scripts without spaces between words, those for Thai; words and marks.

A custom segmenter is a subclass of `Segmenter`: a recipe names it by its kind.
"""

from __future__ import annotations

import functools
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

from genus.errors import GenusError, library
from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Callable


CLITIC = r"['\u2019](?:s|m|d|re|ve|ll)\b"
PIECE = re.compile(
    r"(?:[^\W\d_]\.){2,}"  # U.S.
    r"|\w+?(?=n['\u2019]t\b)|n['\u2019]t\b"
    rf"|\w+(?={CLITIC})|{CLITIC}"
    r"|\d+(?:[.,\u2013]\d+)+"
    r"|\w+(?:['\u2019]\w+)*|\s+|(\W)\1*",
    re.IGNORECASE,
)
"""Words without English clitics, which are words of their own; numbers; white space; runs of one mark."""


class Segmenter(Part, ABC):
    """A choice of word segmentation."""

    @abstractmethod
    def words(self, text: str) -> list[str]:
        """Return the words of a text and the characters between them; joined, they equal the text.

        Raises:
            GenusError: a required library is not installed.
        """


class WordsAndMarks(Segmenter):
    """Words, and each mark of punctuation as a word of its own, as tokenizers of treebanks have them.

    It is near the English of NLTK and spaCy ("do", "n't"), and not the same: those know lists of abbreviations.
    """

    def words(self, text: str) -> list[str]:
        """Return words, marks and white space."""
        return [found[0] for found in PIECE.finditer(text)]


class DictionaryWords(Segmenter):
    """Dictionary-based maximal matching for Thai (PyThaiNLP's newmm).

    It takes the shortest of the segmentations that keep character clusters whole.
    """

    units: Literal["words", "syllables"] = "words"
    """Entries of the dictionary; `syllables` as in WangchanBERTa's syllable tokenizer."""

    def words(self, text: str) -> list[str]:
        """Return words or syllables, and runs of spaces, Latin letters or digits."""
        return newmm(self.units)(text)


class StackedWords(Segmenter):
    """Stacked-ensemble word segmentation for Thai (Limkonchotiwat et al. 2020, SEFR CUT)."""

    model: str = "best"
    """Name of the SEFR CUT model: `best` is trained on BEST 2010, as for WangchanBERTa; ws1000 on social media."""

    def words(self, text: str) -> list[str]:
        """Return the words that SEFR CUT finds."""
        found: list[list[str]] = sefr_cut(self.model).tokenize(text)
        return [word for words in found for word in words]


class JiebaWords(Segmenter):
    """Words of Chinese by a dictionary and a hidden Markov model (jieba, in Rust)."""

    def words(self, text: str) -> list[str]:
        """Return words, marks and white space."""
        found: list[str] = jieba().cut(text)
        return found


class MeCabWords(Segmenter):
    """Words of Japanese by MeCab with the dictionary UniDic (fugashi, unidic-lite)."""

    def words(self, text: str) -> list[str]:
        """Return words, and the white space between them."""
        found = []
        for node in mecab()(text):
            found += [node.white_space, node.surface]
        end = text[sum(map(len, found)) :]
        return [word for word in (*found, end) if word]


@functools.cache
def jieba() -> Any:
    """Return the `rjieba` library."""
    return library("rjieba", "cutting Chinese into words", "zh")


@functools.cache
def mecab() -> Any:
    """Return MeCab's tagger."""
    what = "cutting Japanese into words"
    library("unidic_lite", what, "ja")  # which fugashi takes
    return library("fugashi", what, "ja").Tagger()


@functools.cache
def newmm(units: str) -> Callable[[str], list[str]]:
    """Return PyThaiNLP's maximal matching with its dictionary of words or of syllables."""
    try:
        from pythainlp.corpus import thai_syllables, thai_words
        from pythainlp.tokenize.newmm import segment
        from pythainlp.util import Trie
    except ImportError:
        raise GenusError("cutting Thai into words needs another library: pip install 'genus[thai]'") from None
    return functools.partial(segment, custom_dict=Trie({"words": thai_words, "syllables": thai_syllables}[units]()))


@functools.cache
def sefr_cut(model: str) -> Any:
    """Return the `sefr_cut` library with the named model loaded."""
    try:
        import sefr_cut
    except ImportError:
        raise GenusError("cutting Thai by stacked segmenters needs another library: pip install sefr-cut") from None
    sefr_cut.load_model(engine=model)
    return sefr_cut
