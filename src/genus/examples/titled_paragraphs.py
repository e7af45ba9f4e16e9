"""What a document is asked for by, and sentences that answer more or less.

Legend: E examples, one a document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from genus.examples.pairs import Pairs, cut, elsewhere

if TYPE_CHECKING:
    from genus.examples.blocks import Block
    from genus.examples.pairs import Labeled
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary


class TitledSentences(Pairs):
    """The first sentence of each document, its title, with another one.

    Label 0: the second sentence, which is strongly relevant; 1: a later one, weakly; 2: one of another document, not.
    The label is drawn evenly; where the document has no later sentence, 1 becomes 2. A document of one sentence is left
    out.

    Pairs of your own are documents too: the query, on the next line what was clicked, and on further lines what was
    shown and not clicked.

    Source: Sun et al. 2019, ERNIE 2.0, section 3.2.3, IR relevance, whose pairs are from a search engine's log.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"relevance"})

    def pairs(self, block: Block, store: Store, vocabulary: Vocabulary, room: int, rng: np.random.Generator) -> Labeled:
        """Return the spans and labels of a block's pairs."""
        _, title = np.unique(block.document, return_index=True)
        later = block.end[title] - title - 2
        title, later = title[later >= 0], later[later >= 0]
        label = rng.integers(0, 3, len(title))
        label[(label == 1) & (later == 0)] = 2
        shown = np.where(label == 1, title + 2 + (rng.random(len(title)) * later).astype(np.int64), title + 1)
        start, stop = block.start[shown], block.stop[shown]
        away = label == 2
        least = np.zeros(away.sum(), dtype=np.int64)  # tokens: one sentence is enough
        start[away], stop[away] = elsewhere(store, block.document[title[away]], least, rng)
        return *cut((block.start[title], block.stop[title]), (start, stop), room, rng), label.astype(np.int8)
