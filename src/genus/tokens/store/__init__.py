"""The token store: a tokenized corpus as flat memory-mapped ids with sentence and document offsets.

A store is a folder (see `journal.py`): 2 bytes per token (4 from 65,537 pieces on), 8 per sentence, 24 per document.
The ids of a sentence are the tokenizer's ids of its text, including the white space before it, without special tokens:
concatenated byte-level ids decode to the document with its line breaks; WordPiece drops white space.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.errors import GenusError
from genus.processes import cores, in_order
from genus.run_folder import RunFolder
from genus.text.fields import TEXT, Fields
from genus.text.read import BLOCK_BYTES, read_blocks
from genus.text.sources import changed, curations, find, fingerprints
from genus.tokens.store.held_out import drawn, held_out_documents, last_sentences
from genus.tokens.store.journal import (
    FILES,
    FORMAT,
    META,
    TOGETHER,
    Counts,
    Journal,
    begun,
    checksum,
    files_of,
    read_meta,
    state_of,
)
from genus.tokens.store.origins import Origins
from genus.tokens.store.tokenize_corpus import EncodedBlock, encode_block
from genus.tokens.vocabulary import unknown_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genus.text import Source, TextBlock
    from genus.tokens.tokenizer import Tokenizer

    InOrder = Callable[[Callable[[TextBlock], EncodedBlock], Iterable[TextBlock]], Iterator[EncodedBlock]]


NOTHING_KNOWN = 0.9
"""Share of unknown tokens above which a corpus is refused."""

LARGEST_EXCESS = 0.05
"""Most of the text, beyond the fraction asked for, that is held out for the sake of whole documents."""

SMALL = 1 << 30
"""Bytes of ids of a store whose checksums a run compares as it begins, in a second; larger ones are trusted."""
COUNTED_AT_ONCE = 1 << 24
"""Tokens per step of counting, which takes 8 bytes each."""

IMAGE_NUMBER = "image_number"
"""The kept field by which a store knows of what image each document is a caption."""
BESIDE = ("codes", "sources", "images", "together")
"""What a store may have of each document."""
ORIGIN = ("source", "row", "id", "url")
"""What a curation writes beside each text, and a store of it keeps."""

ProgressCallback = Callable[[int, int | None], None]
"""Called with the UTF-8 bytes of text tokenized so far, and the estimated total (None: unknown)."""


@dataclass(frozen=True, eq=False)
class Store:
    """A tokenized corpus, read through memory maps.

    Sentence s is tokens [sentences[s], sentences[s+1]) of `ids`. Document d is sentences
    [documents[d, 0], documents[d, 1]), so its tokens are contiguous, from sentences[documents[d, 0]] to
    sentences[documents[d, 1]]. A split shares `ids` and `sentences` with the whole store and keeps some rows of
    `documents`, in order. No document and no sentence is empty.

    Pickling an opened store saves only its folder and splits: the other process maps the files again.
    """

    ids: NDArray[np.unsignedinteger]
    """(tokens of the whole store,) uint16 or uint32."""
    sentences: NDArray[np.int64]
    """(sentences of the whole store + 1,) offsets into `ids`."""
    documents: NDArray[np.int64]
    """(documents, 2) first and past-the-last sentence of each document."""
    document_bytes: NDArray[np.int64]
    """(documents,) UTF-8 bytes of each document's text, from which bits per byte are computed. Of a document of which
    a part is held out, each part has the bytes in proportion to its tokens."""
    folder: Path | None = None
    """Folder of an opened store; None for a store in memory."""
    codes: NDArray[np.int64] | None = None
    """(documents, 2) first and past-the-last sentence of each document's control codes; None: the store has none."""
    sources: NDArray[np.int64] | None = None
    """(documents, 2) the same of each document's source, of which the document is the target: one sentence, or none
    where it has no source; None: the store has none."""
    images: NDArray[np.int64] | None = None
    """(documents,) the number of the image that each document is a caption of, in the image store beside this one
    (`genus.images`). None: the documents are no captions."""
    together: NDArray[np.uint64] | None = None
    """(documents,) equal for those that are held out together, 0 for one by itself; None: all are by themselves."""
    splits: tuple[tuple[float, bool], ...] = ()
    """The splits that lead from the whole store to this one: (held-out fraction, whether this is the held-out side)."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the folder of an opened store instead of its arrays."""
        if self.folder is None:
            arrays = self.ids, self.sentences, self.documents, self.document_bytes, None
            return Store, (*arrays, *(getattr(self, name) for name in BESIDE))
        return _reopen, (self.folder, self.splits)

    @staticmethod
    def is_at(folder: Path) -> bool:
        """Return whether a folder is a finished store."""
        return os.path.isfile(folder / META) and os.path.isfile(folder / FILES[0])  # false where it cannot be read

    @classmethod
    def open(cls, folder: Path, tokenizer: Tokenizer | None = None) -> Store:
        """Open a store after a check of file sizes; `check` verifies the contents.

        Raises:
            GenusError: there is no store, it is unfinished or truncated, or it was made with another tokenizer.
        """
        meta = read_meta(folder)
        if tokenizer is not None and meta["tokenizer"] != tokenizer.hash():
            raise GenusError(
                f"{folder}: was made with another tokenizer ({meta['tokenizer']}, not {tokenizer.hash()}); give that "
                "one, or prepare into another folder"
            )
        state = state_of(meta)
        for name, size in zip(files_of(meta), state.sizes, strict=True):
            file = folder / name
            if not file.is_file() or file.stat().st_size != size:
                raise GenusError(f"{file}: is damaged; delete {folder} and prepare it again")
        return _map(folder, meta)

    @classmethod
    def check(cls, folder: Path) -> None:
        """Verify the checksums (CRC-32) of a whole store (about 1 GB/s).

        Raises:
            GenusError: there is no store, or it is unfinished or damaged.
        """
        cls.open(folder)
        meta = read_meta(folder)
        state = state_of(meta)
        for name, size, crc in zip(files_of(meta), state.sizes, state.crc32, strict=True):
            if checksum(folder / name, size) != crc:
                raise GenusError(f"{folder / name}: is damaged; delete {folder} and prepare it again")

    def counts(self, size: int) -> NDArray[np.int64]:
        """Return token counts (size,), by id, over the whole store, held-out documents included; reads all ids."""
        total = np.zeros(size, dtype=np.int64)
        for start in range(0, len(self.ids), COUNTED_AT_ONCE):
            total += np.bincount(self.ids[start : start + COUNTED_AT_ONCE], minlength=size)
        return total

    @property
    def tokens(self) -> int:
        """Number of tokens of the documents."""
        return int(self._document_tokens().sum())

    def split(self, held_out: float) -> tuple[Store, Store]:
        """Split into training text and a held-out fraction of the text.

        Documents are held out whole, chosen by a hash of their indices. Unless the fraction is 0, each side gets at
        least two documents if there are four, since pairs of segments need two, otherwise at least one. Where this
        takes over `LARGEST_EXCESS` more of the text than asked, as of a few books, the last sentences of every
        document are held out instead: at most the fraction of its tokens, of some document at least one sentence. A
        document with a source stays whole, and so do documents that are held out together, such as near duplicates.

        Raises:
            GenusError: the store has one document of one sentence, or one pair, or all are held out together, and the
                fraction is not 0.
        """
        if held_out > 0 and self.together is not None and not self._chosen(held_out).any():
            raise GenusError("all documents belong together, so none can be held out; take --run held_out=0")
        if held_out > 0 and len(self.documents) < 2 and self.sources is not None:
            raise GenusError(
                "the corpus is one source with its target, so none can be held out: give more, or take --run held_out=0"
            )
        if held_out > 0 and len(self.documents) < 2 and np.diff(self.documents).sum() < 2:
            raise GenusError(
                "the corpus has one document of one sentence, so none can be held out: "
                "put blank lines between documents, or take --run held_out=0"
            )
        return self._side(held_out, False), self._side(held_out, True)

    def _side(self, held_out: float, is_held_out: bool) -> Store:
        chosen = self._chosen(held_out)
        tokens = self._document_tokens()
        first, last = self.documents.T
        cut = last
        few = len(chosen) < 2 or tokens[chosen].sum() > (held_out + LARGEST_EXCESS) * tokens.sum()
        if few and self.sources is None and self.together is None:
            cut = last_sentences(self.sentences, self.documents, held_out)
        if (cut == last).all():
            rows = chosen == is_held_out
            documents, text = self.documents[rows], self.document_bytes[rows]
        else:
            begin, end = (cut, last) if is_held_out else (first, cut)
            rows, size = begin < end, self.sentences[end] - self.sentences[begin]
            documents = np.stack([begin, end], axis=1)[rows]
            text = np.rint(self.document_bytes * (size / tokens)).astype(np.int64)[rows]
        beside: dict[str, Any] = {name: None if (old := getattr(self, name)) is None else old[rows] for name in BESIDE}
        splits = (*self.splits, (held_out, is_held_out))
        return replace(self, documents=documents, document_bytes=text, splits=splits, **beside)

    def _chosen(self, held_out: float) -> NDArray[np.bool_]:
        """Return (documents,) which documents are held out if they are held out whole."""
        return held_out_documents(drawn(len(self.documents), self.together), held_out)

    def _document_tokens(self) -> NDArray[np.int64]:
        """Return (documents,) the number of tokens of each document."""
        first, last = self.sentences[self.documents].T
        tokens: NDArray[np.int64] = last - first
        return tokens


