"""Texts of the shared datasets, and of whatever is hard, for the tokenizer tests."""

from __future__ import annotations

import gzip
import json
import lzma
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVERY_CHARACTER = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
HARD = [
    "",
    " ",
    "  ",
    "\n \n",
    " \t a",
    "a\x0cb c\x1cd e\x85f g\x0bh",
    "x\x1c y \x1d z",
    "a\u180e b \u180ec",
    "no\u00a0break\u2003em\u3000wide\u2028line",
    "Caf\u00e9 cafe\u0301 \u0301alone a \u0301b",
    "\u0130stanbul I\u0307 \u03a3\u03a4\u03a3 \u1e9e",
    "[MASK] [CLS]foo[SEP] [mask] [MAS K] a[UNK]b",
    "<s> a<mask>b <mask> c  <mask>\n<mask> </s><pad> <unk>",
    "\u4e2d\u6587 \u4e2d\u56fd\u4eba\u6c11 a\u4e2db, \u65e5\u672c\u8a9e\u3067\u3059\u3002",
    "\u0e09\u0e31\u0e19\u0e23\u0e31\u0e01\u0e40\u0e18\u0e2d \u0e21\u0e32\u0e01\u0e46",
    "don't I'll we've 'tis it's 'S 're\t'll  's",
    "a  b   c    d",
    " lead and trail  \n",
    "x" * 99 + " " + "y" * 100 + " " + "z" * 101 + " " + "w" * 300,
    "nul\x00l bell\x07 del\x7f zero\u200bwidth soft\u00adhyphen bom\ufeff \ufffd",
    "emoji \U0001f600\U0001f44d\U0001f3fd flag \U0001f1e9\U0001f1ea family \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "3.14 1,000 $5.00 50% \u00bd \u0664\u0662 a1b2 #tag @you http://x.y/z?q=1&r=[2]",
]


def neighborhoods(step: int = 1) -> Iterator[str]:
    """Yield texts in which every `step`-th Unicode character stands alone, within a word, and beside spaces."""
    for start in range(0, len(EVERY_CHARACTER), 500 * step):
        some = EVERY_CHARACTER[start : start + 500 * step : step]
        yield " ".join(f"a{c}b {c} {c}{c} x{c} {c}y" for c in some if unicodedata.category(c) != "Cn" or step == 1)


def shared_texts(data: Path) -> Iterator[str]:
    """Yield every text of 1 character and more in every file of the shared datasets."""
    for file in sorted(data.rglob("*.gz")) + sorted(data.rglob("*.xz")):
        with (gzip.open if file.suffix == ".gz" else lzma.open)(file, "rb") as lines:
            if ".jsonl" in file.name:
                for line in lines:
                    yield from _texts(json.loads(line))
            elif "ubyte" not in file.name:
                yield lines.read().decode()


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
