"""Skip-gram with negative sampling, by gensim (Mikolov et al. 2013, arXiv:1310.4546, section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from genus.errors import GenusError
from genus.part import Count, Natural, NotNegative, Part, Positive
from genus.vectors import WordVectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SENTENCE = 10_000
"""Words of a text that gensim reads at once; it would drop those after them."""


class SkipGram(Part):
    """Skip-gram: each word predicts the words around it, among words drawn at random.

    log s(v'_o · v_i) + Σ_k log s(-v'_k · v_i), with s the sigmoid, i a word, o one within its window, and k drawn from
    the words' counts to the power of 0.75. Defaults are those of gensim, and of the released code, word2vec.c.
    """

    size: Count = 100
    """E, the dimension of the vectors."""
    window: Count = 5
    """Words to each side at most; how many is drawn for each word."""
    negatives: Count = 5
    """k, words drawn at random for each pair."""
    min_count: Count = 5
    """Words with fewer occurrences have no vector."""
    subsample: NotNegative = 1e-3
    """Share of the text over which a word's occurrences are left out at random; 0: none is."""
    lr: Positive = 0.025
    """Initial learning rate, which falls linearly."""
    epochs: Count = 5
    lowercase: bool = True
    """Ours: gensim and word2vec.c take text as it is."""
    seed: Natural = 1

    def train(self, texts: Iterable[str], workers: int = 1) -> WordVectors:
        """Train vectors on texts, whose words stand between white space, in order of frequency.

        Args:
            texts: read once for each epoch, and once before.
            workers: threads; with several, vectors are not the same each time.

        Raises:
            GenusError: gensim is missing, or no word is frequent enough.
        """
        try:
            from gensim.models import Word2Vec
        except ImportError:
            raise GenusError("training word vectors needs gensim: pip install 'genus[vectors]'") from None
        try:
            found = Word2Vec(
                sentences=_Sentences(texts, self.lowercase), sg=1, hs=0, vector_size=self.size, window=self.window,
                negative=self.negatives, min_count=self.min_count, sample=self.subsample, alpha=self.lr,
                epochs=self.epochs, workers=workers, seed=self.seed,
            )  # fmt: skip
        except RuntimeError as error:  # an empty vocabulary
            raise GenusError(f"no word vectors: {error}; give more text, or a smaller min_count") from None
        return WordVectors(list(found.wv.index_to_key), found.wv.vectors)

    def told(self) -> str:
        """Return the choices in words, for a model card."""
        from importlib.metadata import version

        choices = ", ".join(f"{name} {value}" for name, value in self.to_json().items() if name != "kind")
        return f"skip-gram with negative sampling, by gensim {version('gensim')}: {choices}"


@dataclass(frozen=True)
class _Sentences:
    """The words of texts, read anew each time."""

    texts: Iterable[str]
    lowercase: bool

    def __iter__(self) -> Iterator[list[str]]:
        for text in self.texts:
            for line in text.splitlines():
                words = (line.lower() if self.lowercase else line).split()
                for start in range(0, len(words), SENTENCE):
                    yield words[start : start + SENTENCE]
