"""Near duplicates: documents that share most of their text (Lee et al. 2021, arXiv:2107.06499, section 4.2)."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from genus.curate import CorpusFilter, Decision, Outcome, Removal
from genus.curate.duplicates import hashes
from genus.curate.minhash import edit_similarity, found_with, jaccard, mixed, rows_for, shingles, words_of
from genus.curate.report import SAMPLES, SHOWN
from genus.curate.sketches import signatures
from genus.part import Count, Share, SomeShare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from genus.curate import Keys

CLUSTER = "cluster"
"""The field of documents that are near duplicates of each other."""
RECALL = 0.99
"""Least probability with which a pair as similar as the threshold is compared."""
TEXTS = 2_000
"""Texts that are held while pairs are compared."""
HEADS = 64
"""Most documents of a band's bucket with which a further one is compared."""
MOST_DIFFERENT = 1 << 20
"""Pairs that are remembered as different."""


class NearDuplicates(CorpusFilter):
    """Keep one of each cluster of documents that are nearly the same.

    Candidates agree in all rows of a band of their MinHash signatures. A pair is confirmed by the exact Jaccard index
    of its sets of shingles and by its edit similarity, both on words in lower case without punctuation; clusters are
    the connected components of confirmed pairs and of copies. Deciding takes some 30 bytes for each document, and the
    words of the last candidates.
    """

    words: Count = 5
    """Words of a shingle."""
    values: Count = 128
    """Values of a signature (Lee et al.: 9,000)."""
    rows: Count | None = None
    """Values of a band; None: as many as find 99 % of the pairs at the threshold (Lee et al.: 20)."""
    threshold: SomeShare = 0.8
    """Least Jaccard index of near duplicates."""
    edit: Share | None = 0.8
    """Least edit similarity; None: it is not asked for."""
    keep: Literal["first", "longest", "all"] = "first"
    """Which of a cluster is kept; of several that are as long, the first. all: every one, and the field `cluster` is
    the same for all of a cluster, so that a token store holds them out together."""

    def __post_init__(self) -> None:
        """Check that a signature has a band."""
        if self.rows is not None and self.rows > self.values:
            raise ValueError(f"a band of {self.rows} rows has no place in a signature of {self.values} values")

    @property
    def marks(self) -> str | None:
        """The field of the cluster."""
        return CLUSTER if self.keep == "all" else None

    @property
    def banding(self) -> tuple[int, int]:
        """Number of bands, and of rows in each."""
        rows = self.rows or rows_for(self.threshold, self.values, RECALL)
        return self.values // rows, rows

    def keys(self, text: str) -> NDArray[np.uint32]:
        """Return the signature of the text, and the two halves of the hash of its exact form, (1, values + 2)."""
        return self.keys_of([text])[0]

    def keys_of(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """Return the keys of each of many texts."""
        found = signatures(texts, self.words, self.values)
        whole = hashes(texts).view(np.uint32).reshape(-1, 2)
        return [*np.concatenate([found, whole], axis=1)[:, None]]

    def decide(self, keys: Keys) -> Decision:
        """Find the clusters, and remove all but one document of each."""
        clusters = Clusters(keys, self)
        clusters.join(self.values, self.values + 2, copies=True)
        bands, rows = self.banding
        for band in range(bands):
            clusters.join(band * rows, (band + 1) * rows)
        removed: NDArray[Any] = np.zeros(keys.documents, np.uint64 if self.keep == "all" else np.bool_)
        names = self._names(keys) if self.keep == "all" else removed
        sizes: Counter[int] = Counter()
        largest: list[NDArray[np.intp]] = []
        for members in clusters.members():
            sizes[len(members)] += 1
            largest = sorted([*largest, members], key=len, reverse=True)[:SAMPLES]
            if self.keep == "all":
                removed[members] = names[members[0]]
            else:
                removed[members] = True
                removed[self._kept(members.tolist(), keys)] = False
        facts = {
            "bands": bands,
            "rows": rows,
            "probability at the threshold": round(found_with(self.threshold, bands, rows), 4),
            "pairs compared": clusters.compared,
            "clusters by size": {str(size): number for size, number in sorted(sizes.items())},
            "largest clusters": [
                {"documents": len(members), "texts": [keys.text(one)[:SHOWN] for one in members[:SAMPLES].tolist()]}
                for members in largest
            ],
        }
        return Decision(removed, facts)

    def apply(self, text: str, removed: NDArray[Any]) -> Outcome:
        """Return the text, if it is the one that is kept, or with the name of its cluster."""
        if self.keep == "all":
            return Outcome(text, facts={CLUSTER: f"{removed[0]:016x}"} if removed[0] else {})
        return Outcome("", Removal("near_duplicate", text)) if removed[0] else Outcome(text)

    def _names(self, keys: Keys) -> NDArray[np.uint64]:
        """Return of each document the hash of its exact form, by which a cluster is named after its first text."""
        found = [np.ascontiguousarray(shard[:, self.values :]).view(np.uint64)[:, 0] for shard in keys.shards()]
        return np.concatenate([np.zeros(0, np.uint64), *found])

    def _kept(self, members: list[int], keys: Keys) -> int:
        if self.keep == "first":
            return members[0]
        return max(members, key=lambda member: (len(keys.text(member)), -member))


class Clusters:
    """Sets of documents that are joined pair by pair (union-find, the least number being the root)."""

    def __init__(self, keys: Keys, choice: NearDuplicates) -> None:
        self.keys = keys
        self.choice = choice
        self.roots = np.arange(keys.documents)
        self.compared = 0
        self.different: set[tuple[int, int]] = set()
        self.words = lru_cache(TEXTS)(lambda document: words_of(keys.text(document)))
        self.shingles = lru_cache(TEXTS)(lambda document: shingles(self.words(document), choice.words))

    def root(self, document: int) -> int:
        """Return the least document of a set, and shorten the way to it."""
        way = []
        while (above := int(self.roots[document])) != document:
            way.append(document)
            document = above
        self.roots[way] = document
        return document

    def join(self, begin: int, end: int, *, copies: bool = False) -> None:
        """Join documents whose keys agree from column `begin` to `end` and that are near, or if they are `copies`."""
        for bucket in self._buckets(begin, end):
            heads: list[int] = []
            for document in map(int, bucket):
                known = {self.root(head) for head in heads}
                if self.root(document) in known:
                    continue
                near = next((head for head in heads if copies or self._near(head, document)), None)
                if near is not None:
                    least, other = sorted((self.root(near), self.root(document)))
                    self.roots[other] = least
                elif len(heads) < HEADS:
                    heads.append(document)

    def members(self) -> Iterator[NDArray[np.intp]]:
        """Yield the documents of each set of several, in order."""
        roots = np.fromiter(map(self.root, range(len(self.roots))), np.intp, len(self.roots))
        yield from _equal(roots)

    def _buckets(self, begin: int, end: int) -> Iterator[NDArray[np.intp]]:
        found = []
        for shard in self.keys.shards():
            hashed = np.zeros(len(shard), np.uint64)
            for column in range(begin, end):
                hashed = mixed(hashed + shard[:, column].astype(np.uint64))
            found.append(hashed)
        yield from _equal(np.concatenate(found)) if found else ()

    def _near(self, left: int, right: int) -> bool:
        if (left, right) in self.different:
            return False
        self.compared += 1
        near = jaccard(self.shingles(left), self.shingles(right)) >= self.choice.threshold
        if near and self.choice.edit is not None:
            near = edit_similarity(self.words(left), self.words(right)) >= self.choice.edit
        if not near and len(self.different) < MOST_DIFFERENT:
            self.different.add((left, right))
        return near


def _equal(values: NDArray[np.generic]) -> Iterator[NDArray[np.intp]]:
    """Yield the ascending places of each value that stands at several."""
    order = np.argsort(values, kind="stable")
    ends = np.flatnonzero(values[order][1:] != values[order][:-1]) + 1
    begins = np.concatenate([[0], ends]).astype(np.intp)
    sizes = np.diff(np.concatenate([begins, [len(values)]]))
    for begin, size in zip(begins[sizes > 1], sizes[sizes > 1], strict=True):
        yield order[begin : begin + size]
