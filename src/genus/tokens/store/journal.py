"""The journal of a token store, written block by block: a killed process loses only the block it was writing.

Blocks are appended to three flat files (`ids.bin`, `sentences.bin`, `documents.bin`); after every block a line of
`journal.jsonl` records their valid sizes and their checksums so far. A restart truncates the files to the sizes in the
last line. At the end `meta.json` replaces the journal: a folder is a store exactly if it has one.
"""

from __future__ import annotations

import itertools
import json
import os
import zlib
from dataclasses import asdict, dataclass
from operator import index
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import numpy as np

from genus.errors import GenusError
from genus.files import expecting, write_json, write_text
from genus.text.blocks import REPLACEMENT
from genus.text.read import LONGEST_DOCUMENT
from genus.tokens.vocabulary import MOST_UNKNOWN, unknown_share

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from genus.tokens.store.tokenize_corpus import EncodedBlock

FORMAT = 1
"""Format version: increased when older stores can no longer be read, or when sentence segmentation changes."""
META = "meta.json"
JOURNAL = "journal.jsonl"
FILES = ("ids.bin", "sentences.bin", "documents.bin")
"""Token ids; int64 offsets of every sentence's first token, and the end; int64 (first sentence, past the last, bytes)
of every document. Control codes of a document, or its source, are sentences between the document before it and its
first sentence."""
ORIGINS = "origins.jsonl"
"""Where a store keeps of each document what says where it comes from, a line each; only if fields are kept."""
TOGETHER = "together.bin"
"""Where a store keeps of each document which ones are held out together with it, 8 bytes; only if a field says so."""
READ_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of a token store: its content, and the dropped and repaired parts of the corpus."""

    blocks: int = 0
    documents: int = 0
    sentences: int = 0
    tokens: int = 0
    bytes: int = 0
    """UTF-8 bytes of text."""
    empty: int = 0
    """Documents dropped because they have white space only, or nothing that the tokenizer keeps."""
    replaced: int = 0
    """Invalid UTF-8 sequences, each replaced by U+FFFD."""
    cut: int = 0
    """Documents cut at the longest length of one."""
    unknown: int = 0
    """Tokens that are the unknown token."""

    def notices(self) -> list[str]:
        """Return what of the corpus was dropped, cut, repaired or is unknown, a line each."""
        lines = []
        if self.replaced:
            lines.append(f"{self.replaced:,} invalid characters are read as {REPLACEMENT}; convert the text to UTF-8")
        if self.empty:
            lines.append(f"{self.empty:,} of {self.documents + self.empty:,} documents have no text and are left out")
        if self.cut:
            lines.append(f"{self.cut:,} documents over {LONGEST_DOCUMENT >> 20} MB are cut there, and go on as another")
        if self.unknown > MOST_UNKNOWN * self.tokens:
            lines.append(unknown_share(self.unknown, self.tokens))
        return lines

    def after(self, block: EncodedBlock) -> Counts:
        """Return the counts after one more block."""
        return Counts(
            self.blocks + 1,
            self.documents + len(block.documents),
            self.sentences + len(block.sentences),
            self.tokens + int(block.sentences.sum()),
            self.bytes + int(block.documents[:, 2].sum()),
            self.empty + block.empty,
            self.replaced + block.replaced,
            self.cut + block.cut,
            self.unknown + block.unknown,
        )


@dataclass(frozen=True, slots=True)
class State:
    """The valid part of the store's files after a block."""

    counts: Counts
    sizes: tuple[int, ...]
    """Valid bytes of each file."""
    crc32: tuple[int, ...]
    """CRC-32 of each file's valid bytes."""

    @classmethod
    def empty(cls, files: int) -> State:
        """Return the state before the first block."""
        return cls(Counts(), (0,) * files, (0,) * files)


