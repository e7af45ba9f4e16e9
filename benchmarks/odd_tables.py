"""Odd tables for `genus finetune` and `genus evaluate`, drawn at random: odd cells, rows, columns and files."""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

Rows = list[dict[str, Any]]

COLUMNS = {"classification": ("text", "label"), "regression": ("text", "label"), "tagging": ("tokens", "ner_tags")}
"""The columns of text and label that a task reads unless it is told others."""
MISSING = [None, "", " ", "nan", "NaN", "NA", "null", "None", "<NA>", "-1", "-100", float("nan")]
NUMBERS = [0, -1, 1.0, -0.0, 2**63, -(2**70), 10**30, 10**400, 1e308, -1e308, 5e-324, 1e-320, float("inf"), True]
NUMBERS += [-float("inf"), "1e5", "1e999", "0x10", "1_000", "1,5", "+7", " 3 ", "\u0661\u0662", "\u00bd", "9" * 5000]
OTHERS = [[], [[]], ["a", 1], [None], {}, {"a": 1}, [{"id": 1}], False]
TEXTS = ["\0", "a\0b", "\ud800", "\udcff", "\u200b", "\u202eabc", "\r", "a\rb", "a\nb", "a\r\nb", "\u2028", "\x85", '"']
TEXTS += [
    '""',
    'say "a"',
    "'",
    "a,b",
    "a;b",
    "a\tb",
    "\\",
    "\\N",
    "\U0001f600",
    "e\u0301" * 9,
    "\u0e01\u0e34",
    "\u4e2d",
    "#",
]
TEXTS += ["[MASK]", "[SEP] [CLS] [PAD]", "=1+1", "<b>&amp;</b>", "\x1b[31m", "\x7f\x01", "\ufeff", "a" * 50_000, "..."]
TEXTS += ["ab " * 20_000, "O", "B-", "I-X", "-X", "B-X-Y", "2024-01-01"]
NAMES = [
    "",
    " ",
    "text ",
    " label",
    "Text",
    "LABEL",
    "labels",
    "index",
    "line",
    "tokens",
    "texts",
    "split",
    "seed",
    "0",
]
NAMES += ["__class__", "answer", "\ufefftext", "a,b", 'a"b', "\u0e01", "None", "nan", "a" * 500]
ENCODINGS = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp037", "utf-7"]
LINES = [b"{}", b"[]", b"null", b"1", b"{", b'"a"', b"NaN", b",,,,", b"# a", b"[" * 100_000]
LINES += [b'{"text": "a", "label": ' + b"9" * 5000 + b"}", b'{"text": "a", "text": "b", "label": 1}']
LINES += [b'{"text": "\\ud800", "label": "a", "more": ' + b"[" * deep + b"]" * deep + b"}" for deep in (400, 700, 980)]
MAGIC = [b"PK\3\4", b"\x89PNG\r\n\x1a\n", b"PAR1", b"\x1f\x8b", b"<html>"]
NO_UTF8 = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"]
OPTIONS = [
    "--text none", "--text label", "--label text", "--label more", "--text text --text more", "--text text --text text",
    "--text text --text more --text label", "--text ", "--label ", "--task sst2", "--task stsb", "--task regression",
    "--task tagging", "--task x",
]  # fmt: skip


@dataclass(frozen=True)
class OddTable:
    """A table, or a folder of tables, and how it is odd."""

    task: str
    path: Path
    oddities: tuple[str, ...]
    options: tuple[str, ...] = ()


def draw_table(draw: random.Random, folder: Path) -> OddTable:
    """Write a table, or the tables of a folder, of which one is odd in one to three ways."""
    task = draw.choice(["classification", "classification", "regression", "tagging"])
    splits = draw.choice([["train"], ["train"], ["train", "validation"], ["train", "dev", "test"]])
    odd = draw.choice(splits)
    folder.mkdir(parents=True)
    told = [f"in {odd}"]
    for split in splits:
        name, data = odd_file(draw, task, told) if split == odd else file_of(draw, plain(draw, task, 12))
        (folder / f"{split}.{name}").write_bytes(data)
    options: tuple[str, ...] = ()
    if draw.random() < 0.15:
        options = tuple(draw.choice(OPTIONS).split(" "))
        told.append(" ".join(options))
    path = next(folder.iterdir()) if len(splits) == 1 and draw.random() < 0.7 else folder
    files = "/".join(sorted(file.name for file in folder.iterdir()))
    return OddTable(task, path, (f"{task}, {files}", *told), options)


