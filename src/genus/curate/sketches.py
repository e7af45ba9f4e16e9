"""MinHash of many texts at once: words, runs of words and signatures as arrays, without an object for each word.

Signatures are those of fast similarity sketching (Dahlgaard, Knudsen and Thorup 2017, arXiv:1704.04370, section 2): a
hash of an element chooses which value of the signature it may lower, round after round until each value has an element.
Two signatures agree in a value with the probability of the sets' Jaccard index J, as with one hash function for each
value, and the error of the share that agrees is at most sqrt(J (1 - J) / values); yet an element of a large set is
hashed about once instead of once for each value.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from genus.curate.minhash import FIRST, STEP, mixed, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

AT_ONCE = 1 << 18
"""Characters whose words are found at once: some 8 MB of arrays."""
WORD = 8
"""Bytes of a word that are hashed at once."""
END = b"\xff"
"""Stands before each text, and after the last: no byte of UTF-8."""
LETTERS = bytes(chr(code).isalnum() or chr(code) == "_" for code in range(128)) + bytes(128)
LOWER = bytes(range(128)).lower() + bytes(range(128, 256))
LETTER, OTHER, CAPITAL, ODD = 1, 2, 3, 4
"""Kinds of characters; odd are capitals whose lower case depends on others, or has more or fewer bytes."""
FINAL = "\N{GREEK CAPITAL LETTER SIGMA}"
"""The only capital whose lower case depends on what stands around it."""
PAGE = 1 << 8
"""Characters that are classified at once."""
LAST = 0x110000
EMPTY = 0xFFFFFFFF
"""A value that no element has lowered."""


def signatures(texts: Sequence[str], words: int, values: int) -> NDArray[np.uint32]:
    """Return a signature of the set of runs of `words` words of each text, (texts, values).

    Words are those of `words_of`. A shorter text is one run; one without words has the signature of an empty set.
    """
    parts = [np.zeros((0, values), np.uint32)]
    for group in _groups(texts):
        hashes, counts = word_hashes(group)
        runs, owners = _runs(hashes, counts, words)
        parts.append(sketches(runs, owners, len(group), values))
    return np.concatenate(parts)


def word_hashes(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return a hash of 64 bits of each word of texts, in lower case, and how many words each text has."""
    if len(texts) == 1 and len(texts[0]) > 2 * AT_ONCE:
        parts = [word_hashes([piece]) for piece in _pieces(texts[0])]
        return np.concatenate([hashes for hashes, _ in parts]), np.sum([count for _, count in parts], axis=0)
    lowered, letters = _lowered(texts)
    edges = np.flatnonzero(letters[1:] != letters[:-1]) + 1
    begins, ends = edges[::2], edges[1::2]
    counts = np.diff(np.searchsorted(begins, np.flatnonzero(lowered == END[0])))
    strange = {number for number in np.flatnonzero(counts == 0).tolist() if texts[number].strip()}
    if strange:
        return word_hashes([_in_letters(text) if n in strange else text for n, text in enumerate(texts)])
    return _hashed(lowered, begins, ends - begins), counts


def _hashed(data: NDArray[np.uint8], begins: NDArray[np.intp], sizes: NDArray[np.intp]) -> NDArray[np.uint64]:
    """Return the hash of each word from its bytes, 8 at a time."""
    words = sliding_window_view(data, WORD)
    masks = np.array([(1 << 8 * size) - 1 for size in range(WORD + 1)], np.uint64)
    found = mixed(words[begins].view("<u8")[:, 0] & masks[np.minimum(sizes, WORD)])
    rest = np.flatnonzero(sizes > WORD)
    done = WORD
    while len(rest):
        more = words[begins[rest] + done].view("<u8")[:, 0] & masks[np.minimum(sizes[rest] - done, WORD)]
        found[rest] = mixed(found[rest] + more)
        done += WORD
        rest = rest[sizes[rest] > done]
    return found


def _lowered(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the bytes of texts in lower case, each after `END`, and which of them are of words' characters."""
    data = END.join([b"", *(text.encode("utf-8", "surrogatepass") for text in texts), bytes(WORD)])
    row, letters = (np.frombuffer(bytearray(data.translate(table)), np.uint8) for table in (LOWER, LETTERS))
    places, codes, sizes = _characters(row)
    kinds = _kinds(codes)
    if (odd := places[kinds == ODD]).size:
        among = np.unique(np.searchsorted(np.flatnonzero(row == END[0]), odd) - 1).tolist()
        return _lowered([text.lower() if number in among else text for number, text in enumerate(texts)])
    capital = np.flatnonzero(kinds == CAPITAL)
    if len(capital):
        codes[capital] = _tables()[1][codes[capital]]
        kinds[capital] = _kinds(codes[capital])
        for size in (2, 3, 4):
            mine = capital[sizes[capital] == size]
            for offset in range(size):  # the last byte first
                bits = codes[mine] >> np.uint32(6 * offset)
                head = 0x80 if offset < size - 1 else 0xF0 << (4 - size) & 0xFF
                row[places[mine] + size - 1 - offset] = bits & np.uint32(0x3F) | np.uint32(head)
    found, size = places[kinds == LETTER], sizes[kinds == LETTER]
    for offset in range(4):
        letters[found[size > offset] + offset] = True
    return row, letters.view(np.bool_)


def _characters(row: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.uint32], NDArray[np.int8]]:
    """Return of characters beyond ASCII the place in UTF-8, the code, and the number of bytes."""
    places = np.flatnonzero((row >= 0xC0) & (row < 0xF8))
    first = row[places].astype(np.uint32)
    sizes = (2 + (first >= 0xE0) + (first >= 0xF0)).astype(np.int8)
    codes = first & np.array([0, 0, 0x1F, 0x0F, 0x07], np.uint32)[sizes]
    for offset in range(1, 4):
        longer = sizes > offset
        codes[longer] = codes[longer] << np.uint32(6) | row[places[longer] + offset] & np.uint8(0x3F)
    return places, codes, sizes


