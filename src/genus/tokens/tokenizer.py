"""The trained tokenizer: encoding and decoding; it is saved as `tokenizer.json` with legacy vocabulary files."""

from __future__ import annotations

import hashlib
import itertools
import json
import unicodedata
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.errors import GenusError, UsageError
from genus.files import beside, reason, write_json
from genus.part import slots_of
from genus.tokens import TokenizerConfig, steps
from genus.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import tokenizers
    from numpy.typing import DTypeLike, NDArray

    from genus.tokens import SpecialTokens, TaskTokens
    from genus.tokens.cached_encoders import TextEncoder
    from genus.tokens.vocabulary import Template

CHOICES = "tokens.json"
"""File of the `TokenizerConfig`, beside `tokenizer.json`."""
HIDDEN = "\uffff"
"""A noncharacter, which no text has: Unicode reserves it for internal use in programs."""
WHAT_DECIDES_IDS = ("added_tokens", "normalizer", "pre_tokenizer", "model")
"""The sections of `tokenizer.json` on which ids depend."""


@dataclass(frozen=True)
class Tokenizer:
    """A trained tokenizer and its configuration."""

    tokens: TokenizerConfig
    """The configuration, in which `vocab_size` is the true size of the trained vocabulary."""
    backend: tokenizers.Tokenizer

    @classmethod
    def of(cls, tokens: TokenizerConfig, backend: tokenizers.Tokenizer) -> Tokenizer:
        """Return the tokenizer of a trained backend, with the true vocabulary size and no truncation or padding."""
        backend.no_truncation()
        backend.no_padding()
        return cls(replace(tokens, vocab_size=max(backend.get_vocab().values()) + 1), backend)

    def of_words(self) -> Tokenizer:
        """Return the tokenizer that gives other readers the ids of words that `as_inner_word` gives here."""
        return Tokenizer(*self.tokens.of_words(self.backend))

    def for_tasks(self, added: TaskTokens) -> Tokenizer:
        """Return the tokenizer with the special tokens and templates of a decoder's fine-tuning; new ids come last.

        Raises:
            UsageError: one of them is a piece of the vocabulary, and no special token.
        """
        import tokenizers

        if taken := sorted({*added.names} & {*self.pieces} - {*self.tokens.special_tokens.names()}):
            raise UsageError(f"finetuning.task_tokens: {taken[0]!r} is a piece of the vocabulary; name another token")
        backend = tokenizers.Tokenizer.from_str(self.backend.to_str())
        backend.add_special_tokens(list(added.names))
        return Tokenizer.of(replace(self.tokens, special_tokens=added.framing(self.tokens.special_tokens)), backend)

    def read_by(self, *, causal: bool) -> Tokenizer:
        """Return the tokenizer for a model: under causal attention the last token represents the whole sequence.

        No other token has attended to all of it.
        """
        if not causal or self.tokens.special_tokens.summary == "last":
            return self
        specials = replace(self.tokens.special_tokens, summary="last")
        return Tokenizer(replace(self.tokens, special_tokens=specials), self.backend)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the encoders and their caches."""
        return Tokenizer, (self.tokens, self.backend)

    @cached_property
    def pieces(self) -> list[str]:
        """The pieces of the vocabulary in order of id, special tokens included; empty for an unused id."""
        pieces = [""] * self.tokens.vocab_size
        for piece, number in self.backend.get_vocab().items():
            pieces[number] = piece
        return pieces

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Sizes, special token ids, word starts and templates, which later stations need."""
        ids, specials = self.backend.get_vocab(), self.tokens.special_tokens
        if len(ids) <= len(specials.names()):
            raise GenusError(
                "the vocabulary has special tokens only: the text has no piece that is frequent enough; "
                "give more text, or take a larger tokens.vocab_size or a smaller tokens.min_frequency"
            )
        special = np.zeros(self.tokens.vocab_size, dtype=np.bool_)
        special[[ids[name] for name in specials.names()]] = True
        special[[number for number, token in self.backend.get_added_tokens_decoder().items() if token.special]] = True
        if special.all():
            raise GenusError("the vocabulary holds nothing but special tokens; train it on more text, or a larger one")
        return Vocabulary(
            size=self.tokens.vocab_size,
            roles={role: ids[name] for role, name in specials.roles().items()},
            special=special,
            word_start=special | np.array(self.tokens.word_starts(self.pieces), dtype=np.bool_),
            single=_resolved(specials.single, ids),
            pair=_resolved(specials.pair, ids),
            target=None if specials.target is None else _resolved(specials.target, ids),
            summary=specials.summary,
            texts=self._texts(special),
            extra={name: ids[name] for name in specials.extra},
            sentinel_ids=tuple(ids[name] for name in self.tokens.sentinels),
        )

    def _texts(self, special: NDArray[np.bool_]) -> tuple[str, ...]:
        """Return the decoded text of each piece, as after another piece, without white space."""
        anchor = int(special.argmin())
        before = self.decode([anchor])
        after = self.backend.decode_batch([[anchor, number] for number in range(len(special))])
        return tuple(text.removeprefix(before).strip() for text in after)

    @property
    def dtype(self) -> DTypeLike:
        """The dtype of ids: uint16, or uint32 for more than 65,536 pieces."""
        return np.uint16 if self.tokens.vocab_size <= 1 << 16 else np.uint32

    @cached_property
    def encoder(self) -> TextEncoder:
        """The encoder from text to ids of `dtype` as bytes, with a cache."""
        return self.tokens.encoder(self.backend, np.dtype(self.dtype).char)

    @cached_property
    def _plain_encoders(self) -> dict[tuple[str, ...], TextEncoder]:
        return {}

    def plain_encoder(self, kept: tuple[str, ...] = ()) -> TextEncoder:
        """Return an encoder like `encoder` that treats the names of special tokens, except those kept, as text."""
        if kept not in self._plain_encoders:
            backend = without_specials(self.backend, kept)
            self._plain_encoders[kept] = self.tokens.encoder(backend, np.dtype(self.dtype).char)
        return self._plain_encoders[kept]

    def encode(self, texts: Sequence[str], *, specials: bool | tuple[str, ...] = True) -> list[list[int]]:
        """Return the token ids of texts, without adding special tokens.

        Args:
            texts: strings, each encoded separately.
            specials: True: names of special tokens in a text become those tokens; False: they are treated as text, as
                is necessary for untrusted input; a tuple: only these names become tokens.
        """
        encode = self.encoder if specials is True else self.plain_encoder(specials or ())
        return [np.frombuffer(encode(text), dtype=self.dtype).tolist() for text in texts]

    def encode_with_offsets(self, text: str) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        """Return the ids (T,) of a text, whose names of special tokens are text, and the characters of each (T, 2).

        Characters [start, stop) are ascending. Combining marks of which the tokenizer leaves nothing are those of the
        token before them.
        """
        encode = self.plain_encoder()
        ids = np.frombuffer(encode(text), self.dtype)
        spans = np.array(encode.offsets(text), np.int64).reshape(len(ids), 2)
        starts, stops = np.maximum.accumulate(spans, axis=0).T
        following = [*starts[1:].tolist(), len(text)]
        for token in np.flatnonzero(stops < following).tolist():
            while stops[token] < following[token] and unicodedata.category(text[stops[token]]).startswith("M"):
                stops[token] += 1
        return ids, np.stack([starts, stops], axis=1)

    def encode_document(self, text: str, cuts: Sequence[int]) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        """Tokenize a document whole, and return the offsets of its parts in tokens.

        Names of special tokens in the text become those tokens, unless `special_tokens.in_text` is false.

        Args:
            text: the document.
            cuts: boundaries between parts, in characters, ascending, excluding both ends of the text.

        Returns:
            The ids (T,) of the whole document, and offsets (parts + 1,): part i is ids[offsets[i]:offsets[i + 1]]. A
            token belongs to the part in which its text begins.
        """
        parts = self.encode_parts(text, cuts)
        lengths = np.array([len(part) for part in parts]) // np.dtype(self.dtype).itemsize
        return np.frombuffer(b"".join(parts), self.dtype), np.concatenate([[0], lengths.cumsum()])

    def encode_parts(self, text: str, cuts: Sequence[int]) -> list[bytes]:
        """Tokenize a document as `encode_document` does; return the bytes of each part's ids."""
        encode = self.encoder if self.tokens.special_tokens.in_text else self.plain_encoder()
        apart = encode.apart(text, cuts) if cuts else []
        if len(apart) == len(cuts):  # the common case: loops in C take a few percent of the time
            return list(map(encode, map(text.__getitem__, map(slice, [0, *apart], [*apart, None]))))
        parts: list[bytes] = []
        for start, stop in itertools.pairwise([0, *apart, len(text)]):
            inner = [cut - start for cut in cuts if start < cut < stop]
            parts += encode.placed(text[start:stop], inner) if inner else [encode(text[start:stop])]
        return parts

    def unknown(self, ids: bytes) -> int:
        """Return how many of the encoder's ids are the unknown token; 0 without one."""
        name = self.tokens.special_tokens.unk
        number = None if name is None else self.backend.token_to_id(name)
        return 0 if number is None else int((np.frombuffer(ids, self.dtype) == number).sum())

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids to text, omitting special tokens."""
        return self.backend.decode(list(ids), skip_special_tokens=True)

    def hash(self) -> str:
        """Return a hash of 16 hexadecimal digits over everything on which ids and templates depend."""
        return self._hash

    @cached_property
    def _hash(self) -> str:
        state = json.loads(self.backend.to_str())
        state["model"] = {name: None if value == "" else value for name, value in state["model"].items()}  # as it acts
        parts = [_decisive(self.tokens.special_tokens), *(part.to_json() for part in self.tokens.normalizers())]
        decisive = [*parts, *(state[section] for section in WHAT_DECIDES_IDS)]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]

    def save(
        self, folder: Path, max_length: int | None = None, segments: bool = True, replaced: Collection[Path] = ()
    ) -> None:
        """Write `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json` and the legacy vocabulary files.

        Args:
            folder: created if missing; files of the same names are replaced.
            max_length: the model's maximum sequence length in tokens, `model_max_length` in `tokenizer_config.json`.
            segments: whether the model distinguishes segments; otherwise `token_type_ids` is not a model input.
            replaced: further files of an older tokenizer there, relative to the folder, that do not stay.

        Raises:
            GenusError: the files cannot be written.
        """
        named = self._special_tokens()
        config = {**self.tokens.hf_config(), **named, **({"model_max_length": max_length} if max_length else {})}
        numbers = ["token_type_ids"] if segments and self.vocabulary.segmented else []
        config |= {"model_input_names": ["input_ids", *numbers, "attention_mask"]}
        config |= {"padding_side": self.vocabulary.padding_side}
        with beside(folder, replaced) as new:
            self.backend.save(str(new / "tokenizer.json"))
            self.tokens.save_slow_files(self.backend, new)
            write_json(new / CHOICES, self.tokens.written())
            write_json(new / "tokenizer_config.json", config)
            write_json(new / "special_tokens_map.json", named)

    def _special_tokens(self) -> dict[str, Any]:
        """Return the content of `special_tokens_map.json`: special tokens by role, and a list of the others."""
        specials = self.tokens.special_tokens
        named: dict[str, Any] = {f"{role}_token": name for role, name in specials.roles().items()}
        return {**named, "extra_special_tokens": list(specials.extra)} if specials.extra else named

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Load a tokenizer folder, ours or in the Hugging Face layout (also legacy `vocab.txt` or `vocab.json`).

        Raises:
            GenusError: the folder has no tokenizer, or one that is damaged or that no part can read.
        """
        folder = Path(folder)
        backend = _backend(folder / "tokenizer.json")
        if backend is not None and (folder / CHOICES).exists():
            return cls.of(_choices(folder / CHOICES), backend)
        parts = slots_of(TokenizerConfig).values()  # type: ignore[type-abstract]  # a slot is abstract
        for part in sorted(parts, key=lambda part: part.reads_any):
            if adopted := part.from_folder(folder, backend):
                return cls.of(*adopted)
        if backend is None:
            raise GenusError(
                f"{folder}: there is no tokenizer.json, vocab.txt, spiece.model, or vocab.json with merges.txt"
            )
        raise GenusError(
            f"{folder / 'tokenizer.json'}: no part reads a {type(backend.model).__name__} tokenizer of this form"
        )