def odd_file(draw: random.Random, task: str, told: list[str]) -> tuple[str, bytes]:
    """Return ending and content of an odd file, and tell how it is odd."""
    rows, ways = plain(draw, task, draw.choice([1, 2, 5, 12, 12, 12])), draw.randint(0, 2)
    for way in draw.choices([*ROWS], k=ways):
        told.append(way)
        if rows:
            ROWS[way](draw, rows, COLUMNS[task])
    kind, data = file_of(draw, rows)
    if not ways or draw.random() < 0.5:
        way = draw.choice([*BYTES])
        told.append(way)
        data = BYTES[way](draw, data)
    packing, pack = draw.choice([("", bytes), ("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
    data = pack(data)
    if packing and draw.random() < 0.4:
        told.append(f"{packing} cut short")
        data = data[: draw.randrange(len(data))]
    return kind + packing, data


def plain(draw: random.Random, task: str, count: int) -> Rows:
    """Return rows with nothing odd about them."""
    rows: Rows = []
    for number in range(count):
        words = ["".join(draw.choices("abcdefgh", k=draw.randint(1, 4))) for _ in range(draw.randint(2, 6))]
        if task == "tagging":
            rows.append({"tokens": words, "ner_tags": [draw.choice(["O", "B-X", "I-X"]) for _ in words]})
        else:
            label: object = ["a", "b"][number % 2] if task == "classification" else number / 4
            rows.append({"text": " ".join(words), "label": label, "more": number})
    return rows


def odd_cells(values: list[Any]) -> Callable[[random.Random, Rows, tuple[str, str]], None]:
    """Return what puts values into some cells of a column, or into all of them, or into its lists."""

    def change(draw: random.Random, rows: Rows, columns: tuple[str, str]) -> None:
        column, share = draw.choice(columns), draw.choice([0.1, 0.5, 1.0])
        chosen = [draw.choice(values)] if draw.random() < 0.5 else values
        for row in rows:
            if column in row and (draw.random() < share or row is rows[-1]):
                value, old = draw.choice(chosen), row[column]
                within = isinstance(old, list) and old and draw.random() < 0.7
                row[column] = [*old[:-1], value] if within else value

    return change


def _lengths(draw: random.Random, rows: Rows, columns: tuple[str, str]) -> None:
    """Give a row a list that is longer or shorter than its other list."""
    row, column = draw.choice(rows), draw.choice(columns)
    if isinstance(row.get(column), list):
        row[column] = draw.choice([[*row[column], "O"], row[column][1:], [], row[column] * 500])


def _rename(draw: random.Random, rows: Rows, columns: tuple[str, str]) -> None:
    old, new = draw.choice(columns), draw.choice(NAMES)
    for row in rows:
        if old in row:
            row[new] = row.pop(old)


def _add(draw: random.Random, rows: Rows, columns: tuple[str, str]) -> None:
    new, value = draw.choice(NAMES), draw.choice([*MISSING, *OTHERS, *TEXTS])
    for row in rows:
        row[new] = value


def _drop(draw: random.Random, rows: Rows, columns: tuple[str, str]) -> None:
    """Take a column out of one row."""
    draw.choice(rows).pop(draw.choice(columns), None)


def _same(draw: random.Random, rows: Rows, columns: tuple[str, str]) -> None:
    column = draw.choice(columns)
    for row in rows:
        row[column] = rows[0].get(column)


def _distinct(draw: random.Random, rows: Rows, columns: tuple[str, str]) -> None:
    for number, row in enumerate(rows):
        row[columns[1]] = draw.choice([f"class {number}", number, number * 1e-9 + 1e6])


def _unknown(draw: random.Random, rows: Rows, columns: tuple[str, str]) -> None:
    """Give the last row a label that no other has, as validation alone may have."""
    old, new = rows[-1].get(columns[1]), draw.choice(["new", 99, "1.5x", "B-new"])
    rows[-1][columns[1]] = [new] * len(old) if isinstance(old, list) else new


def _swap(draw: random.Random, rows: Rows, columns: tuple[str, str]) -> None:
    one, other = columns
    for row in rows:
        row[one], row[other] = row.get(other), row.get(one)


def _empty(draw: random.Random, rows: Rows, columns: tuple[str, str]) -> None:
    rows.clear()
    rows.extend(draw.choice([[], [{}], [{columns[0]: None, columns[1]: None}]]))


ROWS: dict[str, Callable[[random.Random, Rows, tuple[str, str]], None]] = {
    "missing cells": odd_cells(MISSING),
    "odd numbers": odd_cells(NUMBERS),
    "lists and objects": odd_cells(OTHERS),
    "odd texts": odd_cells(TEXTS),
    "mixed cells": odd_cells([*MISSING, *NUMBERS, *OTHERS, *TEXTS]),
    "lists of other lengths": _lengths,
    "a column renamed": _rename,
    "a column more": _add,
    "a cell dropped": _drop,
    "one value": _same,
    "a label each": _distinct,
    "a label that is new": _unknown,
    "columns swapped": _swap,
    "no rows": _empty,
}


def _at(draw: random.Random, data: bytes, new: bytes, *, lines: bool = False) -> bytes:
    """Return data with bytes put in at random, or at the end of a random line."""
    place = draw.randint(0, len(data))
    if lines:
        place = data.find(b"\n", place) + 1
    return data[:place] + new + data[place:]


def _without_header(draw: random.Random, data: bytes) -> bytes:
    return data.partition(b"\n")[2]


def _damaged(draw: random.Random, data: bytes) -> bytes:
    """Return data of which some bytes in the middle are others."""
    place, count = draw.randint(0, len(data)), draw.randint(1, 40)
    return data[:place] + draw.randbytes(count) + data[place + count :]


def _ragged(draw: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    number = draw.randrange(len(lines))
    line = lines[number]
    lines[number] = draw.choice([line + b",extra", line + b"\textra", line.partition(b",")[0]])
    return b"\n".join(lines)


def _encoded(draw: random.Random, data: bytes) -> bytes:
    text = data.decode(errors="replace").replace("a", "\u00e4")
    return text.encode(draw.choice(ENCODINGS), "replace")


BYTES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "a byte-order mark": lambda draw, data: b"\xef\xbb\xbf" + data,
    "two byte-order marks": lambda draw, data: b"\xef\xbb\xbf" * 2 + data,
    "CRLF": lambda draw, data: data.replace(b"\n", b"\r\n"),
    "CR": lambda draw, data: data.replace(b"\n", b"\r"),
    "CR CR LF": lambda draw, data: data.replace(b"\n", b"\r\r\n"),
    "NUL": lambda draw, data: _at(draw, data, draw.choice([b"\0", b"\0" * 500])),
    "another encoding": _encoded,
    "no UTF-8": lambda draw, data: _at(draw, data, draw.choice(NO_UTF8)),
    "empty": lambda draw, data: draw.choice([b"", b"\n", b"\n\n\n", b" ", b"\xef\xbb\xbf", b"\0"]),
    "cut short": lambda draw, data: data[: draw.randint(0, len(data))],
    "no header": _without_header,
    "damaged": _damaged,
    "ragged": _ragged,
    "a stray quote": lambda draw, data: _at(draw, data, b'"'),
    "blank lines": lambda draw, data: _at(draw, data, b"\n \n\n", lines=True),
    "an odd line": lambda draw, data: _at(draw, data, draw.choice(LINES) + b"\n", lines=True),
    "other separators": lambda draw, data: data.replace(b",", draw.choice([b";", b"|", b"\t", b", "])),
    "a list of rows": lambda draw, data: b"[" + data.replace(b"\n", b",\n").rstrip(b",\n") + b"]\n",
    "another kind of file": lambda draw, data: draw.choice(MAGIC) + data,
    "twice": lambda draw, data: data + data,
}


def file_of(draw: random.Random, rows: Rows) -> tuple[str, bytes]:
    """Return rows as a file of a kind that is drawn, and its ending; JSON lines where Parquet cannot hold them."""
    kind = draw.choice(["csv", "tsv", "jsonl", "jsonl", "parquet"])
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if kind == "parquet" and (data := _parquet({name: [row.get(name) for row in rows] for name in columns})):
        return kind, data
    file = io.StringIO()
    if kind == "csv":
        table = [columns, *([row.get(name) for name in columns] for row in rows)]
        csv.writer(file, lineterminator="\n").writerows(table)
    elif kind == "tsv":
        for cells in (columns, *([row.get(name, "") for name in columns] for row in rows)):
            file.write("\t".join(map(str, cells)) + "\n")
    else:
        kind, readable = "jsonl", draw.random() < 0.5
        file.write("".join(json.dumps(row, ensure_ascii=not readable) + "\n" for row in rows))
    return kind, file.getvalue().encode(errors="surrogatepass")


def _parquet(columns: dict[str, list[Any]]) -> bytes | None:
    """Return columns as Parquet; None where it cannot hold them, or pyarrow is not there."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return None
    file = io.BytesIO()
    try:
        parquet.write_table(pyarrow.table(columns), file)
    except (pyarrow.ArrowException, ValueError, TypeError, OverflowError):
        return None
    return file.getvalue()
