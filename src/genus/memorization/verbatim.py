"""Verbatim runs: the longest run of tokens of a text that stands in the training text as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.curate.longest_match import LongestMatch
from genus.curate.occurrences import Query
from genus.curate.run_hashes import FACTORS, hashes, repeats, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from genus.curate.suffix_index import SuffixIndex
    from genus.tokens.store import Store
    from genus.tokens.tokenizer import Tokenizer

TOKENS = 50
"""Tokens in a row from which on a text is taken for memorized (Lee et al. 2021, arXiv:2107.06499, section 6.2)."""
SHOWN = 3
"""Documents that are told of a run."""


@dataclass(frozen=True, slots=True)
class Run:
    """The longest run of whole tokens of a text that stands in the corpus."""

    tokens: int
    text: str

    @property
    def characters(self) -> int:
        """How long it is in characters."""
        return len(self.text)


@dataclass(frozen=True, slots=True)
class Held:
    """Where a run stands."""

    occurrences: int
    documents: int
    """How many documents have it: the k of k-eidetic memorization (Carlini et al. 2020, section 3.1.1)."""
    shown: list[dict[str, Any]]
    """What is known of some of them: source, row and fields that were kept."""


class Verbatim:
    """Looks texts up in an index of the training text."""

    def __init__(self, index: SuffixIndex, tokenizer: Tokenizer) -> None:
        """Open an index.

        Raises:
            UsageError: there is none.
            GenusError: it is damaged.
        """
        self.index, self.tokenizer, self.match = index, tokenizer, LongestMatch(index)

    def longest(self, text: str) -> Run:
        """Return the longest run of tokens of a text that stands in one document, in the same characters.

        The text is tokenized as a whole, and a run begins and ends where tokens do; of runs with as many tokens, the
        first is returned.
        """
        spans = self.tokenizer.encode_with_offsets(text)[1].tolist()
        data, found, reached = text.encode(errors="replace"), Run(0, ""), 0
        at = _places(text)
        for first, (start, _) in enumerate(spans):
            if len(spans) - first <= found.tokens:
                break
            stop = int(np.searchsorted(at, at[start] + self.match.size(data, int(at[start])), "right")) - 1
            reached = max(reached, first)
            while reached < len(spans) and spans[reached][1] <= stop:
                reached += 1
            if reached - first > found.tokens:
                found = Run(reached - first, text[start : spans[reached - 1][1]])
        return found

    def held(self, run: Run) -> Held:
        """Return in how many documents, and in which, a run stands.

        Raises:
            UsageError: it is empty.
        """
        told = self.index.find(Query(run.text, 0, SHOWN))
        return Held(told.occurrences, told.documents, [one.identity for one in told.shown])


def _places(text: str) -> NDArray[np.int64]:
    """Return the byte in UTF-8 at which each character begins, and the end."""
    sizes = [len(one.encode(errors="replace")) for one in text]
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]) if sizes else np.zeros(1, np.int64)


def share_memorized(store: Store, texts: Sequence[Sequence[int]], length: int = TOKENS) -> float:
    """Return the share of the tokens of texts that stand in `length` tokens in a row of a document of a token store.

    Runs are compared by hashes of 64 bits.

    Source: Lee et al. 2021 (arXiv:2107.06499), section 6.2.
    """
    first, last = store.sentences[store.documents].T
    known = [run_hashes(np.asarray(store.ids[begin:end]), length) for begin, end in zip(first, last, strict=True)]
    kept = np.unique(np.concatenate([np.zeros(0, np.uint64), *known]))
    total = found = 0
    for text in texts:
        ids = np.array(text, np.uint32)
        flags = np.zeros(len(ids), np.bool_)
        mine = run_hashes(ids, length)
        if len(mine):
            for place in np.flatnonzero(repeats(mine, kept)):
                flags[place : place + length] = True
        total, found = total + len(ids), found + int(flags.sum())
    return found / max(1, total)


def run_hashes(ids: NDArray[Any], length: int) -> NDArray[np.uint64]:
    """Return a hash of 64 bits of each run of tokens."""
    if len(ids) < length:
        return np.zeros(0, np.uint64)
    return hashes(spread(ids.astype(np.uint32), 0), length, FACTORS[0])
