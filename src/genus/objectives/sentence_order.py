"""Sentence-order prediction (Lan et al. 2019, section 3.1, inter-sentence coherence loss)."""

from __future__ import annotations

from typing import ClassVar

from genus.objectives.next_sentence import NextSentence


class SentenceOrder(NextSentence):
    """-Σ log p(0: the segments stand as in the text, 1: they are swapped | pooled first token)."""

    needs: ClassVar[frozenset[str]] = frozenset({"sentence_order"})
