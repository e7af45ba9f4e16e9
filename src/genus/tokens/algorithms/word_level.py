"""Word-level tokenizer: words between white space, and line ends (Dai et al. 2019, released code, vocabulary.py)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from genus.part import Natural, VocabSize
from genus.tokens import SpecialTokens
from genus.tokens.cached_encoders import CutAtSpaces
from genus.tokens.files.layout import frame, read_config, read_specials
from genus.tokens.tokenizer import Tokenizer
from genus.tokens.training import TrainedTokens, fit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from genus.tokens.cached_encoders import TextEncoder

LINES = SpecialTokens(
    pad="<pad>",
    unk="<unk>",
    eos="<eos>",
    cls="<eos>",
    sep="<eos>",
    mask="<mask>",
    single="$A <eos>",
    pair="$A <eos> $B:1 <eos>:1",
    summary="last",
)


class WordLevel(TrainedTokens):
    """Word-level vocabulary in order of frequency, as adaptive softmax needs it; the end of a line is the token `sep`.

    Consecutive line ends with only white space between them give one token.
    """

    needs_unknown: ClassVar[bool] = True

    vocab_size: VocabSize
    lowercase: bool = False
    min_frequency: Natural = 3
    """Minimum count of a word in training; WikiText omits words with fewer than 3 occurrences."""
    special_tokens: SpecialTokens = LINES

    @property
    def unknown(self) -> str:
        """Description of the unknown token, which replaces an unknown word whole."""
        return f"a word that is not in the vocabulary becomes {self.special_tokens.unk}"

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Count words and build the vocabulary: special tokens, then the most frequent words."""
        backend = self._backend({})
        trainer = trainers.WordLevelTrainer(
            vocab_size=self.vocab_size, min_frequency=self.min_frequency, show_progress=sys.stderr.isatty()
        )
        fit(backend, self.sample(texts), trainer)
        counted = backend.get_vocab()
        words = dict.fromkeys([*self.special_tokens.names(), *sorted(counted, key=counted.__getitem__)])
        return Tokenizer.of(self, self.of_vocabulary(list(words)[: self.vocab_size]))

    def of_vocabulary(self, words: list[str]) -> Backend:
        """Return the backend of a finished vocabulary, given in order of id."""
        backend = self._backend({word: number for number, word in enumerate(words)})
        backend.add_special_tokens(self.special_tokens.names())
        frame(backend, self.special_tokens)
        return backend

    def word_starts(self, pieces: list[str]) -> list[bool]:
        """Return true for every piece: each is a whole word."""
        return [True] * len(pieces)

    def encoder(self, backend: Backend, typecode: str) -> TextEncoder:
        """Return the backend, which can be cut at spaces: a line end is part of the white space between words."""
        return CutAtSpaces(backend, typecode)

    def hf_config(self) -> dict[str, Any]:
        """Return `PreTrainedTokenizerFast`, which reads any `tokenizer.json`."""
        return {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": self.special_tokens.sep}

    @classmethod
    def from_folder(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Read `tokenizer.json` with a word-level model."""
        if backend is None or not isinstance(backend.model, models.WordLevel):
            return None
        pieces = backend.get_vocab()
        specials = read_specials(read_config(folder), (LINES,), pieces, folder, backend)
        lowercase = "Lowercase" in str(backend.normalizer)
        return cls(vocab_size=len(pieces), lowercase=lowercase, special_tokens=specials), backend

    def _backend(self, words: dict[str, int]) -> Backend:
        backend = Backend(models.WordLevel(words, unk_token=self.special_tokens.unk))
        steps = [normalizers.Replace(Regex(r"\s*\n\s*"), f" {self.special_tokens.sep} ")]
        backend.normalizer = normalizers.Sequence([*([normalizers.Lowercase()] if self.lowercase else []), *steps])
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return backend
