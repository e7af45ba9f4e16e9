"""The slot `Normalization`: text normalization before tokenization; the rules for Thai."""

from __future__ import annotations

import html
import re
from abc import ABC, abstractmethod
from itertools import groupby
from typing import TYPE_CHECKING

from genus.part import Count, Part
from genus.text.emoji import EMOJI
from genus.text.segment import DictionaryWords, Segmenter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ENTITIES = {
    "#39;": "'",
    "amp;": "&",
    "#146;": "'",
    "nbsp;": " ",
    "#36;": "$",
    "\\n": "\n",
    "quot;": "'",
    "<br />": "\n",
    '\\"': '"',
    " @.@ ": ".",
    " @-@ ": "-",
    " @,@ ": ",",
    "\\": " \\ ",
}
"""Leftovers of HTML extraction and their replacements, applied in this order (Howard and Ruder 2018, fastai)."""
LETTER = "a-zA-Z0-9\u0e01-\u0e59"
PAIRS = (r"\(", r"\)"), (r"\{", r"\}"), (r"\[", r"\]")
BRACKETS = tuple(
    re.compile(pattern.format(opening, closing, LETTER))
    for pattern in ("{0}{1}", "{0}[^{2}]+{1}", "(?<={0})[^{2}]+(?=[{2}])", "(?<=[{2}])[^{2}]+(?={1})")
    for opening, closing in PAIRS
)
"""Empty brackets, brackets around no letter, and the characters between a bracket and its first or last letter."""
SPACES = re.compile(r"  +")
EMPTY = re.compile(r"\s\([\s,;]*\)")
SPACE = "<_>"
"""The space token, which replaces spaces in segmentation too (Lowphansirikul et al. 2021, arXiv:2101.09635, sec. 3)."""


class Normalization(Part, ABC):
    """A choice of text normalization, applied to every text before it is tokenized."""

    @abstractmethod
    def clean(self, text: str) -> str:
        """Return the normalized text, which may be empty."""


class ThaiNormalization(Normalization):
    """Text normalization of WangchanBERTa (Lowphansirikul et al. 2021, arXiv:2101.09635; released code, preprocess.py).

    In order: lower-case; replace HTML entities; remove empty brackets; turn line breaks into spaces; merge runs of
    spaces; reduce a run of more than `repeats` equal characters to one; split a word of emoji only into its emoji;
    merge repeated words. Emoji are kept. As in the released code, spaces are replaced by the space token before words
    are cut: a run of emoji beside a space is then part of a longer word and is not split.

    Deviations: spaces around a text are kept, since a text may be a sentence of a document. Emoji are those of Unicode
    17, one character each; the released code uses the `emoji` package without a stated version, and later versions
    treat a thumb and its color as one emoji and do not split the word. Words are those of the installed PyThaiNLP;
    the released code used 2.2.4. A last word `</s>` is kept.
    """

    lowercase: bool = True
    repeats: Count = 3
    """Longest run of one character that is kept."""
    words: Segmenter | None = DictionaryWords()
    """Segmenter that finds repeated words to merge; None keeps them."""

    def clean(self, text: str) -> str:
        """Return the normalized text."""
        text = without_html(text.lower() if self.lowercase else text)
        for pattern in BRACKETS:
            text = pattern.sub("", text)
        text = SPACES.sub(" ", text.replace("\n", " ")).replace(" ", SPACE)
        text = re.sub(rf"(\S)\1{{{self.repeats},}}", r"\1", text)
        if self.words is not None:
            text = "".join(word for word, _ in groupby(emoji_apart(self.words.words(text))))
        return text.replace(SPACE, " ")


class ThaiWikipediaNormalization(Normalization):
    """Text normalization of WangchanBERTa's models of Thai Wikipedia (released code, clean_data-thwiki.py).

    A non-breaking space becomes a space; soft hyphens and zero-width non-breaking spaces are removed, and so is the
    first empty parenthesis with the space before it (preprocess_thwiki_extracted.py). Letters keep their case.

    Deviation: there the parenthesis is removed in an article's first paragraph only; a normalization sees one text.
    """

    def clean(self, text: str) -> str:
        """Return the normalized text."""
        text = EMPTY.sub("", text, count=1).replace("\xa0", " ")
        return text.replace("\ufeff", "").replace("\u00ad", "")


def without_html(text: str) -> str:
    """Replace HTML entities and other leftovers of HTML extraction, and merge runs of spaces."""
    for name, character in ENTITIES.items():
        text = text.replace(name, character)
    return SPACES.sub(" ", html.unescape(text))


def emoji_apart(words: Iterable[str]) -> Iterator[str]:
    """Yield words, splitting a word of emoji only into its emoji: a segmenter returns a run of emoji as one word."""
    for word in words:
        yield from word if EMOJI.issuperset(word) else (word,)
