"""An index on disk by which any string is found in a corpus without reading it: suffix arrays (Manber and Myers 1993).

The folder holds for each shard, some 32 MB of documents, their UTF-8 bytes, each with a byte after it that no text has
(`000000.text`); the places of all bytes, sorted by what follows them (`.suffixes.npy`, 4 bytes each); where documents
begin (`.begins.npy`); and what they are (`.jsonl`). `index.json` comes last, with the fingerprints of the text.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from genus.curate.occurrences import Found, Occurrence
from genus.errors import UsageError, library
from genus.files import expecting, read_json, replacing, write_json
from genus.places import array_bytes
from genus.processes import cores
from genus.run_folder import LOCK, RunFolder
from genus.text.sources import changed, fingerprints

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from genus.curate.engines import Engine
    from genus.curate.occurrences import Corpus, Query
    from genus.text import Source

INDEX = "index.json"
FORMAT = 1
SHARD_BYTES = 1 << 25
"""Bytes of text from which on a shard is complete: sorting takes 5 bytes for each in every worker."""
END = b"\xff"
"""Stands after each document."""
WIDEST = 4
"""Bytes of a character, at most."""


class Shard(NamedTuple):
    """Documents that are sorted together."""

    number: int
    text: bytes
    begins: list[int]
    identities: list[str]
    """A line of JSON of each document."""


@dataclass(frozen=True)
class Sorting:
    """The work of one shard."""

    folder: Path

    def __call__(self, shard: Shard) -> None:
        """Sort a shard's suffixes, and write its files; the last one says that it is complete."""
        divsufsort = library("pydivsufsort", "an index of strings", "curate").divsufsort
        suffixes = np.asarray(divsufsort(np.frombuffer(bytearray(shard.text), np.uint8)), np.int32)
        files = {
            "text": shard.text,
            "suffixes.npy": array_bytes(suffixes),
            "begins.npy": array_bytes(np.array(shard.begins, np.int64)),
            "jsonl": "".join(shard.identities).encode(),
        }
        for suffix, data in files.items():
            with replacing(self.folder / f"{shard.number:06d}.{suffix}") as work:
                work.write_bytes(data)
        write_json(_record(self.folder, shard.number), {suffix: len(data) for suffix, data in files.items()})


