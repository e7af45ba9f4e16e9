"""The slot `Normalization`: what is done to every text before it is tokenized, always; and Thai's rules."""

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
"""What extraction from HTML leaves behind, replaced in this order (Howard and Ruder 2018, fastai)."""
LETTER = "a-zA-Z0-9\u0e01-\u0e59"
PAIRS = (r"\(", r"\)"), (r"\{", r"\}"), (r"\[", r"\]")
BRACKETS = tuple(
    re.compile(pattern.format(opening, closing, LETTER))
    for pattern in ("{0}{1}", "{0}[^{2}]+{1}", "(?<={0})[^{2}]+(?=[{2}])", "(?<=[{2}])[^{2}]+(?={1})")
    for opening, closing in PAIRS
)
"""Empty brackets, brackets around no letter, and what stands between a bracket and the first or last letter in it."""
SPACES = re.compile(r"  +")
SPACE = "<_>"
"""What a space is while words are cut, and as a token (Lowphansirikul et al. 2021, arXiv:2101.09635, section 3)."""


class Normalization(Part, ABC):
    """A choice of rules that mend a text."""

    @abstractmethod
    def clean(self, text: str) -> str:
        """Return the text mended; nothing may be left of it."""


class ThaiNormalization(Normalization):
    """The rules of WangchanBERTa (Lowphansirikul et al. 2021, arXiv:2101.09635; released code, preprocess.py).

    In order: small letters; HTML's names of characters as characters; empty brackets removed; line breaks as spaces;
    several spaces as one; a character that stands more than `repeats` times as one; a word of nothing but emoji cut
    into them; a repeated word as one. Emoji stay. A space becomes a token of its own in the tokenizer, whose name is
    in its place when words are cut, as there: a run of emoji beside a space is then part of a longer word, and stays.

    Deviations: spaces around a text stay, since a text may be a sentence of a document. Emoji are Unicode 17's, each
    character for itself; the released code asks the `emoji` package, of no stated version, of which later ones take a
    thumb and its color for one and so leave the word whole. Words are those of the PyThaiNLP that is installed, there
    2.2.4. A last word `</s>` stays.
    """

    lowercase: bool = True
    repeats: Count = 3
    """How often a character may stand in a row."""
    words: Segmenter | None = DictionaryWords()
    """Whose words stand but once in a row; None keeps repeated words."""

    def clean(self, text: str) -> str:
        """Return the text mended."""
        text = without_html(text.lower() if self.lowercase else text)
        for pattern in BRACKETS:
            text = pattern.sub("", text)
        text = SPACES.sub(" ", text.replace("\n", " ")).replace(" ", SPACE)
        text = re.sub(rf"(\S)\1{{{self.repeats},}}", r"\1", text)
        if self.words is not None:
            text = "".join(word for word, _ in groupby(emoji_apart(self.words.words(text))))
        return text.replace(SPACE, " ")


def without_html(text: str) -> str:
    """Return the text with characters in place of HTML's names for them, and what else extraction leaves behind."""
    for name, character in ENTITIES.items():
        text = text.replace(name, character)
    return SPACES.sub(" ", html.unescape(text))


def emoji_apart(words: Iterable[str]) -> Iterator[str]:
    """Yield words, and each emoji of a word that is nothing but emoji: a segmenter makes one word of a run of them."""
    for word in words:
        yield from word if EMOJI.issuperset(word) else (word,)
