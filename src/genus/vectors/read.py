"""Read tables of word vectors in the text format of GloVe and of word2vec: a word and its numbers on each line.

word2vec and fastText begin with a line of two numbers, words and size; GloVe does not.
"""

from __future__ import annotations

import gzip
import zlib
from array import array
from typing import TYPE_CHECKING

import numpy as np

from genus.errors import GenusError
from genus.files import reason
from genus.vectors import WordVectors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

HEADER = 2


def read_vectors(path: Path) -> WordVectors:
    """Return the vectors of a file, plain or `.gz`; of a word that stands there twice the first one.

    Words with white space inside are left out: texts are cut there, so that no text has them.

    Raises:
        GenusError: it cannot be read, a line has other numbers than the first, or NaN, or there are fewer lines than
            its first line says.
    """
    rows, stated, size = _lines(path), None, 0
    words: dict[str, None] = {}
    values = array("f")
    lines = spaced = repeated = 0
    for number, fields in rows:
        if number == 1 and len(fields) == HEADER and all(field.isdecimal() for field in fields):
            stated, size = (int(field) for field in fields)
            continue
        size, lines = size or len(fields) - 1, lines + 1
        vector = _vector(fields, size, f"{path}, line {number}")
        word = " ".join(fields[:-size])
        if word.split() != [word]:
            spaced += 1
        elif word in words:
            repeated += 1
        else:
            words[word] = None
            values.frombytes(vector.tobytes())
    if not words:
        raise GenusError(f"{path}: holds no word vectors")
    if stated not in (None, lines):
        raise GenusError(f"{path}: its first line says {stated:,} vectors, there are {lines:,}; fetch the file again")
    found = []
    if repeated:
        found.append(f"{path}: {repeated:,} lines repeat a word; its first vector is taken")
    if spaced:
        found.append(f"{path}: {spaced:,} entries are left out that are no word, or have white space inside")
    if broken := sum("\ufffd" in word for word in words):
        found.append(f"{path}: {broken:,} words are no UTF-8, or hold the replacement character")
    return WordVectors([*words], np.frombuffer(values, np.float32).reshape(len(words), size), found)


def _vector(fields: list[str], size: int, where: str) -> NDArray[np.float32]:
    """Return the numbers (E,) at the end of a line.

    Raises:
        GenusError: they are fewer or more, no numbers, or not finite.
    """
    if len(fields) <= size or (len(fields) > size + 1 and _is_number(fields[-size - 1])) or not size:
        raise GenusError(f"{where}: expected a word and {size or 'its'} numbers, got {len(fields)} columns")
    try:
        vector = np.array(fields[-size:], np.float32)
    except ValueError:
        strange = next(field for field in fields[-size:] if not _is_number(field))
        raise GenusError(f"{where}: {strange!r:.40} is no number; vectors are read as text, one word a line") from None
    if not np.isfinite(vector).all():
        raise GenusError(f"{where}: the vector of {fields[0]!r:.40} is not finite; leave the line out")
    return vector


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (number, columns) of the lines that are not empty."""
    try:
        with path.open("rb") as raw, gzip.open(raw) if path.suffix == ".gz" else raw as file:
            for number, line in enumerate(file, 1):
                text = line.decode(errors="replace").strip(" \r\n\t")
                if text:
                    yield number, text.replace("\t", " ").split(" ")
    except (OSError, EOFError, zlib.error) as error:
        raise GenusError(f"{path}: cannot be read: {reason(error)}") from None