def prepare(
    sources: Iterable[Path | str],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    workers: int | None = None,
    fields: Fields = TEXT,
    progress: ProgressCallback | None = None,
    engine: InOrder | None = None,
) -> Store:
    """Tokenize a corpus into a token store; a restart continues after the last block written.

    Args:
        sources: files, folders and dataset ids (see `genus.text.read_documents`).
        tokenizer: a trained tokenizer.
        folder: the folder of the store; a finished store of the same text and tokenizer is opened unchanged.
        workers: number of processes, by default one per processor; the store does not depend on it.
        fields: names of the fields or columns of text, title, control codes or source, if the format has fields; of
            those that are kept the store remembers, for each document, beside its source and row (`origins.py`). Of
            text that was curated that is so without being asked for (`ORIGIN`), and so is what belongs together.
        progress: called after every block.
        engine: what yields a function of each item, in order; None: processes of this machine.

    Raises:
        GenusError: the folder holds a store of another text or tokenizer; text cannot be read; there is no text, or
            the tokenizer knows next to nothing of it; the disk is full.
        UsageError: another process writes into the folder.
    """
    found = find(sources)
    with nullcontext() if Store.is_at(folder) else RunFolder(folder).lock():
        known = read_meta(folder) if Store.is_at(folder) else begun(folder)
        if known is not None:
            _check_same(known, found, tokenizer, fields, folder)
        if Store.is_at(folder):
            return Store.open(folder, tokenizer)
        workers = workers or cores()
        identity = known or _identity(found, tokenizer, fields, workers)
        try:
            fields = replace(fields, kept=tuple(identity.get("kept", ())), together=identity.get("together"))
            _write(found, tokenizer, Journal(folder, identity), workers, fields, progress, engine)
        except OSError as error:
            reason = error.strerror or error
            raise GenusError(
                f"{folder}: cannot be written ({reason}); make room, and run again to go on from here"
            ) from None
        return Store.open(folder, tokenizer)


