"""Shards: what a pass over the corpus leaves on disk, a block of documents each, complete or not at all.

Pass p leaves for shard s the documents, as lines of JSON (`p/000123.part`, compressed in the last pass); where a corpus
filter follows, also the byte at which each document begins, its number of keys, and the keys; and last of all
`p/000123.json`, the numbers of the report with checksums of the other files. A shard without it is made again.
What a filter derives of the keys before it decides is beside them, by its name.
"""

from __future__ import annotations

import gzip
import lzma
import tempfile
import zlib
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from genus.curate import Kept, Keys
from genus.curate.document import Document, of_line
from genus.errors import GenusError, library
from genus.files import read_json, replacing, write_json
from genus.places import array_bytes, is_remote, load_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from genus.curate import CorpusFilter
    from genus.curate.engines import Engine
    from genus.curate.report import Numbers

Compression = Literal["gz", "zst", "xz", "none"]
OPENED = 64
"""Shards whose offsets are held while texts are read at random."""


@dataclass(frozen=True, slots=True)
class Shards:
    """The shards of one pass."""

    folder: Path

    def path(self, number: int, suffix: str) -> Path:
        """Return the path of a shard's file."""
        return self.folder / f"{number:06d}.{suffix}"

    def write(self, number: int, documents: list[Document], numbers: Numbers, compression: Compression) -> None:
        """Write a shard that no corpus filter looks at, packed.

        Raises:
            GenusError: it cannot be written, as on a full disk.
        """
        packed = pack(b"".join(document.line() for document in documents), compression)
        self._commit(number, {"part": packed}, numbers)

    def write_keys(self, number: int, documents: list[Document], numbers: Numbers, step: CorpusFilter) -> None:
        """Write a shard with the keys of a corpus filter.

        Raises:
            GenusError: it cannot be written, as on a full disk.
        """
        lines = [document.line() for document in documents]
        keys = step.keys_of([document.text for document in documents])
        places = {
            "offsets": np.array([0, *accumulate(map(len, lines))], np.int64),
            "counts": np.array([len(found) for found in keys], np.int64),
            "keys": np.concatenate([step.keys("-")[:0], *keys]),
        }
        arrays = {name: array_bytes(array) for name, array in places.items()}
        self._commit(number, {"part": b"".join(lines), **arrays}, numbers)

    def numbers(self, number: int) -> Numbers | None:
        """Return the report's numbers of a complete shard; None: it is not there, or not whole."""
        path = self.path(number, "json")
        try:
            record = read_json(path)
            for suffix, crc32 in record["crc32"].items():
                if zlib.crc32(self.path(number, suffix).read_bytes()) != crc32:
                    return None
        except (GenusError, LookupError, TypeError, AttributeError, OSError):
            return None
        found: Numbers = record["numbers"]
        return found

    def documents(self, number: int) -> Iterator[Document]:
        """Yield the documents of a shard that is not packed."""
        with self.path(number, "part").open("rb") as file:
            yield from map(of_line, file)

    def load(self, number: int, what: Literal["offsets", "counts", "keys", "removed"]) -> NDArray[Any]:
        """Return an array of a shard, mapped from disk."""
        return load_array(self.path(number, f"{what}.npy"))

    def derived(self, number: int, name: str) -> NDArray[Any] | None:
        """Return what was derived of a shard's keys; None: it is not there, or not whole."""
        try:
            return load_array(self.path(number, f"{name}.npy"))
        except (OSError, ValueError):
            return None

    def write_array(self, number: int, name: str, array: NDArray[Any]) -> None:
        """Write an array of a shard that is not among those with checksums.

        Raises:
            GenusError: it cannot be written, as on a full disk.
        """
        with replacing(self.path(number, f"{name}.npy")) as work:
            work.write_bytes(array_bytes(array))

    def _commit(self, number: int, files: dict[str, bytes], numbers: Numbers) -> None:
        named = {name if name == "part" else f"{name}.npy": data for name, data in files.items()}
        for suffix, data in named.items():
            with replacing(self.path(number, suffix)) as work:
                work.write_bytes(data)
        record = {"crc32": {suffix: zlib.crc32(data) for suffix, data in named.items()}, "numbers": numbers}
        write_json(self.path(number, "json"), record)


