"""The filters of Gopher's MassiveText (Rae et al. 2021, arXiv:2112.11446, appendix A.1.1).

Words stand between white space, unless a segmenter is chosen: the paper does not say what a word is. In datatrove a
mark of punctuation is one, and has no letter, so that the rule of letters removes far more; `WordsAndMarks` does the
same.
"""

from __future__ import annotations

import re
from statistics import fmean

from genus.curate import DocumentFilter
from genus.curate.words import ELLIPSES, most_frequent, repeated_characters, repeats, share, words_of
from genus.part import Count, Natural, NotNegative, Share
from genus.text.segment import Segmenter

BULLETS = ("\N{BULLET}", "-")
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
PARAGRAPHS, LINES = re.compile(r"\n{2,}"), re.compile(r"\n+")


class GopherQuality(DocumentFilter):
    """Remove documents that do not look like prose ("quality filtering")."""

    min_words: Natural = 50
    max_words: Count = 100_000
    min_word_length: NotNegative = 3.0
    """Least mean length of the words that have a letter or a digit."""
    max_word_length: NotNegative = 10.0
    symbols: NotNegative = 0.1
    """Most hash signs, and most ellipses, per word."""
    bullets: Share = 0.9
    """Largest share of lines that begin with a bullet."""
    ellipses: Share = 0.3
    """Largest share of lines that end in an ellipsis."""
    letters: Share = 0.8
    """Least share of words with a letter."""
    stop_words: tuple[str, ...] = STOP_WORDS
    min_stop_words: Natural = 2
    """Least number of different stop words."""
    segmenter: Segmenter | None = None

    def rule(self, text: str) -> str | None:
        """Return the first rule that removes the document."""
        words = words_of(text, self.segmenter)
        lines = text.splitlines()
        rule = self._of_words(words)
        if rule or not words:
            return rule
        if text.count("#") > self.symbols * len(words):
            return "hash_signs"
        if sum(map(text.count, ELLIPSES)) > self.symbols * len(words):
            return "ellipsis_signs"
        if share(line.lstrip().startswith(BULLETS) for line in lines) > self.bullets:
            return "bullets"
        if share(line.rstrip().endswith(ELLIPSES) for line in lines) > self.ellipses:
            return "ellipsis_lines"
        if share(any(map(str.isalpha, word)) for word in words) < self.letters:
            return "letters"
        return "stop_words" if len({*self.stop_words} & {*words}) < self.min_stop_words else None

    def _of_words(self, words: list[str]) -> str | None:
        proper = [len(word) for word in words if any(map(str.isalnum, word))]
        if len(proper) < self.min_words:
            return "min_words"
        if len(proper) > self.max_words:
            return "max_words"
        mean = fmean(proper) if proper else 0.0
        if mean < self.min_word_length:
            return "min_word_length"
        return "max_word_length" if mean > self.max_word_length else None


class GopherRepetition(DocumentFilter):
    """Remove documents that repeat themselves ("repetition removal", table A1).

    Shares of characters are of the whole text. N-grams of a size up to four count by the most frequent one, longer ones
    by all that have stood before.
    """

    lines: Share = 0.3
    paragraphs: Share = 0.3
    line_characters: Share = 0.2
    paragraph_characters: Share = 0.2
    top: tuple[tuple[Count, Share], ...] = ((2, 0.2), (3, 0.18), (4, 0.16))
    """Size of n-grams, and the largest share of characters of the most frequent one."""
    repeated: tuple[tuple[Count, Share], ...] = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1))
    """Size of n-grams, and the largest share of characters of those that have stood before."""
    segmenter: Segmenter | None = None

    def rule(self, text: str) -> str | None:
        """Return the first rule that removes the document."""
        for name, parts, most, most_characters in (
            ("paragraphs", PARAGRAPHS.split(text.strip()), self.paragraphs, self.paragraph_characters),
            ("lines", LINES.split(text), self.lines, self.line_characters),
        ):
            number, characters = repeats(parts)
            if number > most * len(parts):
                return f"repeated_{name}"
            if characters > most_characters * len(text):
                return f"characters_of_repeated_{name}"
        words = words_of(text, self.segmenter)
        for n, most in self.top:
            if most_frequent(words, n) > most * len(text):
                return f"top_{n}_gram"
        for n, most in self.repeated:
            if repeated_characters(words, n) > most * len(text):
                return f"repeated_{n}_grams"
        return None
