"""Corpora that tests of curation clean, and what they read back."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from genus.curate import Curation
from genus.curate.c4 import C4Lines, FewSentences
from genus.curate.duplicates import ExactDuplicates, RepeatedSpans
from genus.curate.engines.local import LocalProcesses
from genus.curate.near_duplicates import NearDuplicates
from genus.curate.run import Cleaning, fields_of

if TYPE_CHECKING:
    from pathlib import Path

WORDS = [f"{first}{last}" for first in ("ba", "ko", "mi", "tu", "sel", "dor") for last in ("ran", "vek", "lis", "mon")]
ALL = Curation(steps=(C4Lines(), ExactDuplicates(), RepeatedSpans(), FewSentences(least=2), NearDuplicates(values=32)))


def sentence(draw: random.Random) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(draw.randrange(5, 12))).capitalize() + "."


def page(draw: random.Random, sentences: int = 12) -> str:
    return " ".join(sentence(draw) for _ in range(sentences))


def write(path: Path, documents: list[dict[str, Any]]) -> Path:
    lines = "".join(json.dumps(document) + "\n" for document in documents)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = lines.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def corpus(folder: Path, documents: int = 300) -> list[Path]:
    """Two files of documents with addresses: of every ten, one is a copy and one a line without an end mark."""
    draw, found = random.Random(0), list[dict[str, Any]]()
    for number in range(documents):
        text = found[-3]["text"] if number % 10 == 9 else page(draw)
        text = f"{text}\nMenu and links" if number % 10 == 5 else text
        found.append({"text": text, "url": f"https://example.org/{number}", "secret": number})
    half = documents // 2
    return [write(folder / "one.jsonl.gz", found[:half]), write(folder / "two.jsonl", found[half:])]


def clean(curation: Curation, texts: list[Path], out: Path, **settings: Any) -> dict[str, Any]:
    engine = settings.pop("engine", None) or LocalProcesses(workers=settings.pop("workers", 1))
    chosen = Cleaning(curation, [*texts], out, engine=engine, fields=fields_of("text", ()))
    return replace(chosen, **settings).run()


def read(out: Path) -> list[dict[str, Any]]:
    """Return the documents of a cleaned folder in order."""
    found: list[dict[str, Any]] = []
    for path in sorted(out.glob("text-*.jsonl*")):
        found += map(json.loads, lines(path))
    return found


def lines(path: Path) -> list[str]:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}
