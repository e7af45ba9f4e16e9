"""Rule-based sentence segmentation.

A sentence ends
* at every line break: headings, list items and lines of verse are sentences;
* at a run of `. ! ? …` or of such marks in other scripts, closing quotes and brackets included, before white space,
  unless a lower-case letter follows, or the mark is one full stop after an abbreviation ("Dr."), an initial or dotted
  letters ("J.", "U.S."), a numbering word before its number ("No. 5"), or a number that starts the sentence
  ("1. Introduction");
* at the full stops of Chinese and Japanese, which no white space follows.

Thai and other scripts without such marks are cut at line breaks only. In ambiguous cases ("in the U.S. He ...") the
sentences are not separated: a sentence too long does less harm to a model than half of one.
"""

from __future__ import annotations

import re

CLOSING = "\"')\\]}\u2019\u201d\u00bb"
OPENING = "\"'(\\[{*_\u2018\u201c\u00ab\u00bf\u00a1-"
SPACED_MARKS = ".!?\u2026\u061f\u06d4\u0964\u0965\u0589\u1362\u1367\u1368\u104b\u17d4\u17d5"
"""Sentence-final marks before white space: Latin, Arabic, Urdu, Devanagari, Armenian, Ethiopic, Burmese, Khmer."""
UNSPACED_MARKS = "\u3002\uff01\uff1f\uff61"
"""Full stops of Chinese and Japanese."""
UNSPACED_CLOSING = "\u300d\u300f\u300b\u3009\uff09\u3011\u201d\u2019"

SMALL_LETTER = "a-z\u00df-\u00f6\u00f8-\u00ff\u03b1-\u03c9\u0430-\u045f"
"""Lower-case letters: Latin, Greek, Cyrillic."""

CANDIDATE = re.compile(
    rf"(?=[\n{SPACED_MARKS}{UNSPACED_MARKS}])(?:"  # one class first: the scan is then twice as fast
    rf"[{SPACED_MARKS}]+[{CLOSING}]*(?=\s)(?!\s+[{OPENING}]*[{SMALL_LETTER}])"
    rf"|[{UNSPACED_MARKS}]+[{UNSPACED_CLOSING}]*"
    r"|(?=\n))"
)
"""Candidates for the end of a sentence."""
LONGEST_WORD = 12
"""Number of characters before a full stop that are examined: no abbreviation is longer."""

ABBREVIATIONS = frozenset(
    """
    mr mrs ms messrs mme mlle dr prof rev hon st sr jr gen col lt capt cmdr sgt maj gov sen rep pres mt ft
    vs etc e.g i.e cf al viz ca approx dept univ inc ltd co corp bros est assn
    jan feb mar apr jun jul aug sep sept oct nov dec
    bzw usw z.b d.h u.a nr str bd p.ex av
    """.split()  # noqa: SIM905
)
NUMBERING = frozenset(
    "no nos vol vols pp p fig figs eq eqs sec secs ch chap art op ed eds pt n\u00b0".split()  # noqa: SIM905
)
"""Words that are abbreviations only before a number."""


def split(text: str) -> list[str]:
    """Return the sentences of a text, each with the white space before it; joined, they equal the text.

    White space at the end of the text belongs to the last sentence. A text of white space only is one sentence, an
    empty text has none.
    """
    sentences: list[str] = []
    start = 0
    for found in CANDIDATE.finditer(text):
        end = found.end()
        sentence = text[start:end]
        if sentence.isspace() or not sentence or (found.group() == "." and _continues(sentence, text[end : end + 3])):
            continue
        sentences.append(sentence)
        start = end
    rest = text[start:]
    if sentences and (rest.isspace() or not rest):
        sentences[-1] += rest
    elif rest:
        sentences.append(rest)
    return sentences


def _continues(sentence: str, following: str) -> bool:
    """Return whether the full stop at the end of the sentence does not end it."""
    word = sentence[-LONGEST_WORD - 1 : -1].rpartition(" ")[2].strip()
    if len(word) == LONGEST_WORD:
        return False
    word = word.lstrip("([\"'")
    if word.lower() in ABBREVIATIONS:
        return True
    if len(word) == 1 and word.isalpha():
        return word.isupper()
    if "." in word:
        return all(len(part) <= 1 for part in word.split("."))
    if word.lower() in NUMBERING:
        return following.lstrip()[:1].isdigit()
    return word.isdigit() and sentence[:-1].strip() == word
