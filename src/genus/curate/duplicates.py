"""Filters of what the corpus already has: whole documents, and spans of sentences."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.curate import CorpusFilter, Decision, Outcome, Removal
from genus.part import Count
from genus.text.sentences import split

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from genus.curate import Keys

AT_ONCE = 1 << 24
"""Keys that are sorted at once, which takes some 40 bytes each."""


class ExactDuplicates(CorpusFilter):
    """Keep the first of documents with the same text.

    Texts are compared by hashes of 64 bits: of a billion different ones, two are taken for the same with a probability
    of 3 %.
    """

    def keys(self, text: str) -> NDArray[np.uint64]:
        """Return the hash of the text."""
        return hashes([text])

    def decide(self, keys: Keys) -> Decision:
        """Remove the texts whose hash has stood before."""
        return Decision(stood_before(keys), {})

    def apply(self, text: str, removed: NDArray[np.bool_]) -> Outcome:
        """Return the text, if it is the first of its kind."""
        return Outcome("", Removal("copy", text)) if removed[0] else Outcome(text)


class RepeatedSpans(CorpusFilter):
    """Keep the first of spans of `sentences` sentences that occur more than once in the corpus.

    C4 does so (Raffel et al. 2020, arXiv:1910.10683, section 2.2); its released code compares single lines. Spans are
    compared in lower case, without the white space around their sentences. A sentence goes with every repeated span in
    which it stands, so that of one sentence many times in a row only the first is left.
    """

    sentences: Count = 3

    def keys(self, text: str) -> NDArray[np.uint64]:
        """Return the hash of every span."""
        parts = [sentence.strip().lower() for sentence in split(text)]
        return hashes("\n".join(parts[i : i + self.sentences]) for i in range(len(parts) - self.sentences + 1))

    def decide(self, keys: Keys) -> Decision:
        """Remove the spans whose hash has stood before."""
        return Decision(stood_before(keys), {})

    def apply(self, text: str, removed: NDArray[np.bool_]) -> Outcome:
        """Return the sentences that stand in no removed span."""
        sentences = split(text)
        stays = np.ones(len(sentences), np.bool_)
        for place in np.flatnonzero(removed):
            stays[place : place + self.sentences] = False
        left = "".join(sentence for sentence, stay in zip(sentences, stays, strict=True) if stay).strip()
        if not left:
            return Outcome("", Removal("repeated_span", text))
        gone = (sentence.strip() for sentence, stay in zip(sentences, stays, strict=True) if not stay)
        return Outcome(left, None, [Removal("repeated_span", sentence) for sentence in gone])


def hashes(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Return a hash of 64 bits of each text, the same on all machines."""
    found = b"".join(blake2b(text.encode(errors="replace"), digest_size=8).digest() for text in texts)
    return np.frombuffer(found, "<u8").astype(np.uint64)


def stood_before(keys: Keys, at_once: int | None = None) -> NDArray[np.bool_]:
    """Return for each of many hashes whether an equal one has stood before it.

    They are laid out on disk in parts by their upper bits, of about `at_once` each, which are then sorted one by one:
    every hash is read three times, however many there are. On disk are 17 bytes for each.

    Args:
        keys: hashes of 64 bits.
        at_once: hashes that are sorted at once; None: `AT_ONCE`.
    """
    total = sum(len(shard) for shard in keys.shards())
    parts = max(1, -(-total // (at_once or AT_ONCE)))
    sizes = np.zeros(parts, np.int64)
    for shard in keys.shards():
        sizes += np.bincount(_part(shard, parts), minlength=parts)
    values, places = keys.scratch(total, np.uint64), keys.scratch(total, np.int64)
    ends = np.cumsum(sizes)
    free, begin = ends - sizes, 0
    for shard in keys.shards():
        part = _part(shard, parts)
        order = np.argsort(part, kind="stable")  # within a part the corpus's order stays
        number = np.bincount(part, minlength=parts)
        place = np.repeat(free - np.cumsum(number) + number, number) + np.arange(len(shard))
        values[place], places[place] = shard[order], order + begin
        free, begin = free + number, begin + len(shard)
    before = keys.scratch(total, np.bool_)
    for size, end in zip(sizes.tolist(), ends.tolist(), strict=True):
        value, place = values[end - size : end], places[end - size : end]
        order = np.argsort(value, kind="stable")
        same = value[order][1:] == value[order][:-1]
        before[place[order][1:][same]] = True
    return before


def _part(hashed: NDArray[Any], parts: int) -> NDArray[np.int64]:
    """Return the part of each hash, by its upper bits."""
    return ((hashed >> np.uint64(32)) % np.uint64(parts)).astype(np.int64)
