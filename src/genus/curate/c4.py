"""The filters of C4 (Raffel et al. 2020, arXiv:1910.10683, section 2.2).

"Released code" is tensorflow/datasets, text/c4_utils.py. Language identification, which is C4's too, is `Language`.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Literal

from genus.curate import DocumentFilter, Filter, Outcome, Removal
from genus.curate.words import ELLIPSES
from genus.errors import GenusError
from genus.part import Count, Natural
from genus.text.read import read_whole
from genus.text.sentences import split

END_MARKS = (".", "?", "!", '"')
CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
LOREM = "lorem ipsum"


class C4Lines(Filter):
    """Keep the lines that look like sentences, and no page with `lorem ipsum` or a curly bracket in such a line.

    The rules are asked in the order of the released code, and see a line only if those before keep it.
    """

    citations: Literal["remove", "keep"] = "remove"
    """Marks that Wikipedia's articles have in their text: `[3]`, `[edit]`, `[citation needed]`."""
    end_punctuation: bool = True
    """Lines that end in no mark, or in an ellipsis, are removed."""
    min_words: Natural = 3
    """Lines of fewer words are removed (section 2.2; the released code has 5)."""
    max_word_length: Count | None = 1000
    """Lines with a longer word are removed (released code)."""
    lorem_ipsum: bool = True
    curly_bracket: bool = True
    javascript: bool = True
    """Lines that speak of Javascript are removed."""
    policy: bool = True
    """Lines about cookies and terms of use are removed (released code)."""

    def apply(self, text: str) -> Outcome:
        """Return the lines that are kept."""
        kept: list[str] = []
        removed: list[Removal] = []
        for line in map(str.strip, text.splitlines()):
            words = line.split()
            too_long = self.max_word_length is not None and any(len(word) > self.max_word_length for word in words)
            clean = CITATION.sub("", line) if self.citations == "remove" else line
            rule = "word_length" if too_long else self._line(clean, len(words))
            if rule is not None:
                removed += [Removal(rule, line)] if line else []
            elif page := self._page(clean):
                return Outcome("", Removal(page, line))
            elif rule := self._speaks_of(clean.lower()):
                removed.append(Removal(rule, line))
            else:
                kept.append(clean)
        left = "\n".join(kept).strip()
        return Outcome(left, None, removed) if left else Outcome("", Removal("no_line", text))

    def _line(self, line: str, words: int) -> str | None:
        if self.end_punctuation and (not line.endswith(END_MARKS) or line.endswith(ELLIPSES[0])):
            return "end_punctuation"
        return "min_words" if words < self.min_words else None

    def _page(self, line: str) -> str | None:
        if self.lorem_ipsum and LOREM in line.lower():
            return "lorem_ipsum"
        return "curly_bracket" if self.curly_bracket and "{" in line else None

    def _speaks_of(self, line: str) -> str | None:
        if self.javascript and "javascript" in line:
            return "javascript"
        return "policy" if self.policy and any(words in line for words in POLICY) else None


class FewSentences(DocumentFilter):
    """Remove documents of fewer sentences than `least` (section 2.2: five; the released code has 3).

    Sentences are ours (`text/sentences.py`), where the released code takes NLTK's.
    """

    least: Count = 5

    def rule(self, text: str) -> str | None:
        """Return the rule, if the text has too few sentences."""
        return "sentences" if sum(1 for sentence in split(text) if sentence.strip()) < self.least else None


class BadWords(DocumentFilter):
    """Remove documents with a word of a list (section 2.2: "Dirty, Naughty, Obscene or Otherwise Bad Words").

    No list comes with the package.
    """

    file: str | None = None
    """Path of the list, a word or a phrase a line; None: nothing is removed."""
    apart: bool = True
    """A word counts only where no letter or digit stands beside it; false for scripts without spaces between words."""

    @property
    def files(self) -> tuple[str, ...]:
        """The list."""
        return () if self.file is None else (self.file,)

    def check(self) -> None:
        """Check that the list can be read and has a word."""
        if self.file is not None:
            pattern.cache_clear()  # the file may have changed
            pattern(self.file, self.apart)

    def rule(self, text: str) -> str | None:
        """Return the rule, if a word is in the text."""
        if self.file is None:
            return None
        return "bad_word" if pattern(self.file, self.apart).search(text.lower()) else None


@cache
def pattern(file: str, apart: bool) -> re.Pattern[str]:
    """Return the pattern of the words in a file, in lower case."""
    words = sorted({line.strip().lower() for line in read_whole(Path(file)).splitlines()} - {""}, key=len, reverse=True)
    if not words:
        raise GenusError(f"{file}: there is no word in it; write one a line")
    listed = "|".join(map(re.escape, words))
    return re.compile(rf"(?<!\w)(?:{listed})(?!\w)" if apart else listed)
