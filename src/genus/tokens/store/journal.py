"""Write a token store block by block, so that a process killed at any moment loses the block it was writing.

Three flat files grow (`ids.bin`, `sentences.bin`, `documents.bin`); after every block one line of `journal.jsonl` says
how much of them is whole, with their checksums so far. A restart cuts the files to what the last line says. When all is
written `meta.json` takes the journal's place: a folder is a store exactly if it has one.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import numpy as np

from genus.files import write_json, write_text

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tokens.store.tokenize_corpus import EncodedBlock

META = "meta.json"
JOURNAL = "journal.jsonl"
FILES = ("ids.bin", "sentences.bin", "documents.bin")
"""Ids; int64 offset of the first token of every sentence, and past the last; int64 (first sentence, past the last,
bytes) of every document."""
READ_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Counts:
    """What a token store holds, and what was dropped or mended on the way."""

    blocks: int = 0
    documents: int = 0
    sentences: int = 0
    tokens: int = 0
    bytes: int = 0
    """Of UTF-8 text."""
    empty: int = 0
    """Documents dropped because nothing but white space, or nothing that the tokenizer keeps, was in them."""
    replaced: int = 0
    """Invalid UTF-8 sequences, each replaced by U+FFFD."""

    def after(self, block: EncodedBlock) -> Counts:
        """Return the counts with one more block."""
        return Counts(
            self.blocks + 1,
            self.documents + len(block.documents),
            self.sentences + len(block.sentences),
            self.tokens + int(block.sentences.sum()),
            self.bytes + int(block.documents[:, 1].sum()),
            self.empty + block.empty,
            self.replaced + block.replaced,
        )


@dataclass(frozen=True, slots=True)
class State:
    """How much is whole."""

    counts: Counts
    sizes: tuple[int, ...]
    """Bytes of each of the files."""
    crc32: tuple[int, ...]
    """Of each of the files up to its size."""


EMPTY = State(Counts(), (0, 0, 0), (0, 0, 0))


class Journal:
    """A store that is being written."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """Begin a store, or go on with the one that is in the folder; `identity` says what it is made of."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.identity = identity
        self.state = _whole(folder)
        for name, size in zip(FILES, self.state.sizes, strict=True):
            with (folder / name).open("ab") as file:
                file.truncate(size)
        self.files: list[BinaryIO] = [(folder / name).open("ab") for name in FILES]
        write_text(folder / JOURNAL, "".join(json.dumps(line) + "\n" for line in (identity, asdict(self.state))))
        self.journal = (folder / JOURNAL).open("a", encoding="utf-8")
        if self.state == EMPTY:
            self._append(EMPTY.counts, [b"", np.zeros(1, np.int64).tobytes(), b""])

    def append(self, block: EncodedBlock) -> None:
        """Write the documents of a block."""
        before = self.state.counts
        sentences = before.tokens + np.cumsum(block.sentences)
        stops = before.sentences + np.cumsum(block.documents[:, 0])
        documents = np.stack([stops - block.documents[:, 0], stops, block.documents[:, 1]], axis=1)
        self._append(before.after(block), [block.ids, sentences.tobytes(), documents.tobytes()])

    def finish(self) -> None:
        """Make the folder a store."""
        self.close(sync=True)
        write_json(self.folder / META, {**self.identity, **asdict(self.state)})
        (self.folder / JOURNAL).unlink()

    def abandon(self) -> None:
        """Take away what was written."""
        self.close()
        for name in (JOURNAL, *FILES):
            (self.folder / name).unlink()

    def close(self, *, sync: bool = False) -> None:
        """Close the files; what the journal says remains."""
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


def checksum(file: Path, size: int) -> int:
    """Return the CRC-32 of the first bytes of a file."""
    crc = 0
    with file.open("rb") as opened:
        while size > 0 and (data := opened.read(min(size, READ_BYTES))):
            crc = zlib.crc32(data, crc)
            size -= len(data)
    return crc


def begun(folder: Path) -> dict[str, Any] | None:
    """Return what the unfinished store in a folder is made of, or None where there is none."""
    lines = _lines(folder)
    return lines[0] if lines else None


def state_of(line: dict[str, Any]) -> State:
    """Read a state, from a line of the journal or from `meta.json`."""
    return State(Counts(**line["counts"]), tuple(line["sizes"]), tuple(line["crc32"]))


def _whole(folder: Path) -> State:
    """Return the last state in the journal, or the empty one where the files are not as it says."""
    lines = _lines(folder)
    if len(lines) < 2:
        return EMPTY
    state = state_of(lines[-1])
    for name, size, crc in zip(FILES, state.sizes, state.crc32, strict=True):
        file = folder / name
        if not file.exists() or file.stat().st_size < size or checksum(file, size) != crc:
            return EMPTY
    return state


def _lines(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the journal that were written to their end."""
    file = folder / JOURNAL
    lines = file.read_text(encoding="utf-8").split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]
