"""BPE of sentencepiece, as in Reformer's released vocabulary: merges are applied in the order of learning."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from genus.errors import GenusError
from genus.part import Count, VocabSize
from genus.tokens import SpecialTokens
from genus.tokens.algorithms.unigram import MODELS, SPACE, by_words, charsmap_of, cuts_at_spaces, rules, words
from genus.tokens.files.layout import frame, read_config, read_specials
from genus.tokens.files.sentencepiece import (
    BPE,
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    Pieces,
    kinds_of,
    read_model,
    write_model,
)
from genus.tokens.tokenizer import Tokenizer
from genus.tokens.training import TrainedTokens, fit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from genus.tokens.cached_encoders import TextEncoder

DEFAULTS = SpecialTokens(
    pad="<unk>",
    unk="<unk>",
    bos="<s>",
    eos="</s>",
    cls="<s>",
    sep="</s>",
    mask="<unk>",
    single="$A </s>",
    pair="$A </s> $B:1 </s>:1",
    summary="last",
)
"""sentencepiece's default special tokens; it has no padding token, so `<unk>` pads."""

TRANSLATION = SpecialTokens(
    pad="<pad>",
    unk="<unk>",
    eos="</s>",
    single="$A </s>",
    pair="$A </s> $B </s>",
    target="<pad> $A </s>",
    summary="last",
)
"""Special tokens of pairs of source and target: both end with `</s>`, and the decoder begins with padding, as T5's."""

RUNS = rf"{SPACE}?[\p{{L}}\p{{M}}]+|{SPACE}?[^\p{{L}}\p{{M}}{SPACE}]+"
"""Pre-tokenization pattern in training: runs of letters or of other characters, with the space before them."""


