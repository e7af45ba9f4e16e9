"""ERNIE 2.0's pair formats: discourse relation (connectives) and IR relevance (titles and paragraphs)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.examples.formats.pairs import PairFormat, cut, elsewhere
from genus.part import Count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from genus.examples.blocks import SentenceBlock
    from genus.examples.formats.pairs import Labeled
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


class TitledParagraphs(PairFormat):
    """IR relevance: pairs of a document's first sentence (its title, or the query it answers) and a paragraph.

    A paragraph is a run of consecutive sentences: as many as fit and the document has, at least one. Label 0, strongly
    relevant: it begins right after the title; 1, weakly relevant: it begins later; 2, not relevant: it is from another
    document. The label is drawn uniformly; if the document has no later sentence, 1 becomes 2. A document of one
    sentence is left out. Titles exist if `--title` names a field; otherwise the first sentence of a text is used.

    Source: Sun et al. 2019, ERNIE 2.0, section 3.2.3, IR relevance, whose pairs are from a search engine's log: clicked
    results are strongly relevant, shown but not clicked ones weakly. Deviation: pairs of titles and paragraphs.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"relevance"})

    sentences: Count | None = None
    """Most sentences per paragraph (None: no limit); 1 for logs: lines with the query, the clicked result, the rest."""

    @property
    def classes(self) -> int:
        """Three classes: strongly, weakly and not relevant."""
        return 3

    def pairs(
        self, block: SentenceBlock, store: Store, vocabulary: Vocabulary, room: int, rng: np.random.Generator
    ) -> Labeled:
        """Return starts and stops (E, 2) and labels (E,) of a block's pairs."""
        _, title = np.unique(block.document, return_index=True)
        later = block.end[title] - title - 2
        title, later = title[later >= 0], later[later >= 0]
        label = rng.integers(0, 3, len(title))
        label[(label == 1) & (later == 0)] = 2
        first = np.where(label == 1, title + 2 + (rng.random(len(title)) * later).astype(np.int64), title + 1)
        titles, start = (block.start[title], block.stop[title]), block.start[first]
        away = label == 2
        start[away], _ = elsewhere(store, block.document[title[away]], np.zeros(away.sum(), dtype=np.int64), rng)
        stop = self._stop(store, start, room - (titles[1] - titles[0]))
        return *cut(titles, (start, stop), room, rng), label.astype(np.int8)

    def _stop(self, store: Store, start: NDArray[np.int64], room: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the stops (E,), past the last token, of the paragraphs that begin at tokens `start` (E,)."""
        sentence = np.searchsorted(store.sentences, start)
        last = store.documents[np.searchsorted(store.documents[:, 1], sentence, side="right"), 1]
        if self.sentences is not None:
            last = np.minimum(last, sentence + self.sentences)
        full = np.searchsorted(store.sentences, start + room, side="right") - 1
        return store.sentences[np.clip(full, sentence + 1, last)]


WordTuple = tuple[str, ...]

PUNCTUATION = ",:;"
"""Punctuation after a connective, which is removed with it."""

ENGLISH = (
    "and", "but", "so", "then", "or", "yet", "also", "however", "therefore", "thus", "instead", "meanwhile", "moreover",
    "furthermore", "similarly", "finally", "otherwise", "nevertheless", "indeed", "because", "although", "for example",
    "for instance", "in fact", "as a result", "in addition", "in contrast", "on the other hand",
)  # fmt: skip


class ConnectedSentences(PairFormat):
    """Discourse relation: pairs of a sentence and the next one, whose initial connective is removed and predicted.

    The label is the connective's index in the list. The longest matching connective is taken, and a comma after it is
    removed too. A sentence of which nothing remains makes no pair.

    Source: Sun et al. 2019, ERNIE 2.0, section 3.2.3, discourse relation, after Sileo et al. 2019 (arXiv:1903.11850),
    section 3, whose list has 174 markers; ours is short and common.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"discourse_relation"})
    stochastic: ClassVar[bool] = False

    connectives: tuple[str, ...] = ENGLISH
    """Connectives in lowercase, 2 to 127; a label is an index of this list."""

    def __post_init__(self) -> None:
        """Check the list of connectives.

        Raises:
            ValueError: it has fewer than 2 or more than 127 entries, or duplicates.
        """
        if not 2 <= len(set(self.connectives)) == len(self.connectives) <= 127:
            raise ValueError("connectives: expected 2 to 127 different ones")

    @property
    def classes(self) -> int:
        """One class per connective."""
        return len(self.connectives)

    def pairs(
        self, block: SentenceBlock, store: Store, vocabulary: Vocabulary, room: int, rng: np.random.Generator
    ) -> Labeled:
        """Return starts and stops (E, 2) and labels (E,) of a block's pairs."""
        table = {tuple(connective.split()): place for place, connective in enumerate(self.connectives)}
        follows = np.flatnonzero(np.diff(block.document) == 0) + 1
        likely = follows[_openings(vocabulary, self.connectives)[store.ids[block.start[follows]]]]
        second, skipped, label = [], [], []
        for sentence in likely.tolist():
            ids = store.ids[block.start[sentence] : block.stop[sentence]]
            place, length = _match(ids, vocabulary, table)
            if 0 < length < len(ids):
                second.append(sentence)
                skipped.append(length)
                label.append(place)
        after = np.array(second, dtype=np.int64)
        start = block.start[after] + np.array(skipped, dtype=np.int64)
        before = block.start[after - 1], block.stop[after - 1]
        return *cut(before, (start, block.stop[after]), room, rng), np.array(label, dtype=np.int8)


@lru_cache(maxsize=4)
def _openings(vocabulary: Vocabulary, connectives: WordTuple) -> NDArray[np.bool_]:
    """Return (V,) bool: whether a token can begin a connective."""
    texts = (text.lower().rstrip(PUNCTUATION) for text in vocabulary.texts)
    return np.array([bool(text) and any(one.startswith(text) for one in connectives) for text in texts])


def _match(ids: NDArray[np.unsignedinteger], vocabulary: Vocabulary, table: dict[WordTuple, int]) -> tuple[int, int]:
    """Return the index of the longest connective at a sentence's start, and its tokens with punctuation (0: none)."""
    found = 0, 0
    words: WordTuple = ()
    for word, end in _words(ids, vocabulary):
        bare = word.rstrip(PUNCTUATION)
        if not bare:
            return (found[0], end) if table.get(words) == found[0] and found[1] else found
        words = (*words, bare)
        if words in table:
            found = table[words], end
        if len(words) == max(map(len, table)) + 1 or bare != word:
            break
    return found


def _words(ids: NDArray[np.unsignedinteger], vocabulary: Vocabulary) -> Iterator[tuple[str, int]]:
    """Yield the words of a sentence in lowercase, each with the number of tokens up to its end."""
    word = ""
    for place, number in enumerate(ids.tolist()):
        if place and vocabulary.word_start[number]:
            yield word.lower(), place
            word = ""
        word += vocabulary.texts[number]
    yield word.lower(), len(ids)
