"""Word-level tokenizer for scripts without spaces: a segmenter cuts a text into words or syllables."""

from __future__ import annotations

import itertools
import re
from array import array
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from genus.part import Natural, VocabSize
from genus.text.alignment import aligned
from genus.text.normalization import SPACE, Normalization
from genus.text.segment import DictionaryWords, Segmenter
from genus.tokens import SpecialTokens  # a choice is read by its annotation
from genus.tokens.algorithms.byte_bpe import ROBERTA, in_order
from genus.tokens.files.layout import frame
from genus.tokens.tokenizer import HIDDEN, Tokenizer
from genus.tokens.training import TrainedTokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from genus.part import Part
    from genus.tokens.cached_encoders import TextEncoder

CUT = "<|>"
"""Separator of words in segmented text, which the backend in `tokenizer.json` expects."""


class PresegmentedWords(TrainedTokens):
    """Word-level vocabulary of a segmenter's words, in order of frequency; a space is a token.

    Ids as RoBERTa's: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, `<mask>` 4, and `<_>` 5. Other readers of
    `tokenizer.json` must normalize and segment a text themselves, and put `<|>` between words.
    """

    needs_unknown: ClassVar[bool] = True

    vocab_size: VocabSize
    segmenter: Segmenter = DictionaryWords()
    normalization: Normalization | None = None
    min_frequency: Natural = 4
    """Minimum count of a word in training."""
    special_tokens: SpecialTokens = ROBERTA

    @property
    def in_words(self) -> str:
        """Words, with the segmenter's description."""
        return f"words ({self.segmenter.in_words})"

    @property
    def unknown(self) -> str:
        """Description of the unknown token, which replaces an unknown word whole."""
        return f"a word that is not in the vocabulary becomes {self.special_tokens.unk}"

    @property
    def most_unspaced(self) -> int:
        """All of the sample: words are counted as the segmenter finds them, in time proportional to the text."""
        return self.train_on

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Count words and build the vocabulary: special tokens, the space, then the most frequent words."""
        cut = Cutter(self, self.special_tokens.names())
        counts: Counter[str] = Counter()
        for text in self.sample(texts):
            counts.update(cut(text))
        first = [*ordered(self.special_tokens), SPACE]
        frequent = (word for word, number in counts.most_common() if number >= self.min_frequency)
        pieces = list(dict.fromkeys([*first, *frequent]))[: self.vocab_size]
        return Tokenizer.of(self, self.of_vocabulary({piece: number for number, piece in enumerate(pieces)}))

    def of_vocabulary(self, pieces: dict[str, int]) -> Backend:
        """Return the backend of a finished vocabulary, which expects segmented texts."""
        backend = Backend(models.WordLevel(pieces, unk_token=self.special_tokens.unk))
        backend.pre_tokenizer = pre_tokenizers.Split(CUT, "removed")
        backend.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace(SPACE, " ")])
        backend.add_special_tokens(self.special_tokens.names())
        frame(backend, self.special_tokens)
        return backend

    def word_starts(self, pieces: list[str]) -> list[bool]:
        """Return true for every piece: each is a whole word."""
        return [True] * len(pieces)

    def normalizers(self) -> list[Part]:
        """Return the normalization, if there is one, and the segmenter."""
        return [*([] if self.normalization is None else [self.normalization]), self.segmenter]

    def encoder(self, backend: Backend, typecode: str) -> TextEncoder:
        """Return an encoder that segments a text and looks up its words."""
        ids = backend.get_vocab()
        special = [token.content for token in backend.get_added_tokens_decoder().values() if token.special]
        unknown = self.special_tokens.unk
        if unknown is not None and unknown not in ids:
            unknown = HIDDEN + unknown
        return WordIds(Cutter(self, special), ids, unknown, typecode)

    def hf_config(self) -> dict[str, Any]:
        """Return `PreTrainedTokenizerFast`, which reads any `tokenizer.json`."""
        return {"tokenizer_class": "PreTrainedTokenizerFast"}

    @classmethod
    def from_folder(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Return None: the Hugging Face layout does not record the segmenter of a vocabulary."""
        return None


class Cutter:
    """Pre-tokenizer: normalizes a text, splits it at the names of special tokens, and segments it."""

    def __init__(self, choice: PresegmentedWords, special: Iterable[str]) -> None:
        names = sorted({*special, SPACE}, key=len, reverse=True)
        self.choice, self.names = choice, frozenset(names)
        self.parts = re.compile(f"({'|'.join(map(re.escape, names))})")

    def __call__(self, text: str) -> Iterator[str]:
        """Yield the words of a text, and `<_>` for each run of spaces."""
        return map(self.named, self.written(self.cleaned(text)))

    def named(self, word: str) -> str:
        """Return a word as the vocabulary has it: `<_>` for spaces."""
        return SPACE if word.isspace() and word not in self.names else word

    def cleaned(self, text: str) -> str:
        """Return the normalized text."""
        return text if self.choice.normalization is None else self.choice.normalization.clean(text)

    def written(self, cleaned: str) -> Iterator[str]:
        """Yield the words of a normalized text as they stand there; joined, they are the text."""
        for part in filter(None, self.parts.split(cleaned)):
            yield from (part,) if part in self.names else self.choice.segmenter.words(part)


class WordIds:
    """Word-level encoder: segments a text and looks up the ids of its words."""

    def __init__(self, cutter: Cutter, ids: dict[str, int], unknown: str | None, typecode: str) -> None:
        self.cutter, self.ids, self.typecode = cutter, ids, typecode
        self.unknown = [] if unknown is None else [ids[unknown]]

    def __call__(self, text: str) -> bytes:
        """Return the ids of a text without adding special tokens."""
        ids = self.ids
        found = array(self.typecode)
        for word in self.cutter(text):
            found.extend([ids[word]] if word in ids else self.unknown)
        return found.tobytes()

    def apart(self, text: str, cuts: Sequence[int]) -> list[int]:
        """Return all cuts: parts of a text are segmented separately."""
        return list(cuts)

    def placed(self, text: str, cuts: Sequence[int]) -> list[bytes]:
        """Return the ids of each part, encoded separately."""
        return [self(text[start:stop]) for start, stop in itertools.pairwise([0, *cuts, len(text)])]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the characters of each word in the text as it was before it was normalized."""
        cleaned = self.cutter.cleaned(text)
        words = list(self.cutter.written(cleaned))
        ends = itertools.pairwise(itertools.accumulate(map(len, words), initial=0))
        known = (bool(self.unknown) or self.cutter.named(word) in self.ids for word in words)
        return aligned(text, cleaned, list(itertools.compress(ends, known)))


def ordered(specials: SpecialTokens) -> list[str]:
    """Return all special tokens in the order of fairseq's ids."""
    first, last = in_order(specials)
    return [*first, *last]