def without_specials(backend: tokenizers.Tokenizer, kept: tuple[str, ...] = ()) -> tokenizers.Tokenizer:
    """Return a backend with the same ids that treats names of special tokens in a text as text.

    Special tokens, except those kept, are no added tokens of it, and their pieces get names that no text has. A
    normalizer that inserts one, such as the end of a line, still does.
    """
    from tokenizers import Tokenizer as Backend

    state = json.loads(backend.to_str())
    names = {token["content"] for token in state["added_tokens"] if token["special"]}.difference(kept)
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in names]
    state["post_processor"] = None
    model = state["model"]
    names -= {"".join(merge) for merge in model.get("merges", ())}
    hidden = {name: HIDDEN + name for name in names}
    if isinstance(model["vocab"], dict):
        model["vocab"] = {hidden.get(piece, piece): number for piece, number in model["vocab"].items()}
    else:
        model["vocab"] = [[hidden.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token") in hidden:
        model["unk_token"] = hidden[model["unk_token"]]
    for step in (state["normalizer"] or {}).get("normalizers", [state["normalizer"] or {}]):
        for name in names:
            if step.get("type") == "Replace" and name in step["content"]:
                step["content"] = step["content"].replace(name, hidden[name])
    return Backend.from_str(json.dumps(state))


def _decisive(specials: SpecialTokens) -> dict[str, Any]:
    """Return the fields of the special tokens on which ids and templates depend; the backend holds `extra`."""
    named = specials.to_json()
    kept = ["kind", "pad", "unk", "cls", "sep", "mask", "single", "pair"]
    kept += [name for name in ("target",) if specials.target is not None]
    kept += [name for name in ("in_text",) if not specials.in_text]
    kept += [name for name in ("eos",) if specials.sep is None]  # it then separates documents
    return {name: named[name] for name in kept}


def _choices(file: Path) -> TokenizerConfig:
    try:
        return TokenizerConfig.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, OSError, RecursionError, UsageError) as error:
        raise GenusError(f"{file}: cannot be read as the choices of a tokenizer ({reason(error)})") from None


def _backend(file: Path) -> tokenizers.Tokenizer | None:
    import tokenizers

    if not file.exists():
        return None
    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no narrower one
        raise GenusError(f"{file}: cannot be read as a tokenizer ({error})") from None


def _resolved(template: str, ids: dict[str, int]) -> Template:
    """Return the steps of a template with special tokens as ids (see `Template`)."""
    return tuple(
        (None, "AB".index(step[1]), segment) if step in {"$A", "$B"} else (ids[step], None, segment)
        for step, segment in steps(template)
    )
