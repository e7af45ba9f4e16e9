"""The text of a comparison: one held-out part for all rows, whatever their tokens, and the rest to train on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genus.errors import GenusError, UsageError
from genus.files import read_json, replacing, write_json
from genus.preparation import prepared
from genus.text import Corpus, find, fingerprint
from genus.text.sentences import split

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import TextIOWrapper

    from genus.text import Source

ABOUT = "text.json"
EVERY = 20
"""Of so many documents one is held out, until it is `MOST` bytes; all others are trained on."""
MOST = 1_000_000
SHORTEST = 20
"""Characters of a passage: less is a heading, or a number."""


@dataclass(frozen=True)
class StudyText:
    """Files of JSON lines with the field `text`, as all rows read them."""

    train: Path
    held_out: Path
    digest: str
    """SHA-256 of both, in 16 digits: of their texts, whatever files they came from."""
    bytes: int
    """To train on."""


def study_text(sources: Sequence[Path | str], folder: Path) -> StudyText:
    """Return the two parts of a text, written into a folder if they are not there or the text has changed.

    Every 20th document is held out, up to a megabyte of them, and of what is held out no document is in the rest.

    Raises:
        GenusError: there is no text, it is empty, or it has one document alone.
        UsageError: it is a prepared store, in which nothing but one tokenizer's ids is left.
    """
    if (store := prepared(Corpus(sources))) is not None:
        raise UsageError(f"{store}: is a prepared store, of one tokenizer; a comparison needs the text itself, as its "
                         "rows have tokenizers of their own")  # fmt: skip
    files, about = find(sources), folder / ABOUT
    train, held_out = folder / "train.jsonl", folder / "held-out.jsonl"
    quick = [_quick(source) for source in files]
    if about.exists() and train.exists() and held_out.exists():
        known = read_json(about)
        if known.get("sources") == quick:
            return StudyText(train, held_out, known["digest"], known["bytes"])
    hashed, size = _write(files, train, held_out)
    write_json(about, {"sources": quick, "digest": hashed, "bytes": size})
    return StudyText(train, held_out, hashed, size)


def _quick(source: Source) -> list[object]:
    """Return what tells that a source is as it was, without reading it."""
    if isinstance(source, Path):
        found = source.stat()
        return [str(source.resolve()), found.st_size, found.st_mtime_ns]
    return list(fingerprint(source).values())


def _write(files: Sequence[Source], train: Path, held_out: Path) -> tuple[str, int]:
    """Write both parts; return their digest, and the bytes to train on."""
    hashed, sizes, documents = hashlib.sha256(), {"train": 0, "held out": 0}, 0
    with replacing(train) as first, replacing(held_out) as second:
        with first.open("w", encoding="utf-8") as rest, second.open("w", encoding="utf-8") as held:
            for number, text in enumerate(Corpus(files)):
                holds = number % EVERY == 1 and sizes["held out"] < MOST
                sizes["held out" if holds else "train"] += _line(held if holds else rest, text, hashed)
                documents += 1
        if not documents:
            raise GenusError(f"the text is empty: there is nothing in {', '.join(map(str, files[:3]))}")
        if not sizes["held out"]:
            raise GenusError(f"{files[0]}: is one document, and none can be held out for all rows alike; put blank "
                             "lines between documents")  # fmt: skip
    return hashed.hexdigest()[:16], sizes["train"]


def _line(file: TextIOWrapper, text: str, hashed: hashlib._Hash) -> int:
    """Write a document and add it to a hash; return its bytes."""
    file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    data = text.encode()
    hashed.update(data + b"\0")
    return len(data)


def passages(held_out: Path, number: int, longest: int) -> list[str]:
    """Return sentences of a text at even distances, at most so many, each cut at a space to so many characters.

    Raises:
        GenusError: there is none.
    """
    sentences = [sentence.strip() for text in Corpus([held_out]) for sentence in split(text)]
    found = [cut(sentence, longest) for sentence in sentences if len(sentence) >= SHORTEST] or [
        cut(sentence, longest) for sentence in sentences if sentence
    ]
    if not found:
        raise GenusError(f"{held_out}: holds no sentence; give more text")
    taken = min(number, len(found))
    return [found[place * len(found) // taken] for place in range(taken)]


def cut(text: str, longest: int) -> str:
    """Return a text cut at the last space that leaves at most so many characters; a longer word is cut itself."""
    if len(text) <= longest:
        return text
    return text[: longest + 1].rpartition(" ")[0].rstrip() or text[:longest]


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in 16 digits.

    Raises:
        GenusError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise GenusError(f"{path}: cannot be read: {error.strerror}") from None
