"""The sentence rule."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genus.text.sentences import split

if TYPE_CHECKING:
    from pathlib import Path

CASES = {
    "plain": ["He left.", " She stayed!", " Why?", " Nobody knows\u2026", " Later, all did."],
    "title and initials": ["Dr. J. R. Smith met Mrs. Jones.", " They talked."],
    "dotted letters": ["At 5 p.m. in the U.S. Capitol, i.e. downtown, it rained.", " It poured."],
    "decimals and versions": ["Pi is 3.14 or so.", " Version 2.0.1 of a.b.c came out."],
    "numbering words": ["See Fig. 3 and vol. 2, No. 5.", " No.", " Not that."],
    "enumeration": ["1. Introduction to it.", " It began in 1990.", " He died."],
    "small letter follows": ["What?! he said... and left.", " Done."],
    "quotes and brackets": ['"Is it?" she asked.', ' "It is."', " (So it was.)", " Good."],
    "line breaks": ["A heading", "\nA line", "\n\n \nAnother without a stop"],
    "windows line breaks": ["One\r", "\nTwo"],
    "et al.": ["As Vaswani et al. Showed, etc. And so on.", " End."],
    "chinese": ["\u4ed6\u8d70\u4e86\u3002", "\u300c\u771f\u7684\uff1f\u300d", "\u662f\uff01", "\u597d"],
    "hindi": ["\u0935\u0939 \u0917\u092f\u093e\u0964", " \u0935\u0939 \u0906\u092f\u093e\u0964"],
    "arabic": ["\u0647\u0644 \u0630\u0647\u0628\u061f", " \u0646\u0639\u0645."],
    "russian small letter": ["\u042d\u0442\u043e \u0442. \u0435. \u0432\u0441\u0451.", " \u0414\u0430."],
    "thai has line breaks only": [
        "\u0e09\u0e31\u0e19\u0e23\u0e31\u0e01 \u0e40\u0e18\u0e2d \u0e21\u0e32\u0e01",
        "\n\u0e04\u0e23\u0e31\u0e1a",
    ],
    "nothing": [],
    "white space": [" \n "],
    "white space around": [" a. \n"],
}


@pytest.mark.parametrize("name", CASES)
def test_sentences(name: str) -> None:
    assert split("".join(CASES[name])) == CASES[name]


@given(st.text(alphabet=st.sampled_from("aB1.!?\u2026\u3002\u300d\"') \n\tDr\u0130"), max_size=60))
def test_joined_sentences_are_the_text(text: str) -> None:
    sentences = split(text)
    assert "".join(sentences) == text
    assert all(sentence.strip() for sentence in sentences) or len(sentences) == 1
    assert not any("\n" in sentence.strip() for sentence in sentences)


# Measured 0.993 and 0.921; what is missed are mostly clauses that the annotators count as sentences, as "(i) ...".
PRECISION, RECALL = 0.99, 0.91


@pytest.mark.shared
def test_boundaries_are_those_of_annotated_abstracts(shared: Path) -> None:
    both = only_ours = only_theirs = 0
    with gzip.open(shared / "data" / "scitldr_a" / "validation.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            sentences = [" ".join(sentence.split()) for sentence in json.loads(line)["source"]]
            theirs = _ends([f"{sentence} " for sentence in sentences[:-1]])
            ours = {end + 1 for end in _ends(split(" ".join(sentences))[:-1])}
            both += len(ours & theirs)
            only_ours += len(ours - theirs)
            only_theirs += len(theirs - ours)
    assert both / (both + only_ours) > PRECISION
    assert both / (both + only_theirs) > RECALL


def _ends(parts: list[str]) -> set[int]:
    ends, end = set(), 0
    for part in parts:
        end += len(part)
        ends.add(end)
    return ends
