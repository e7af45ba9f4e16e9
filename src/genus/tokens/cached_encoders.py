"""Tokenizer encoders with a cache of pieces: the same ids as the backend's, several times faster.

BERT's and GPT-2's pre-tokenizers split a text into pieces by character category, and never look back across the start
of a run of white space. So the ids of a text are the concatenated ids of its pieces, and pieces repeat (Zipf). Their
ids are cached as bytes, and a text is encoded as a `b"".join` of table look-ups:

* a *simple* text, of characters whose category is certain, is split into pieces by the pre-tokenizer's rule, written as
  a regular expression;
* any other text is split into chunks at white space; a chunk that is not simple is encoded by the backend, once;
* a text with a control character that Python and the backend treat differently is encoded whole by the backend.
"""

from __future__ import annotations

import itertools
import re
from abc import ABC, abstractmethod
from array import array
from typing import TYPE_CHECKING, Protocol

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

from genus.text.sentences import UNSPACED_CLOSING, UNSPACED_MARKS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import tokenizers

MOST_REMEMBERED = 1 << 19
"""Maximum of entries in one cache, about 80 MB."""
LONGEST_REMEMBERED = 64
"""Maximum length in characters of a cached piece or chunk; longer ones hardly ever repeat."""
PUNCTUATION = r"!-/:-@\[-`{-~\u2010-\u2027\u2030-\u2043"
"""ASCII punctuation, and the quotes, dashes, bullets and primes of Unicode's General Punctuation, all of category P."""
LATIN = r"\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
"""Latin letters beyond ASCII, all of category L."""
WHITE_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Characters with Unicode's property White_Space."""

