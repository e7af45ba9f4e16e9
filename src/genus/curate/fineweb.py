"""FineWeb's filters beside those of C4 and Gopher (Penedo et al. 2024, arXiv:2406.17557, section 3.5)."""

from __future__ import annotations

from genus.curate import DocumentFilter
from genus.curate.words import repeats, share, words_of
from genus.part import Natural, NotNegative, Share
from genus.text.segment import Segmenter
from genus.text.sentences import SPACED_MARKS, UNSPACED_MARKS

END_MARKS = (*SPACED_MARKS, *UNSPACED_MARKS, '"', "'")
"""Marks at the end of a sentence in any script, and quotes, as C4 counts them."""


class FineWebQuality(DocumentFilter):
    """Remove documents of few finished lines, of many short lines, of repeated lines, and lists."""

    end_punctuation: Share = 0.12
    """Least share of lines that end in a mark."""
    short_lines: Share = 0.67
    """Largest share of short lines."""
    short: Natural = 30
    """Most characters of a short line."""
    repeated_characters: Share = 0.01
    """Largest share of characters in lines that have stood before."""
    lines_per_word: NotNegative = 0.3
    """Most line breaks per word (released code, datatrove)."""
    segmenter: Segmenter | None = None

    def rule(self, text: str) -> str | None:
        """Return the first rule that removes the document."""
        lines = [line for line in text.split("\n") if line.strip()]
        if share(line.endswith(END_MARKS) for line in lines) < self.end_punctuation:
            return "end_punctuation"
        if share(len(line) <= self.short for line in lines) > self.short_lines:
            return "short_lines"
        if repeats(lines)[1] > self.repeated_characters * len(text.replace("\n", "")):
            return "repeated_characters"
        return "list" if text.count("\n") > self.lines_per_word * len(words_of(text, self.segmenter)) else None
