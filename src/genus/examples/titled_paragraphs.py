"""What a document is asked for by, and paragraphs that answer more or less.

Legend: E examples, one a document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.examples.pairs import Pairs, cut, elsewhere
from genus.part import Count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.examples.blocks import Block
    from genus.examples.pairs import Labeled
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


class TitledParagraphs(Pairs):
    """The first sentence of each document, its title or the query it answers, with a paragraph.

    A paragraph is consecutive sentences: as many as fit and the document has, and always one. Label 0: it begins right
    after the title, and is strongly relevant; 1: it begins later, weakly; 2: it is from another document, not. The
    label is drawn evenly; where the document has no later sentence, 1 becomes 2. A document of one sentence is left
    out. Titles are there where `--title` names a field; without, the first sentence of a text stands in.

    Source: Sun et al. 2019, ERNIE 2.0, section 3.2.3, IR relevance, whose pairs are from a search engine's log: strong
    is what was clicked, weak what was shown and not clicked. Titles and their paragraphs are ours.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"relevance"})

    sentences: Count | None = None
    """The most that a paragraph has; 1 for logs: a line for the query, one for what was clicked, more for the rest."""

    @property
    def classes(self) -> int:
        """Three: strongly, weakly and not relevant."""
        return 3

    def pairs(self, block: Block, store: Store, vocabulary: Vocabulary, room: int, rng: np.random.Generator) -> Labeled:
        """Return the spans and labels of a block's pairs."""
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
        """Return past the last token (E,) of the paragraphs that begin at tokens `start` (E,)."""
        sentence = np.searchsorted(store.sentences, start)
        last = store.documents[np.searchsorted(store.documents[:, 1], sentence, side="right"), 1]
        if self.sentences is not None:
            last = np.minimum(last, sentence + self.sentences)
        full = np.searchsorted(store.sentences, start + room, side="right") - 1
        return store.sentences[np.clip(full, sentence + 1, last)]