@dataclass(frozen=True)
class Opened:
    """A shard of an index, mapped from disk."""

    path: Path
    """Of its files, without their suffixes."""
    text: NDArray[np.uint8]
    suffixes: NDArray[np.int32]
    begins: NDArray[np.int64]

    @classmethod
    def at(cls, path: Path) -> Opened:
        """Open a shard, given the path of its files without suffixes."""
        text = np.memmap(path.with_suffix(".text"), np.uint8, "r")
        suffixes: NDArray[np.int32] = np.load(path.with_suffix(".suffixes.npy"), mmap_mode="r")
        begins: NDArray[np.int64] = np.load(path.with_suffix(".begins.npy"))
        return cls(path, text, suffixes, begins)

    def identities(self) -> list[str]:
        """Return a line of JSON of each document."""
        return self.path.with_suffix(".jsonl").read_text(encoding="utf-8").split("\n")

    def documents(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the documents in which places of the text lie."""
        return np.searchsorted(self.begins, places, "right") - 1


class SuffixIndex:
    """An index in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def is_there(self) -> bool:
        """Whether the folder holds a finished index."""
        return (self.folder / INDEX).is_file()

    def build(self, corpus: Corpus, engine: Engine) -> None:
        """Make the index; one that was stopped goes on where it was.

        Raises:
            UsageError: the folder holds something else, or another process writes into it.
            GenusError: the text cannot be read, the folder cannot be written, or the library is missing.
        """
        library("pydivsufsort", "an index of strings", "curate")
        sources = corpus.sources()
        identity = {
            "format": FORMAT,
            "field": corpus.field,
            "sources": [_absolute(source) for source in sources],
            "text": fingerprints(sources, cores()),
        }
        with RunFolder(self.folder).lock():
            begun = self.folder / "made_from.json"
            if not begun.exists() or read_json(begun) != identity:
                if others := sorted({path.name for path in self.folder.iterdir()} - {LOCK}):
                    raise UsageError(f"{self.folder}: is not empty, and no index of this text ({others[0]}); "
                                     "delete it, or take another folder")  # fmt: skip
                write_json(begun, identity)
            number = 0
            for _ in engine.in_order(Sorting(self.folder), (shard for shard in _shards(corpus) if self._lacks(shard))):
                pass
            while _record(self.folder, number).exists():
                number += 1
            write_json(self.folder / INDEX, {**identity, "shards": number})

    def _lacks(self, shard: Shard) -> bool:
        """Return whether a shard is to be sorted."""
        record = _record(self.folder, shard.number)
        if not record.exists():
            return True
        sizes = read_json(record)
        return any(
            not (path := self.folder / f"{shard.number:06d}.{suffix}").is_file() or path.stat().st_size != size
            for suffix, size in sizes.items()
        )

    def check(self, corpus: Corpus | None) -> None:
        """Check that the text is what it was when the index was made.

        Args:
            corpus: what the index is to be of; None: of what it was made from.

        Raises:
            UsageError: it is not.
        """
        known = self._read()
        sources: list[Source] = [
            Path(name) if kind == "file" else name for kind, name in known["sources"]
        ] if corpus is None else corpus.sources()  # fmt: skip
        if gone := [source for source in sources if isinstance(source, Path) and not source.is_file()]:
            raise UsageError(f"{self.folder}: {gone[0]}, of which the index is made, is not there any more")
        if corpus is not None and corpus.field != known["field"]:
            raise UsageError(f"{self.folder}: is an index of the field {known['field']!r}; take another folder")
        if why := changed(known["text"], sources):
            raise UsageError(f"{self.folder}: was {why}; delete it to make it again, or take another folder")

    def find(self, query: Query) -> Found:
        """Return what is found, by some 30 looks at the text of each shard.

        Raises:
            GenusError: the index is damaged.
        """
        found = Found()
        for number in range(self._read()["shards"]):
            with expecting(self.folder / f"{number:06d}.text", f"delete {self.folder} and make it again"):
                found.add(self._find(number, query), query.most)
        return found

    def opened(self) -> list[Opened]:
        """Return all shards, mapped from disk.

        Raises:
            UsageError: there is no index.
            GenusError: it is damaged.
        """
        found = []
        for number in range(self._read()["shards"]):
            with expecting(self.folder / f"{number:06d}.text", f"delete {self.folder} and make it again"):
                found.append(Opened.at(self.folder / f"{number:06d}"))
        return found

    def _find(self, number: int, query: Query) -> Found:
        shard = Opened.at(self.folder / f"{number:06d}")
        text, order, begins = shard.text, shard.suffixes, shard.begins
        wanted = query.string.encode(errors="replace")

        def head(place: np.int32) -> bytes:
            return text[place : place + len(wanted)].tobytes()

        first = bisect_left(order, wanted, key=head)
        last = bisect_right(order, wanted, lo=first, key=head)
        places = np.sort(order[first:last]).astype(np.int64)
        documents = shard.documents(places)
        shown = places[: query.most].tolist()
        lines = shard.identities() if shown else []
        told = []
        for place, document in zip(shown, documents.tolist(), strict=False):
            begin, end = int(begins[document]), [*begins[document + 1 : document + 2].tolist(), len(text)][0] - 1
            told.append(_occurrence(text, (begin, place, end), len(wanted), query.context, json.loads(lines[document])))
        return Found(len(places), len(np.unique(documents)), told)

    def _read(self) -> dict[str, Any]:
        if not self.is_there:
            raise UsageError(f"{self.folder}: there is no index; name the TEXT of which to make it")
        known = read_json(self.folder / INDEX)
        if known.get("format") != FORMAT:
            raise UsageError(f"{self.folder}: is an index of another version; delete it to make it again")
        return known


def _occurrence(
    text: NDArray[np.uint8], place: tuple[int, int, int], size: int, context: int, identity: dict[str, Any]
) -> Occurrence:
    """Return an occurrence, given where its document begins, where it stands, and where its document ends."""
    begin, here, end = place
    before = text[begin:here].tobytes().decode()
    after = text[here + size : min(end, here + size + WIDEST * context)].tobytes().decode(errors="ignore")
    return Occurrence(identity, len(before), before[len(before) - min(context, len(before)) :], after[:context])


def _shards(corpus: Corpus) -> Iterator[Shard]:
    number, size = 0, 0
    texts, begins, identities = list[bytes](), list[int](), list[str]()
    for piece in corpus.pieces():
        for document in piece.read():
            texts += [document.text.encode(errors="replace"), END]
            begins.append(size)
            identities.append(json.dumps(document.identity, default=str) + "\n")
            size += len(texts[-2]) + 1
            if size >= SHARD_BYTES:
                yield Shard(number, b"".join(texts), begins, identities)
                number, size, texts, begins, identities = number + 1, 0, [], [], []
    if texts:
        yield Shard(number, b"".join(texts), begins, identities)


def _record(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.json"


def _absolute(source: Source) -> list[str]:
    return ["dataset", source] if isinstance(source, str) else ["file", str(source.absolute())]
