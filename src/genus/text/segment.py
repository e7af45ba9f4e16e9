"""The slot `Segmenter`: texts to words, where no spaces stand between words; and Thai's segmenters.

A segmenter of one's own is a subclass of `Segmenter`: a recipe names it by its kind.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

from genus.errors import GenusError
from genus.part import Part

if TYPE_CHECKING:
    from collections.abc import Callable


class Segmenter(Part, ABC):
    """A choice of what is a word."""

    @abstractmethod
    def words(self, text: str) -> list[str]:
        """Return the words of a text and what stands between them: joined they are the text again.

        Raises:
            GenusError: it needs a library that is not installed.
        """


class DictionaryWords(Segmenter):
    """Thai by a dictionary: of the cuts that keep clusters of characters whole, the shortest (PyThaiNLP's newmm)."""

    units: Literal["words", "syllables"] = "words"
    """What the dictionary lists; with syllables, as WangchanBERTa's syllable tokenizer."""

    def words(self, text: str) -> list[str]:
        """Return words or syllables, and runs of spaces, Latin letters, digits."""
        return newmm(self.units)(text)


class StackedWords(Segmenter):
    """Thai by a stack of learned segmenters that mend each other (Limkonchotiwat et al. 2020, SEFR CUT)."""

    model: str = "ws1000"
    """The name of the model there; ws1000 is learned on social media, best on BEST 2010."""

    def words(self, text: str) -> list[str]:
        """Return words."""
        found: list[list[str]] = sefr_cut(self.model).tokenize(text)
        return [word for words in found for word in words]


@functools.cache
def newmm(units: str) -> Callable[[str], list[str]]:
    """Return PyThaiNLP's maximal matching with one of its dictionaries."""
    try:
        from pythainlp.corpus import thai_syllables, thai_words
        from pythainlp.tokenize.newmm import segment
        from pythainlp.util import Trie
    except ImportError:
        raise GenusError("cutting Thai into words needs another library: pip install 'genus[thai]'") from None
    return functools.partial(segment, custom_dict=Trie({"words": thai_words, "syllables": thai_syllables}[units]()))


@functools.cache
def sefr_cut(model: str) -> Any:
    """Return the library with one of its models loaded."""
    try:
        import sefr_cut as library
    except ImportError:
        raise GenusError("cutting Thai by stacked segmenters needs another library: pip install sefr-cut") from None
    library.load_model(engine=model)
    return library
