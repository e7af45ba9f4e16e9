"""The merges of a BPE vocabulary by id, and BPE dropout: ids of a text as other merges would have made them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import GenusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import tokenizers
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Merges:
    """The merges of a vocabulary in which a piece tells whether it ends a word."""

    ranks: Mapping[tuple[int, int], tuple[int, int]]
    """By a pair of pieces: the merge's place in the order of training, and the piece that both become."""
    parts: Mapping[int, tuple[int, int]]
    """The pair of which a piece is made."""
    ends: frozenset[int]
    """Pieces that end a word."""

    @classmethod
    def of(cls, backend: tokenizers.Tokenizer) -> Merges:
        """Return the merges of a tokenizer's backend.

        Raises:
            GenusError: it has none, or its pieces do not tell where words end.
        """
        model = json.loads(backend.to_str())["model"]
        suffix = model.get("end_of_word_suffix")
        if model.get("type") != "BPE" or not suffix:
            raise GenusError("BPE dropout needs pieces that tell where words end, as those of EndOfWordByteBPE; take "
                             "that, or set bpe_dropout=0")  # fmt: skip
        ids, ranks, parts = model["vocab"], dict[tuple[int, int], tuple[int, int]](), dict[int, tuple[int, int]]()
        for rank, (left, right) in enumerate(model["merges"]):
            pair, whole = (ids[left], ids[right]), ids[left + right]
            ranks.setdefault(pair, (rank, whole))
            parts.setdefault(whole, pair)
        return cls(ranks, parts, frozenset(number for piece, number in ids.items() if piece.endswith(suffix)))

    def dropped(self, ids: Iterable[int], share: float, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the ids of a text as they are if each merge is left out with this probability.

        At each step, of all merges that are possible in a word, each is left out with the probability `share`, and the
        first of those that remain is made; a word is finished where none remains.

        Source: Provilkov et al. 2019 (arXiv:1910.13267), algorithm 1.
        """
        found = [piece for word in self.words(ids) for piece in self._merged(word, share, rng)]
        return np.array(found, dtype=np.int64)

    def words(self, ids: Iterable[int]) -> Iterator[list[int]]:
        """Yield the symbols of each word, of which its pieces were made."""
        word: list[int] = []
        for number in ids:
            word += self._apart(int(number))
            if word[-1] in self.ends:
                yield word
                word = []
        if word:
            yield word

    def _apart(self, number: int) -> list[int]:
        if number not in self.parts:
            return [number]
        left, right = self.parts[number]
        return [*self._apart(left), *self._apart(right)]

    def _merged(self, word: list[int], share: float, rng: np.random.Generator) -> list[int]:
        word = [*word]
        while True:
            pairs = enumerate(pairwise(word))
            possible = [(*self.ranks[pair], at) for at, pair in pairs if pair in self.ranks]
            kept = rng.random(len(possible)) >= share
            if not kept.any():
                return word
            _, whole, at = min(one for one, stays in zip(possible, kept.tolist(), strict=True) if stays)
            word[at : at + 2] = [whole]
