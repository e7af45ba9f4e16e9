"""The encoding of a page of the web, as browsers find it (HTML Standard, section 13.2.3.2)."""

from __future__ import annotations

import codecs
import re

from genus.text.blocks import REPLACEMENT, decode

MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xfe\xff": "utf-16-be", b"\xff\xfe": "utf-16-le"}
DECLARED = re.compile(rb"<meta[^>]{1,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
LOOKED_AT = 1024
"""Bytes at the beginning in which a page may declare its encoding."""
LABELS = {
    "ascii": "cp1252",
    "us-ascii": "cp1252",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "iso-8859-9": "cp1254",
    "iso-8859-11": "cp874",
    "tis-620": "cp874",
    "windows-874": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "big5": "big5hkscs",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "x-user-defined": "cp1252",
}
"""Labels that mean another encoding than their name says, or that Python does not know (Encoding Standard, 4.2)."""


def decoded(data: bytes, told: str | None = None) -> tuple[str, int]:
    """Return the text of a page, and how many characters are read as U+FFFD since they are none.

    In order: the mark at its beginning, the encoding that the server told, the one that the page declares; without
    any, UTF-8 if it is, else Windows-1252.
    """
    mark = next((mark for mark in MARKS if data.startswith(mark)), b"")
    if mark:
        return _decoded(data[len(mark) :], MARKS[mark])
    declared = DECLARED.search(data, 0, LOOKED_AT)
    for label in (told, declared[1].decode("ascii", "replace") if declared else None):
        if label and (known := codec_of(label)):
            # a page in UTF-16 could not have been read for its declaration
            return _decoded(data, "utf-8" if known.startswith("utf-16") and label != told else known)
    text, replaced = decode(data)
    return _decoded(data, "cp1252") if replaced and not _is_cut(data) else (text, replaced)


def codec_of(label: str) -> str | None:
    """Return Python's name of the encoding that a label means; None: it means none."""
    label = label.strip().strip("\"'").lower()
    try:
        found = codecs.lookup(LABELS.get(label, label))
    except (LookupError, ValueError):
        return None
    return found.name if found._is_text_encoding else None


def _decoded(data: bytes, codec: str) -> tuple[str, int]:
    if codec == "utf-8":
        return decode(data)
    text = data.decode(codec, errors="replace")
    return text, text.count(REPLACEMENT)


def _is_cut(data: bytes) -> bool:
    """Return whether bytes are UTF-8 but for a character at the end, of which a part is missing."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.end == len(data) and error.reason == "unexpected end of data"
    return False