def _identity(sources: list[Source], tokenizer: Tokenizer, fields: Fields, workers: int) -> dict[str, Any]:
    """Return what a new store is made from, and what it keeps of each document."""
    identity: dict[str, Any] = {
        "format": FORMAT,
        "tokenizer": tokenizer.hash(),
        "dtype": np.dtype(tokenizer.dtype).name,
        "field": fields.text,
        "title": fields.title,
        "codes": list(fields.codes),
        "source": fields.source,
        "text": fingerprints(sources, workers),
    }
    if made_by := curations(sources):
        identity["curations"] = made_by
    if kept := fields.kept or (ORIGIN if made_by else ()):
        identity["kept"] = list(kept)
    if (
        together := fields.together or next((one["together"] for one in made_by if "together" in one), None)
    ) is not None:
        identity["together"] = together
    return identity


def curated(folder: Path) -> list[dict[str, Any]]:
    """Return of each curation of the store's text its name, its hash, and what was done about contamination."""
    found: list[dict[str, Any]] = read_meta(folder).get("curations", [])
    return found


def counts(folder: Path) -> Counts:
    """Return the counts of a store: its content, and the dropped and repaired parts of the corpus."""
    return state_of(read_meta(folder)).counts


def _write(
    sources: list[Source],
    tokenizer: Tokenizer,
    journal: Journal,
    workers: int,
    fields: Fields,
    progress: ProgressCallback | None,
    engine: InOrder | None,
) -> None:
    sizes = [source.stat().st_size if isinstance(source, Path) else 0 for source in sources]
    total = sum(sizes) if all(sizes) else 0
    most = max(1, total // BLOCK_BYTES) if total else workers
    blocks = itertools.islice(read_blocks(sources, fields), journal.state.counts.blocks, None)
    try:
        encode = partial(encode_block, tokenizer=tokenizer, origins=bool(fields.kept), together=fields.together)
        for block in engine(encode, blocks) if engine else in_order(encode, blocks, min(workers, most)):
            journal.append(block)
            if progress is not None:
                done = journal.state.counts.bytes
                progress(done, int(done * total / block.position) if total and block.position else None)
        if journal.state.counts.documents == 0:
            journal.abandon()
            raise GenusError(f"the corpus is empty: there is no text in {', '.join(map(str, sources[:3]))}")
        if (found := journal.state.counts).unknown > NOTHING_KNOWN * found.tokens:
            journal.abandon()
            named = ", ".join(map(str, sources[:3]))
            raise GenusError(f"{named}: {unknown_share(found.unknown, found.tokens)}")
        journal.finish()
    finally:
        journal.close()


def _check_same(
    known: dict[str, Any], sources: list[Source], tokenizer: Tokenizer, fields: Fields, folder: Path
) -> None:
    """Check that a folder was begun with the same format, text, fields and tokenizer.

    Raises:
        GenusError: one of them differs; the message names it.
    """
    why = None
    if known["format"] != FORMAT:
        why = f"written in format {known['format']}, not {FORMAT}"
    elif known["tokenizer"] != tokenizer.hash():
        why = f"made with another tokenizer ({known['tokenizer']}, not {tokenizer.hash()})"
    elif (made_from := _fields(known)) != replace(fields, kept=(), together=None):
        why = f"made from the field {made_from}, not {fields}"
    elif fields.together not in (None, together := known.get("together")):
        why = f"made with {together or 'nothing'} held out together, not {fields.together}"
    why = why or changed(known["text"], sources)
    if why:
        raise GenusError(f"{folder}: was {why}; delete the folder, or prepare into another")


def _fields(known: dict[str, Any]) -> Fields:
    """Return the fields that a store was made from."""
    return Fields(known["field"], known.get("title"), tuple(known.get("codes", ())), known.get("source"))


def _map(folder: Path, meta: dict[str, Any]) -> Store:
    ids, sentences, documents = (
        np.asarray(np.memmap(folder / name, dtype=kind, mode="r"))  # plain arrays slice faster than `memmap` objects
        for name, kind in zip(FILES, (np.dtype(meta["dtype"]), np.int64, np.int64), strict=True)
    )
    rows = documents.reshape(-1, 3)
    first, last, size = rows.T
    coded, paired = bool(meta.get("codes")), meta.get("source") is not None
    before = np.stack([np.append(0, last[:-1]), first], axis=1) if coded or paired else None
    beside: dict[str, Any] = {"codes": before if coded else None, "sources": before if paired else None}
    if meta.get("together") is not None:
        groups = np.asarray(np.memmap(folder / TOGETHER, np.dtype("<u8"), mode="r"))
        beside["together"] = groups if groups.any() else None
    if IMAGE_NUMBER in meta.get("kept", ()):
        beside["images"] = np.array([one[IMAGE_NUMBER] for one in Origins(folder.absolute())], np.int64)
    return Store(ids, sentences, rows[:, :2], size, folder.absolute(), **beside)


def _reopen(folder: Path, splits: tuple[tuple[float, bool], ...]) -> Store:
    """Map a store that another process opened, and repeat its splits."""
    store = _map(folder, read_meta(folder))
    for held_out, is_held_out in splits:
        store = store._side(held_out, is_held_out)
    return store