class SentencePieceBPE(TrainedTokens):
    """Byte-pair encoding over words that begin with a mark for the space before them (Sennrich et al. 2016, section 3).

    Of all adjacent pairs whose union is a piece, the pair of the earliest learned piece is merged, leftmost first,
    until none is left. Texts are normalized as in `Unigram`. Ids as in sentencepiece: `<unk>` 0, `<s>` 1, `</s>` 2,
    then merged pieces in the order of learning, then characters.
    """

    fallback: ClassVar[tuple[str, ...]] = ()
    """Pieces of the bytes by which unknown characters are encoded, if any."""
    model_file: ClassVar[str] = "spiece.model"
    """Name of the file for sentencepiece."""

    vocab_size: VocabSize
    alphabet: Count = 1000
    """In training, maximum number of distinct characters; rarer ones are unknown."""
    longest: Count = 16
    """In training, maximum length of a piece in characters."""
    special_tokens: SpecialTokens = DEFAULTS

    @property
    def in_words(self) -> str:
        """The algorithm and its library."""
        return "BPE (sentencepiece)"

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Learn the vocabulary from texts; as in sentencepiece, no piece mixes letters with other characters.

        The `tokenizers` library gives characters ids before merged pieces; here they come after, as in sentencepiece.
        Deviation: sentencepiece does not merge letters of different scripts either.
        """
        names = [*self.special_tokens.names(), *self.fallback]
        backend = self._backend(models.BPE(), None)
        backend.pre_tokenizer = pre_tokenizers.Sequence(self.training_words())
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            special_tokens=names,
            limit_alphabet=min(self.alphabet, self.vocab_size - len(names)),
            max_token_length=self.longest,
            show_progress=sys.stderr.isatty(),
        )
        fit(backend, self.sample(texts), trainer)
        learned = [piece for piece, _ in sorted(backend.get_vocab().items(), key=lambda item: item[1])][len(names) :]
        pieces = sorted(learned, key=lambda piece: len(piece) == 1)
        scores = [-float(rank) for rank in range(len(pieces))]
        special = kinds_of(names, [0.0] * len(names), self.special_tokens.unk or "<unk>", names)
        kinds = [BYTE if name in self.fallback else kind for name, kind in zip(names, special, strict=True)]
        kinds += [NORMAL] * len(pieces)
        found = Pieces([*names, *pieces], [0.0] * len(names) + scores, kinds, model=BPE)
        return Tokenizer.of(self, self.of_vocabulary(found))

    def training_words(self) -> list[pre_tokenizers.PreTokenizer]:
        """Return the pre-tokenizers of training, whose words no piece goes beyond."""
        return [*words(), pre_tokenizers.Split(Regex(RUNS), "isolated")]

    def word_starts(self, pieces: list[str]) -> list[bool]:
        """Return true for pieces that begin with the space mark, and for pieces without a letter or digit."""
        return [piece.startswith(SPACE) or not any(map(str.isalnum, piece)) for piece in pieces]

    def encoder(self, backend: Backend, typecode: str) -> TextEncoder:
        """Return an encoder with cached words, or the backend itself if it splits texts elsewhere than at spaces."""
        return by_words(backend, typecode)

    def hf_config(self) -> dict[str, Any]:
        """Return `PreTrainedTokenizerFast` for `tokenizer.json`; `ReformerTokenizer` reads `spiece.model`."""
        return {"tokenizer_class": "PreTrainedTokenizerFast"}

    def save_slow_files(self, backend: Backend, folder: Path) -> None:
        """Write the model for sentencepiece; it has a normalization only if the tokenizer came from one."""
        model = json.loads(backend.to_str())["model"]
        texts = sorted(model["vocab"], key=model["vocab"].__getitem__)
        special = [token.content for token in backend.get_added_tokens_decoder().values()]
        joined = dict.fromkeys("".join(merge) for merge in model["merges"])
        fixed = {*special, *self.fallback}
        order = [*joined, *(text for text in texts if text not in joined and text not in fixed)]
        scores = {text: -float(rank) for rank, text in enumerate(order)}
        kinds = [BYTE if text in self.fallback else CONTROL if text in special else NORMAL for text in texts]
        kinds = [UNKNOWN if t == self.special_tokens.unk else kind for t, kind in zip(texts, kinds, strict=True)]
        values = [scores.get(text, 0.0) for text in texts]
        pieces = Pieces(texts, values, kinds, charsmap_of(backend), BPE, keeps_spaces=bool(self.fallback))
        write_model(folder / self.model_file, pieces)

    @classmethod
    def from_folder(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Read `tokenizer.json` with a BPE model and space marks, or a `spiece.model` of type BPE.

        Raises:
            GenusError: the model has pieces of kinds that cannot be read.
        """
        config = read_config(folder)
        if backend is not None:
            model = backend.model
            if not isinstance(model, models.BPE) or model.byte_fallback or not cuts_at_spaces(backend):
                return None
            known = backend.get_vocab()
            specials = read_specials(config, (DEFAULTS,), known, folder, backend)
            return cls(vocab_size=len(known), special_tokens=specials), backend
        path = next((folder / name for name in MODELS if (folder / name).exists()), None)
        pieces = read_model(path) if path is not None else None
        if pieces is None or pieces.model != BPE or pieces.has_bytes:
            return None
        if not {NORMAL, UNKNOWN, CONTROL}.issuperset(pieces.kinds):
            raise GenusError(f"{path}: has user-defined or unused symbols, which cannot be read in a BPE model")
        known = {text: number for number, text in enumerate(pieces.texts)}
        part = cls(vocab_size=len(known), special_tokens=read_specials(config, (DEFAULTS,), known, folder))
        return part, part.of_vocabulary(pieces)

    def of_vocabulary(self, pieces: Pieces) -> Backend:
        """Return the backend of a finished vocabulary; control symbols become special tokens."""
        known = {text: number for number, text in enumerate(pieces.texts)}
        model = models.BPE(known, merges(pieces), unk_token=self.special_tokens.unk, fuse_unk=True)
        backend = self._backend(model, pieces.charsmap)
        backend.add_special_tokens(list(dict.fromkeys([*self.special_tokens.names(), *pieces.controls])))
        frame(backend, self.special_tokens)
        return backend

    def _backend(self, model: models.BPE, charsmap: bytes | None) -> Backend:
        backend = Backend(model)
        backend.normalizer = normalizers.Sequence(rules(charsmap))
        backend.pre_tokenizer = pre_tokenizers.Sequence(words())
        backend.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
        return backend


def merges(pieces: Pieces) -> list[tuple[str, str]]:
    """Return the BPE merges: all pairs of pieces whose union is a piece, by descending score of the union."""
    rows = zip(pieces.texts, pieces.scores, pieces.kinds, strict=True)
    learned = {text: score for text, score, kind in rows if kind == NORMAL}
    order = sorted(learned, key=lambda text: -learned[text])
    pairs = ((text[:cut], text[cut:]) for text in order for cut in range(1, len(text)))
    return [(left, right) for left, right in pairs if left in learned and right in learned]
