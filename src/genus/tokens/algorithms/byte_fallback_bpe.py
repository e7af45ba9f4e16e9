"""BPE of sentencepiece with bytes for unknown characters, and without normalization, as in Llama."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from genus.errors import GenusError
from genus.tokens import SpecialTokens
from genus.tokens.algorithms.sentencepiece_bpe import RUNS, SentencePieceBPE
from genus.tokens.algorithms.unigram import MODELS, SPACE
from genus.tokens.cached_encoders import WholeText
from genus.tokens.files.layout import read_config, read_specials
from genus.tokens.files.sentencepiece import BPE, read_model

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tokens.cached_encoders import TextEncoder

LLAMA = SpecialTokens(unk="<unk>", bos="<s>", eos="</s>", single="<s> $A", pair="<s> $A <s>:1 $B:1", summary="last")
"""Llama's special tokens: a text begins with `<s>`, and `</s>` separates documents."""
LINES = r"[\n\r\t]+"
"""Characters that are no part of a piece, and become bytes."""


class ByteFallbackBPE(SentencePieceBPE):
    """Byte-pair encoding of sentencepiece in which unknown characters become bytes, so that ids decode exactly (Llama).

    Texts are not normalized, and spaces are kept; the first word too begins with the mark of a space, but where a text
    begins with one, there is no second, as in Hugging Face's class and unlike sentencepiece. Numbers are split into
    digits (Touvron et al. 2023, section 2.1). Ids as in Llama: `<unk>` 0, `<s>` 1, `</s>` 2, 256 bytes, then
    merged pieces in the order of learning, then characters.
    """

    fallback: ClassVar[tuple[str, ...]] = tuple(f"<0x{byte:02X}>" for byte in range(256))
    model_file: ClassVar[str] = "tokenizer.model"

    special_tokens: SpecialTokens = LLAMA

    @property
    def in_words(self) -> str:
        """The algorithm, its library, and the fallback."""
        return "BPE with bytes (sentencepiece)"

    @property
    def unknown(self) -> str:
        """Description of the byte fallback: no word is unknown."""
        return "cut into pieces, bytes at worst: none is unknown"

    def __post_init__(self) -> None:
        """Check that the vocabulary has room for all bytes.

        Raises:
            ValueError: `vocab_size` is smaller than 256 bytes, the special tokens and a piece.
        """
        super().__post_init__()
        least = len(self.fallback) + len(self.special_tokens.names()) + 1
        if self.vocab_size < least:
            raise ValueError(f"vocab_size: expected at least {least} (256 bytes, the special tokens and a piece), "
                             f"got {self.vocab_size}")  # fmt: skip

    def training_words(self) -> list[pre_tokenizers.PreTokenizer]:
        """Return the pre-tokenizers of training: words, runs of other characters, and single digits."""
        return [
            pre_tokenizers.Split(Regex(LINES), "removed"),
            pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="first"),
            pre_tokenizers.Split(Regex(RUNS), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]

    def encoder(self, backend: Backend, typecode: str) -> TextEncoder:
        """Return the backend as the encoder, without caching: a text is not split into words."""
        return WholeText(backend, typecode)

    def hf_config(self) -> dict[str, Any]:
        """Return the options of `LlamaTokenizer`."""
        begins = self.special_tokens.single.startswith(f"{self.special_tokens.bos} ")
        return {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": begins, "add_eos_token": False}

    @classmethod
    def from_folder(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Read `tokenizer.json` with a BPE model of this form, or a model file of type BPE with bytes.

        Raises:
            GenusError: the model has bytes, and normalizes texts.
        """
        config = read_config(folder)
        if backend is not None:
            model = backend.model
            if not isinstance(model, models.BPE) or not model.byte_fallback or not _is_usual(backend):
                return None
            known = backend.get_vocab()
            specials = read_specials(config, (LLAMA,), known, folder, backend)
            return cls(vocab_size=len(known), special_tokens=specials), backend
        path = next((folder / name for name in MODELS if (folder / name).exists()), None)
        pieces = read_model(path) if path is not None else None
        if pieces is None or pieces.model != BPE or not pieces.has_bytes:
            return None
        if pieces.charsmap is not None or not pieces.keeps_spaces:
            raise GenusError(f"{path}: has bytes and normalizes texts, which cannot be read in a BPE model")
        known = {text: number for number, text in enumerate(pieces.texts)}
        part = cls(vocab_size=len(known), special_tokens=read_specials(config, (LLAMA,), known, folder))
        return part, part.of_vocabulary(pieces)

    def _backend(self, model: models.BPE, charsmap: bytes | None) -> Backend:
        model.byte_fallback = True
        backend = Backend(model)
        backend.pre_tokenizer = _marked()
        steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        backend.decoder = decoders.Sequence(steps)
        return backend


def _marked() -> pre_tokenizers.PreTokenizer:
    """Return the pre-tokenizer that marks spaces, and one before the text, and does not split it."""
    return pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="first", split=False)


def _is_usual(backend: Backend) -> bool:
    """Return whether a backend has no normalizer, and the pre-tokenizer of `_marked`."""
    before = backend.pre_tokenizer
    if backend.normalizer is not None or before is None:
        return False
    return bool(json.loads(before.__getstate__()) == json.loads(_marked().__getstate__()))
