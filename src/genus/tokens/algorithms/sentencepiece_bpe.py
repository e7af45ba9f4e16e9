"""sentencepiece's BPE, as Reformer's released vocabulary is: pairs joined in the order in which they were learned."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Self

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from genus.errors import GenusError
from genus.part import Count
from genus.tokens import SpecialTokens
from genus.tokens.algorithms.unigram import MODELS, SPACE, by_words, charsmap_of, cuts_at_spaces, rules, words
from genus.tokens.files.layout import frame, read_config, read_specials
from genus.tokens.files.sentencepiece import BPE, CONTROL, NORMAL, UNKNOWN, Pieces, kinds_of, read_model, write_model
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
"""The special tokens that sentencepiece gives by default; without a padding token, `<unk>` pads."""

RUNS = rf"{SPACE}?[\p{{L}}\p{{M}}]+|{SPACE}?[^\p{{L}}\p{{M}}{SPACE}]+"
"""Letters, or other characters, with the space before them."""


class SentencePieceBPE(TrainedTokens):
    """Byte-pair encoding over words that begin with a mark for the space before them (Sennrich et al. 2016, section 3).

    Of all neighbors whose union is a piece, those of the earliest learned one are joined, the leftmost first, until
    none are left. Texts are normalized as in `Unigram`. Ids as sentencepiece gives them: `<unk>` 0, `<s>` 1, `</s>` 2,
    then what was joined in the order of learning, then characters.
    """

    vocab_size: Count
    alphabet: Count = 1000
    """In training, characters at most; the rarest beyond are unknown."""
    longest: Count = 16
    """In training, characters of a piece at most."""
    special_tokens: SpecialTokens = DEFAULTS

    @property
    def in_words(self) -> str:
        """The model, and where it is from."""
        return "BPE (sentencepiece)"

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Train the vocabulary on texts; as in sentencepiece, no piece has letters and other characters.

        The library numbers characters before what it joins; here they come after, as there. Deviation: sentencepiece
        does not join letters of two scripts either.
        """
        names = self.special_tokens.names()
        backend = self._backend(models.BPE(), None)
        backend.pre_tokenizer = pre_tokenizers.Sequence([*words(), pre_tokenizers.Split(Regex(RUNS), "isolated")])
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
        kinds = kinds_of(names, [0.0] * len(names), self.special_tokens.unk or "<unk>", names) + [NORMAL] * len(pieces)
        found = Pieces([*names, *pieces], [0.0] * len(names) + scores, kinds, model=BPE)
        return Tokenizer.of(self, self.of_vocabulary(found))

    def word_starts(self, pieces: list[str]) -> list[bool]:
        """Return true for the pieces that begin with a space's mark, and for those without a letter or digit."""
        return [piece.startswith(SPACE) or not any(map(str.isalnum, piece)) for piece in pieces]

    def encoder(self, backend: Backend, typecode: str) -> TextEncoder:
        """Return an encoder that remembers words, or the backend where it cuts texts otherwise than at spaces."""
        return by_words(backend, typecode)

    def hf_config(self) -> dict[str, Any]:
        """Return the class that reads any `tokenizer.json` to the letter; `ReformerTokenizer` reads `spiece.model`."""
        return {"tokenizer_class": "PreTrainedTokenizerFast"}

    def save_slow_files(self, backend: Backend, folder: Path) -> None:
        """Write `spiece.model`, which sentencepiece reads; the normalization is in it only where it came from one."""
        model = json.loads(backend.to_str())["model"]
        texts = sorted(model["vocab"], key=model["vocab"].__getitem__)
        special = [token.content for token in backend.get_added_tokens_decoder().values()]
        joined = dict.fromkeys("".join(merge) for merge in model["merges"])
        order = [*joined, *(text for text in texts if text not in joined and text not in special)]
        scores = {text: -float(rank) for rank, text in enumerate(order)}
        kinds = [UNKNOWN if t == self.special_tokens.unk else CONTROL if t in special else NORMAL for t in texts]
        values = [scores.get(text, 0.0) for text in texts]
        write_model(folder / "spiece.model", Pieces(texts, values, kinds, charsmap_of(backend), BPE))

    @classmethod
    def from_folder(cls, folder: Path, backend: Backend | None) -> tuple[Self, Backend] | None:
        """Read `tokenizer.json` with a BPE model and spaces' marks, or a `spiece.model` of type BPE.

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
        if pieces is None or pieces.model != BPE:
            return None
        if not {NORMAL, UNKNOWN, CONTROL}.issuperset(pieces.kinds):
            raise GenusError(f"{path}: has bytes, user-defined or unused symbols, which cannot be read in a BPE model")
        known = {text: number for number, text in enumerate(pieces.texts)}
        part = cls(vocab_size=len(known), special_tokens=read_specials(config, (DEFAULTS,), known, folder))
        return part, part.of_vocabulary(pieces)

    def of_vocabulary(self, pieces: Pieces) -> Backend:
        """Return the backend of a finished vocabulary; its control symbols are special tokens."""
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
    """Return every pair of pieces whose union is a piece, by falling score of it."""
    rows = zip(pieces.texts, pieces.scores, pieces.kinds, strict=True)
    learned = {text: score for text, score, kind in rows if kind == NORMAL}
    order = sorted(learned, key=lambda text: -learned[text])
    pairs = ((text[:cut], text[cut:]) for text in order for cut in range(1, len(text)))
    return [(left, right) for left, right in pairs if left in learned and right in learned]