def sketches(elements: NDArray[np.uint64], owners: NDArray[np.intp], sets: int, values: int) -> NDArray[np.uint32]:
    """Return the signature of each of many sets, (sets, values).

    Args:
        elements: hashes of the sets' elements; one that is there twice counts once.
        owners: the number of the set of each element.
        sets: number of sets.
        values: values of a signature.
    """
    found = np.full((sets, values), EMPTY, np.uint32)
    cells, first = found.reshape(-1), owners * values
    for number in range(2 * values):
        hashed = mixed(elements ^ np.uint64((number + 1) * int(STEP) % (1 << 64)))
        if number < values:
            cell = ((hashed & np.uint64(0xFFFFFFFF)) * np.uint64(values) >> np.uint64(32)).astype(np.intp) + first
        else:  # a set so small that some values are still without an element: each is given one
            cell = first + (number - values)
        value = (hashed >> np.uint64(33)).astype(np.uint32)
        if number:
            free = cells[cell] == EMPTY
            cell, value = cell[free], value[free]
        np.minimum.at(cells, cell, value)
        empty = (found == EMPTY).any(axis=1)
        if not empty.any():
            break
        open_sets = empty[owners]
        elements, owners, first = elements[open_sets], owners[open_sets], first[open_sets]
    return found


def _groups(texts: Sequence[str]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for text in texts:
        if size + len(text) > AT_ONCE and group:
            yield group
            group, size = [], 0
        group.append(text)
        size += len(text)
    if group:
        yield group


def _pieces(text: str) -> Iterator[str]:
    """Yield a long text in pieces that end at spaces."""
    begin = 0
    while begin < len(text):
        end = begin + AT_ONCE
        space = text.rfind(" ", begin + 1, end) if end < len(text) else -1
        end = end if space < 0 else space
        yield text[begin:end]
        begin = end


def _runs(hashes: NDArray[np.uint64], counts: NDArray[np.int64], n: int) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """Return a hash of each run of n words of each text, or of all words of a shorter one, and the text's number."""
    ends = np.cumsum(counts)
    lengths = np.minimum(counts, n)
    numbers = np.arange(len(counts))
    found, owners = [np.zeros(0, np.uint64)], [np.zeros(0, np.intp)]
    for length in np.unique(lengths[lengths > 0]).tolist():
        mine = numbers[lengths == length]
        run = hashes[: len(hashes) - length + 1]
        for offset in range(1, length):
            run = run * FIRST + hashes[offset : len(hashes) - length + 1 + offset]
        amounts = counts[mine] - length + 1
        starts = np.repeat(ends[mine] - counts[mine] - np.cumsum(amounts) + amounts, amounts) + np.arange(amounts.sum())
        found.append(run[starts])
        owners.append(np.repeat(mine, amounts))
    return np.concatenate(found), np.concatenate(owners)


@cache
def _tables() -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Return the kind of each character, 0: not known yet; and what it is in lower case."""
    return np.zeros(LAST, np.uint8), np.zeros(LAST, np.uint32)


def _kinds(codes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Return the kinds of characters."""
    kinds, small = _tables()
    found = kinds[codes]
    if not found.all():
        for page in np.unique(codes[found == 0] // PAGE).tolist():
            for code in range(page * PAGE, (page + 1) * PAGE):
                kinds[code], small[code] = _kind(chr(code))
        found = kinds[codes]
    return found


def _kind(character: str) -> tuple[int, int]:
    """Return whether a character is of words, as in regular expressions (a letter or digit), and its lower case."""
    lower = character.lower()
    if lower == character:
        return LETTER if character.isalnum() else OTHER, ord(character)
    if character == FINAL or len(lower) > 1 or len(lower.encode()) != len(character.encode()):
        return ODD, 0
    return CAPITAL, ord(lower)


def _in_letters(text: str) -> str:
    """Return what stands for a text without letters, whose words are what stands between white space."""
    return " ".join("_" + "_".join(str(ord(character)) for character in word) for word in words_of(text))