AGREED_SPACES = frozenset(
    " \n\t\r\xa0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
"""Characters that Python, the backend and BERT's normalizer all treat as white space."""
MARKS = frozenset(UNSPACED_MARKS + UNSPACED_CLOSING)
"""Sentence-final punctuation that no white space follows."""


class TextEncoder(Protocol):
    """Encodes a text to token ids, as the bytes of an array of the tokenizer's id type."""

    def __call__(self, text: str) -> bytes:
        """Return the ids of a text without adding special tokens."""

    def apart(self, text: str, cuts: Sequence[int]) -> list[int]:
        """Return those of the cuts (ascending, in characters) at which the text may be split before it is encoded.

        There the concatenated ids of the parts equal the ids of the whole text.
        """

    def placed(self, text: str, cuts: Sequence[int]) -> list[bytes]:
        """Encode a text whole and split its ids at the cuts: a token belongs to the part where its text begins."""

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the characters [start, stop) of the text that each of its ids stands for."""


class WholeText:
    """The backend itself, one text at a time: the reference for the other encoders."""

    def __init__(self, backend: tokenizers.Tokenizer, typecode: str) -> None:
        self.backend = backend
        self.typecode = typecode

    def __call__(self, text: str) -> bytes:
        """Return the backend's ids of a text without adding special tokens."""
        [encoding] = self.backend.encode_batch_fast([text], add_special_tokens=False)
        return array(self.typecode, encoding.ids).tobytes()

    def apart(self, text: str, cuts: Sequence[int]) -> list[int]:
        """Return no cut: the backend's pre-tokenizer is unknown."""
        return []

    def placed(self, text: str, cuts: Sequence[int]) -> list[bytes]:
        """Return the ids of the parts, split by the backend's character offsets of tokens."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        starts = np.maximum.accumulate(np.array([start for start, _ in encoding.offsets] or [0], np.int64))
        bounds = [0, *np.searchsorted(starts, cuts).tolist(), len(encoding.ids)]
        ids = array(self.typecode, encoding.ids)
        return [ids[start:stop].tobytes() for start, stop in itertools.pairwise(bounds)]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the backend's character offsets of tokens; of a character's bytes each has all of it."""
        found: list[tuple[int, int]] = self.backend.encode(text, add_special_tokens=False).offsets
        return found


class CutAtSpaces(WholeText):
    """The backend itself, for a pre-tokenizer that always splits at white space."""

    def apart(self, text: str, cuts: Sequence[int]) -> list[int]:
        """Return the cuts before a run of white space."""
        return [cut for cut in cuts if text[cut] in " \n\t\r" and not text[cut - 1].isspace()]


class _Table(dict[str, bytes]):
    """A cache of `compute`. A full cache drops its younger half, since frequent texts were added early."""

    def __init__(self, compute: Callable[[str], bytes]) -> None:
        self.compute = compute

    def __missing__(self, text: str) -> bytes:
        ids = self.compute(text)
        if len(text) <= LONGEST_REMEMBERED:
            if len(self) >= MOST_REMEMBERED:
                for young in list(itertools.islice(self, MOST_REMEMBERED // 2, None)):
                    del self[young]
            self[text] = ids
        return ids


class SpacedWords:
    """Cached encoder for pre-tokenizers that split only at white space, and normalizers of single characters.

    The words of a simple text are looked up one by one; any other text is encoded whole by the backend.
    """

    simple = re.compile(f"[\n -~{LATIN}{PUNCTUATION}]*")

    def __init__(self, whole: CutAtSpaces) -> None:
        self.whole = whole
        self.apart, self.placed, self.offsets = whole.apart, whole.placed, whole.offsets
        self.word_ids = _Table(whole)

    def __call__(self, text: str) -> bytes:
        """Return the ids of a text without adding special tokens."""
        if self.simple.fullmatch(text):
            return b"".join(map(self.word_ids.__getitem__, text.split()))
        return self.whole(text)


class _Pieces(ABC):
    """Cached encoder with a table of pieces and a table of chunks."""

    simple: re.Pattern[str]
    """Matches a simple text."""
    pieces: re.Pattern[str]
    """Finds the pieces of a simple text."""
    doubtful: str
    """Characters at which Python splits and the backend may not."""

    def __init__(self, whole: WholeText) -> None:
        self.whole = whole
        self.placed, self.offsets = whole.placed, whole.offsets
        self.model = whole.backend.model
        added = [token.content for token in whole.backend.get_added_tokens_decoder().values()]
        self.has_added = re.compile("|".join(map(re.escape, added)) or r"(?!)").search
        self.marks = MARKS - frozenset("".join(added))
        self.piece_ids = _Table(self._piece)
        self.chunk_ids = _Table(self._chunk)

    def __call__(self, text: str) -> bytes:
        """Return the ids of a text without adding special tokens."""
        if self._is_simple(text):
            return self._by_pieces(text)
        if any(map(text.__contains__, self.doubtful)):
            return self.whole(text)
        return b"".join(map(self.chunk_ids.__getitem__, self._chunks(text)))

    def _chunk(self, chunk: str) -> bytes:
        return self._by_pieces(chunk) if self._is_simple(chunk) else self.whole(chunk)

    def _is_simple(self, text: str) -> bool:
        printable = (text.isascii() and text.isprintable()) or self.simple.fullmatch(text)
        return bool(printable) and not self.has_added(text)

    def _by_pieces(self, text: str) -> bytes:
        return b"".join(map(self.piece_ids.__getitem__, self.pieces.findall(text)))

    def _piece(self, piece: str) -> bytes:
        return array(self.whole.typecode, [token.id for token in self.model.tokenize(piece)]).tobytes()

    @abstractmethod
    def apart(self, text: str, cuts: Sequence[int]) -> list[int]:
        """Return the cuts across which the pre-tokenizer never looks."""

    @abstractmethod
    def _chunks(self, text: str) -> list[str]:
        """Split a text into chunks, at cuts across which the pre-tokenizer never looks."""


class BertPieces(_Pieces):
    """Cached encoder for BERT's normalizer (with `clean_text`) and pre-tokenizer: white space separates chunks."""

    simple = re.compile(f"[\n -~{PUNCTUATION}]*")
    pieces = re.compile(f"[0-9A-Za-z]+|[{PUNCTUATION}]")
    doubtful = "\x0b\x0c\x1c\x1d\x1e\x1f\x85"
    """Characters at which Python splits and which BERT deletes as control characters."""

    def __init__(self, whole: WholeText, lowercase: bool) -> None:
        super().__init__(whole)
        self.lowercase = lowercase

    def _by_pieces(self, text: str) -> bytes:
        return super()._by_pieces(text.lower() if self.lowercase else text)

    def apart(self, text: str, cuts: Sequence[int]) -> list[int]:
        """Return the cuts before white space, and those after punctuation, where BERT always splits."""
        marks = self.marks
        return [cut for cut in cuts if text[cut] in AGREED_SPACES or text[cut - 1] in marks]

    def _chunks(self, text: str) -> list[str]:
        return text.split()


class Gpt2Pieces(_Pieces):
    """Cached encoder for GPT-2's byte-level pre-tokenizer: a chunk is a run of white space and the text up to the next.

    GPT-2's pattern has white space only at the start of a match, and looks ahead only from white space to the text
    after it.
    """

    simple = re.compile(f"[\n -~{LATIN}{PUNCTUATION}]*")
    pieces = re.compile(rf"'(?:[stmd]|re|ve|ll)| ?[A-Za-z{LATIN}]+| ?[0-9]+| ?[{PUNCTUATION}]+|[ \n]+(?![^ \n])|[ \n]+")
    doubtful = "\x1c\x1d\x1e\x1f\u180e"
    """Characters that only some definitions treat as white space."""
    chunks = re.compile(f"[{WHITE_SPACE}]*[^{WHITE_SPACE}]+|[{WHITE_SPACE}]+")
    letter = re.compile("[A-Za-z\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fa5]").match
    alphabet = ByteLevel(add_prefix_space=False, use_regex=False)
    """Maps bytes to the byte-level alphabet of the model's pieces."""

    def _piece(self, piece: str) -> bytes:
        if piece.isascii():
            return super()._piece(piece.replace(" ", "\u0120").replace("\n", "\u010a"))
        [(written, _)] = self.alphabet.pre_tokenize_str(piece)
        return super()._piece(written)

    def apart(self, text: str, cuts: Sequence[int]) -> list[int]:
        """Return the cuts before a run of white space, and those between punctuation and a letter."""
        marks, letter = self.marks, self.letter
        return [
            cut
            for cut in cuts
            if (text[cut] in AGREED_SPACES and not (text[cut - 1].isspace() or text[cut - 1] == "\u180e"))
            or (text[cut - 1] in marks and letter(text, cut))
        ]

    def _chunks(self, text: str) -> list[str]:
        return self.chunks.findall(text)