@dataclass(frozen=True)
class Derivation:
    """The work of one shard for `Keys.derive`."""

    shards: Shards
    name: str
    function: Callable[[NDArray[Any], NDArray[np.int64]], NDArray[Any]]

    def __call__(self, number: int) -> None:
        """Derive, and write."""
        found = self.function(self.shards.load(number, "keys"), self.shards.load(number, "counts"))
        self.shards.write_array(number, self.name, found)


@dataclass(frozen=True)
class Derived:
    """What was derived of all shards, each read when it is asked for."""

    shards: Shards
    name: str
    number: int

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, number: int) -> NDArray[Any]:
        if not 0 <= number < self.number:
            raise IndexError(number)
        return load_array(self.shards.path(number, f"{self.name}.npy"))


@dataclass(frozen=True)
class KeptFile(Kept):
    """Numbers in a file of 8 bytes each."""

    path: Path

    def load(self) -> NDArray[np.uint64]:
        """Return the numbers."""
        if is_remote(self.path):
            return np.frombuffer(self.path.read_bytes(), np.uint64)
        return np.memmap(self.path, np.uint64, "r") if self.path.stat().st_size else np.zeros(0, np.uint64)


class ShardKeys(Keys):
    """The keys that the shards of a pass hold."""

    def __init__(self, shards: Shards, number: int, engine: Engine) -> None:
        self._shards = shards
        self._number = number
        self._engine = engine
        sizes = (len(shards.load(shard, "counts")) for shard in range(number))
        self._begins = [0, *accumulate(sizes)]
        self._offsets = lru_cache(OPENED)(lambda shard: shards.load(shard, "offsets"))

    @property
    def documents(self) -> int:
        """Number of documents."""
        return self._begins[-1]

    def shards(self) -> Iterator[NDArray[Any]]:
        """Yield the keys shard by shard."""
        for shard in range(self._number):
            yield self._shards.load(shard, "keys")

    def text(self, document: int) -> str:
        """Return the text of a document."""
        shard = bisect_right(self._begins, document) - 1
        place = document - self._begins[shard]
        begin, end = map(int, self._offsets(shard)[place : place + 2])
        with self._shards.path(shard, "part").open("rb") as file:
            file.seek(begin)
            return of_line(file.read(end - begin)).text

    def derive(
        self, name: str, function: Callable[[NDArray[Any], NDArray[np.int64]], NDArray[Any]]
    ) -> Sequence[NDArray[Any]]:
        """Return for each shard what the function makes of its keys, each read when it is asked for."""
        missing = (shard for shard in range(self._number) if self._shards.derived(shard, name) is None)
        for _ in self._engine.in_order(Derivation(self._shards, name, function), missing):
            pass
        return cast("Sequence[NDArray[Any]]", Derived(self._shards, name, self._number))

    def keep(self, name: str, parts: Iterable[NDArray[np.uint64]]) -> Kept:
        """Write arrays one after another into a file."""
        path = self._shards.folder / f"{name}.bin"
        with replacing(path) as work, work.open("wb") as file:
            for part in parts:
                file.write(np.ascontiguousarray(part, np.uint64).data)
        return KeptFile(path)

    def scratch(self, number: int, kind: type[np.generic]) -> NDArray[Any]:
        """Return noughts in a file without a name, beside the shards where these are on this machine."""
        if not number:
            return np.zeros(0, kind)
        folder = None if is_remote(self._shards.folder) else self._shards.folder
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, kind, "w+", shape=(number,))


def pack(data: bytes, compression: Compression) -> bytes:
    """Return bytes compressed, the same for the same bytes; packed pieces one after another are a valid file."""
    if not data or compression == "none":
        return data
    if compression == "gz":
        return gzip.compress(data, 6, mtime=0)
    if compression == "xz":
        return lzma.compress(data)
    return bytes(library("zstandard", "writing .zst", "data").ZstdCompressor().compress(data))


def check(compression: Compression) -> None:
    """Check that the library of a compression is there.

    Raises:
        GenusError: it is not.
    """
    if compression == "zst":
        library("zstandard", "writing .zst", "data")
