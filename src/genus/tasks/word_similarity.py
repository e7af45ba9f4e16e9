"""Word similarity: the rank correlation of the cosines of words' vectors with people's judgements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import GenusError, say
from genus.evaluate.metrics import Pearson, Spearman
from genus.part import Part
from genus.tasks.embedded_rows import cosines
from genus.tasks.features import feature_blocks
from genus.text.read import read_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.export.folder import LoadedModel
    from genus.tasks.report import Metrics
    from genus.train.run import Run

COLUMNS = 3


@dataclass(frozen=True, slots=True)
class WordPair:
    """Two words, and how similar people find them."""

    first: str
    second: str
    score: float


class WordSimilarity(Part):
    """Word similarity: each word is read by itself, and has the mean of its tokens' states, without special ones.

    Pairs with a word that the tokenizer does not know, or leaves nothing of, are counted and left out, as by gensim's
    `evaluate_word_pairs`.

    Source: Finkelstein et al. 2002 (WordSim-353); Hill et al. 2015 (SimLex-999), section 4: Spearman's correlation.
    """

    layers: tuple[int, ...] = (-1,)
    """Layers whose states stand side by side: 0 are the embeddings, -1 the last layer."""

    def measure(self, model: LoadedModel, pairs: Sequence[WordPair], run: Run | None = None) -> Metrics:
        """Return `spearman` and `pearson`, None where they are undefined, and the number of `pairs` that they are of.

        Raises:
            GenusError: no pair is left.
        """
        vectors = self._vectors(model, sorted({word for pair in pairs for word in (pair.first, pair.second)}), run)
        kept = [pair for pair in pairs if pair.first in vectors and pair.second in vectors]
        if lost := len(pairs) - len(kept):
            say(f"{lost:,} of {len(pairs):,} pairs are left out: they have a word that the model does not know")
        if not kept:
            raise GenusError("word similarity: the model knows both words of no pair")
        found = cosines(np.array([[vectors[pair.first], vectors[pair.second]] for pair in kept]))
        truth = np.array([pair.score for pair in kept])
        metrics = (Spearman(), Pearson())
        measured = {one.name: one(truth, found) if one.defined(truth) else None for one in metrics}
        return measured | {"pairs": float(len(kept))}

    def _vectors(self, model: LoadedModel, words: Sequence[str], run: Run | None) -> dict[str, NDArray[np.float32]]:
        """Return the vectors (E,) of the words that the tokenizer knows."""
        unknown, found, before = model.tokenizer.tokens.special_tokens.unk, {}, 0
        for block in feature_blocks(model, words, self.layers, "token", run=run):
            own = np.array([place.start is not None for place in block.places])
            strange = np.array([place.text == unknown for place in block.places])
            for number in np.unique(block.rows):
                here = (block.rows == number) & own
                if here.any() and not (here & strange).any():
                    found[words[before + number]] = block.vectors[here].mean(0)
            before += block.texts
        return found


def read_pairs(path: Path) -> list[WordPair]:
    """Return the pairs of a table without header: two words and a number on a line, by tabs or commas; `#`: a comment.

    A first line whose third column is no number is a header.

    Raises:
        GenusError: the file cannot be read, or a line has other columns.
    """
    pairs: list[WordPair] = []
    headed = False
    for number, line in enumerate(read_whole(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        columns = [one.strip() for one in line.split("\t" if "\t" in line else ",")]
        where = f"{path}, line {number}"
        if len(columns) != COLUMNS:
            raise GenusError(f"{where}: expected two words and a number, by tabs or commas, got {len(columns)} columns")
        try:
            pairs.append(WordPair(columns[0], columns[1], float(columns[2])))
        except ValueError:
            if pairs or headed:
                raise GenusError(f"{where}: {columns[2]!r:.40} is no number") from None
            headed = True
    if not pairs or not np.isfinite([pair.score for pair in pairs]).all():
        raise GenusError(f"{path}: holds no pairs of words, or a number that is not finite")
    return pairs