class Journal:
    """A token store that is being written, with its journal."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """Begin a store, or continue the one in the folder; `identity` describes text, fields and tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.identity = identity
        names = files_of(identity)
        self.state = _whole(folder, names)
        for name, size in zip(names, self.state.sizes, strict=True):
            with (folder / name).open("ab") as file:
                file.truncate(size)
        self.files: list[BinaryIO] = [(folder / name).open("ab") for name in names]
        lines = (identity, asdict(self.state))
        write_text(folder / JOURNAL, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        self.journal = (folder / JOURNAL).open("a", encoding="utf-8")
        if self.state == State.empty(len(names)):
            first = {FILES[1]: np.zeros(1, np.int64).tobytes()}
            self._append(self.state.counts, [first.get(name, b"") for name in names])

    def append(self, block: EncodedBlock) -> None:
        """Append the documents of a block to the files, then the new state to the journal."""
        before = self.state.counts
        sentences = before.tokens + np.cumsum(block.sentences)
        codes, sizes, text = block.documents.T
        stops = before.sentences + np.cumsum(codes + sizes)
        documents = np.stack([stops - sizes, stops, text], axis=1)
        parts = dict(zip(FILES, (block.ids, sentences.tobytes(), documents.tobytes()), strict=True))
        parts |= {ORIGINS: block.origins, TOGETHER: block.together}
        self._append(before.after(block), [parts[name] for name in files_of(self.identity)])

    def finish(self) -> None:
        """Finish the store: flush to disk, write `meta.json` and delete the journal."""
        self.close(sync=True)
        write_json(self.folder / META, {**self.identity, **asdict(self.state)})
        (self.folder / JOURNAL).unlink()

    def abandon(self) -> None:
        """Delete the journal and the files."""
        self.close()
        for name in (JOURNAL, *files_of(self.identity)):
            (self.folder / name).unlink()

    def close(self, *, sync: bool = False) -> None:
        """Close the files; a later `Journal` can continue them.

        Args:
            sync: also force the files to disk (fsync).
        """
        files: list[IO[Any]] = [*self.files, self.journal]
        for file in files:
            if not file.closed:
                file.flush()
                if sync:
                    os.fsync(file.fileno())
                file.close()

    def _append(self, counts: Counts, parts: list[bytes]) -> None:
        for file, part in zip(self.files, parts, strict=True):
            file.write(part)
            file.flush()
        sizes = tuple(size + len(part) for size, part in zip(self.state.sizes, parts, strict=True))
        crc32 = tuple(zlib.crc32(part, crc) for crc, part in zip(self.state.crc32, parts, strict=True))
        self.state = State(counts, sizes, crc32)
        self.journal.write(json.dumps(asdict(self.state)) + "\n")
        self.journal.flush()


def files_of(identity: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of a store's files by its identity."""
    origins, together = bool(identity.get("kept")), identity.get("together") is not None
    return (*FILES, *[ORIGINS] * origins, *[TOGETHER] * together)


def checksum(file: Path, size: int) -> int:
    """Return the CRC-32 of the first `size` bytes of a file."""
    crc = 0
    with file.open("rb") as opened:
        while size > 0 and (data := opened.read(min(size, READ_BYTES))):
            crc = zlib.crc32(data, crc)
            size -= len(data)
    return crc


def begun(folder: Path) -> dict[str, Any] | None:
    """Return the identity of the unfinished store in a folder; None: there is none.

    Raises:
        GenusError: the journal does not begin with one.
    """
    lines = _lines(folder)
    if not (folder / JOURNAL).exists():
        return None
    with expecting(folder / JOURNAL, f"delete {folder} and prepare it again"):
        identity: dict[str, Any] = json.loads(next(lines))
        check_identity(identity)
    return identity


def check_identity(identity: dict[str, Any]) -> None:
    """Check that a table describes text, fields and tokenizer of a store.

    Raises:
        LookupError, TypeError or ValueError: it does not.
    """
    kinds = {"tokenizer": str, "field": str, "title": str | None, "source": str | None, "text": list}
    kinds |= {"together": str | None}
    for name, kind in kinds.items():
        if not isinstance(identity.get(name), kind):
            raise TypeError(f"{name} is {identity.get(name)!r}")
    if identity["dtype"] not in ("uint16", "uint32"):
        raise ValueError(f"dtype is {identity['dtype']!r}")
    for fields in ("codes", "kept"):
        if not all(isinstance(name, str) for name in identity.get(fields, [])):
            raise TypeError(f"{fields} are {identity[fields]!r}")
    [(one["hash"], *one["contamination"]) for one in identity.get("curations", [])]
    for name in ("name", "size", "mtime_ns", "sha256"):
        [text[name] for text in identity["text"]]


def state_of(line: dict[str, Any], names: tuple[str, ...] | None = None) -> State:
    """Parse the state in a line of the journal, of files with these names, or in `meta.json`.

    Raises:
        LookupError, TypeError or ValueError: it holds none.
    """
    counts = Counts(**{name: index(number) for name, number in line["counts"].items()})
    sizes, crc32 = (
        tuple(index(number) for number, _ in zip(line[name], names or files_of(line), strict=True))
        for name in ("sizes", "crc32")
    )
    return State(counts, sizes, crc32)


def _whole(folder: Path, names: tuple[str, ...]) -> State:
    """Return the last state in the journal; the empty state, if the files do not match its sizes and checksums."""
    state = State.empty(len(names))
    for line in itertools.islice(_lines(folder), 1, None):
        try:
            state = state_of(json.loads(line), names)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError):  # a torn or damaged line
            break
    for name, size, crc in zip(names, state.sizes, state.crc32, strict=True):
        file = folder / name
        if size and (not file.exists() or file.stat().st_size < size or checksum(file, size) != crc):
            return State.empty(len(names))
    return state


def _lines(folder: Path) -> Iterator[str]:
    """Yield the lines of the journal; the last may be torn."""
    file = folder / JOURNAL
    yield from file.read_text(encoding="utf-8", errors="replace").split("\n") if file.exists() else ()


def read_meta(folder: Path) -> dict[str, Any]:
    """Return what a finished store says of itself.

    Raises:
        GenusError: there is none, it is not finished, of another format, or damaged.
    """
    if (folder / JOURNAL).exists() and not (folder / META).exists():
        raise GenusError(f"{folder}: the token store is not finished; prepare it again to go on")
    file = folder / META
    if not file.exists():
        raise GenusError(f"{folder}: there is no token store in this folder")
    with expecting(file, f"delete {folder} and prepare it again"):
        meta: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if meta["format"] != FORMAT:
            raise GenusError(f"{folder}: format {meta['format']} cannot be read, only {FORMAT}; prepare it again")
        check_identity(meta)
        state_of(meta)
    return meta
