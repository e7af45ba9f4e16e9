"""What of planted copies, near duplicates, substrings and evaluation rows does a curation find, wherever it runs?

    python benchmarks/curation_run.py --data ../shared/data                   # 1.5 MB of each source
    python benchmarks/curation_run.py --data ../shared/data --bytes 300000    # sooner

Articles, film reviews, books and news, into which are planted: copies of documents; documents of which some of the
words, at random places, are another; runs of 400 characters of one document within another; and rows of GLUE within a
document. The text is cleaned by one process, by two, and by a Ray cluster of two nodes of one processor with a memory
of their own; the three folders are compared byte by byte. A near duplicate counts as due where its exact Jaccard index
and its edit similarity reach the thresholds.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import lzma
import os
import random
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from genus.curate import Curation
from genus.curate.contamination import Contamination
from genus.curate.duplicates import ExactDuplicates
from genus.curate.engines.local import LocalProcesses
from genus.curate.engines.ray import Ray
from genus.curate.exact_substrings import ExactSubstrings
from genus.curate.minhash import edit_similarity, jaccard, shingles, words_of
from genus.curate.near_duplicates import NearDuplicates
from genus.curate.run import Cleaning, fields_of
from genus.files import write_json
from genus.processes import cores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genus.curate.engines import Engine

RESULTS = Path(__file__).parent / "results" / "curation_run.json"
SOURCES = {
    "en_wikipedia": "train.jsonl.xz",
    "imdb": "train.jsonl.xz",
    "en_books": "train.jsonl.xz",
    "ag_news": "train_subset.jsonl.gz",
}
TABLES = ("mrpc", "rte")
CHANGED = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
"""Shares of the words of a near duplicate that are others."""
NUMBER, RUN = 40, 400
"""Planted documents of each kind, and characters of a run."""
WORDS, LONGEST = 120, 3_000
"""Words of a document in which something is planted."""
EDIT = JACCARD = 0.8

Documents = dict[str, str]


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the sources and glue")
    parser.add_argument("--bytes", type=int, default=1_500_000, help="of each source")
    parser.add_argument("--no-cluster", action="store_true", help="leave Ray out")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a packed table."""
    opened = lzma.open if path.suffix == ".xz" else gzip.open
    with opened(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def sample(path: Path, size: int) -> list[str]:
    """Return the first texts of a source, of about so many bytes in all; the last may be cut."""
    found, left = [], size
    for row in rows(path):
        found.append(row["text"][: max(left, 200)])
        left -= len(found[-1].encode())
        if left <= 0:
            break
    return found


class Planting:
    """Documents by id, and what is planted in them: `kind:number`."""

    def __init__(self, data: Path, size: int) -> None:
        self.draw = random.Random(0)
        self.origins: Documents = {}
        for name, file in SOURCES.items():
            texts = sample(data / name / file, size)
            self.origins |= {f"{name}/{number}": text for number, text in enumerate(texts)}
        fitting = [name for name, text in self.origins.items() if WORDS <= len(text.split()) <= LONGEST]
        self.hosts = self.draw.sample(fitting, len(fitting))
        self.planted: Documents = {}
        self.of: dict[str, str] = {}
        """Of a copy and a near duplicate, the id of the original."""
        self.due: set[str] = set()
        self.runs: dict[str, str] = {}
        """What is planted within a document, by its id."""

    def plant(self, tables: list[Path]) -> None:
        """Plant everything, each in documents of its own."""
        for number in range(NUMBER):
            self.planted[f"copy:{number}"] = self._origin_of(f"copy:{number}")
            for share in CHANGED:
                name = f"near {share:g}:{number}"
                text = self._origin_of(name)
                self.planted[name] = self._changed(text, share)
                if self._is_near(text, self.planted[name]):
                    self.due.add(name)
            self._within(f"substring:{number}", self._run())
        long = [text for path in tables for row in rows(path) for text in row.values() if isinstance(text, str)]
        for number, text in enumerate(self.draw.sample([one for one in long if len(words_of(one)) >= 20], NUMBER)):
            self._within(f"row:{number}", text)

    def written(self, folder: Path) -> list[Path]:
        """Write all documents in random order, a file for each source of the originals."""
        names = self.draw.sample([*self.origins, *self.planted], len(self.origins) + len(self.planted))
        every = self.origins | self.planted
        parts = [names[first :: len(SOURCES)] for first in range(len(SOURCES))]
        paths = [folder / f"{number}.jsonl" for number in range(len(parts))]
        for path, part in zip(paths, parts, strict=True):
            lines = (json.dumps({"text": every[name], "id": name}) + "\n" for name in part)
            path.write_text("".join(lines), encoding="utf-8")
        return paths

    def _origin_of(self, name: str) -> str:
        self.of[name] = self.hosts.pop()
        return self.origins[self.of[name]]

    def _changed(self, text: str, share: float) -> str:
        words = text.split()
        for place in self.draw.sample(range(len(words)), max(1, round(share * len(words)))):
            words[place] = self.draw.choice(words) + "x"
        return " ".join(words)

    def _is_near(self, text: str, other: str) -> bool:
        left, right = words_of(text), words_of(other)
        near = jaccard(shingles(left, 5), shingles(right, 5)) >= JACCARD
        return near and edit_similarity(left, right) >= EDIT

    def _run(self) -> str:
        text = self.origins[self.hosts.pop()]
        place = self.draw.randrange(max(1, len(text) - RUN))
        return text[place : place + RUN]

    def _within(self, name: str, part: str) -> None:
        """Plant a text in a document, which takes the place of the original."""
        host = self.hosts.pop()
        text = self.origins.pop(host)
        place = text.find(" ", len(text) // 2)
        self.planted[name] = f"{text[:place]} {part} {text[place:]}"
        self.runs[name] = part


def found(planting: Planting, out: Path) -> dict[str, Any]:
    """Return what of the planted is gone, and what else is."""
    left: Documents = {}
    for path in sorted(out.glob("text-*.jsonl.gz")):
        left |= {row["id"]: row["text"] for row in rows(path)}
    kinds: dict[str, Counter[str]] = {}
    for name in planting.planted:
        kind = name.partition(":")[0]
        told = kinds.setdefault(kind, Counter())
        told["planted"] += 1
        if kind == "substring":
            run = " ".join(planting.runs[name].split())
            told["found"] += sum(run in " ".join(text.split()) for text in left.values()) <= 1
            continue
        gone = name not in left or (name in planting.of and planting.of[name] not in left)  # the first is kept
        told["found"] += gone
        if kind.startswith("near"):
            told["due"] += name in planting.due
            told["due and found"] += gone and name in planting.due
    return {kind: dict(told) for kind, told in kinds.items()}


def cleaned(curation: Curation, texts: list[Path], out: Path, engine: Engine) -> dict[str, Any]:
    """Clean, and return the seconds that it took and the report."""
    begun = time.perf_counter()
    report = Cleaning(curation, [*texts], out, engine=engine, fields=fields_of("text", ())).run()
    return {"seconds": round(time.perf_counter() - begun, 1), "report": report}


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def by_cluster(curation: Curation, texts: list[Path], out: Path) -> dict[str, Any]:
    """Clean on a cluster of two nodes of this machine."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
        return cleaned(curation, texts, out, Ray(address=cluster.address))
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def main() -> None:
    """Plant, clean, compare, and write what was found."""
    options = parsed()
    tables = [options.data / "glue" / name / "validation.jsonl.gz" for name in TABLES]
    steps = (Contamination(tables=(*map(str, tables),)), ExactDuplicates(), NearDuplicates(), ExactSubstrings())
    curation = Curation(steps=steps)
    with TemporaryDirectory() as work:
        planting = Planting(options.data, options.bytes)
        planting.plant(tables)
        folder = Path(work) / "text"
        folder.mkdir()
        texts = planting.written(folder)
        ways = {f"{number} processes": LocalProcesses(workers=number) for number in (1, 2)}
        done = {name: cleaned(curation, texts, Path(work) / name, engine) for name, engine in ways.items()}
        if not options.no_cluster:
            done["2 nodes"] = by_cluster(curation, texts, Path(work) / "2 nodes")
        same = all(content(Path(work) / one) == content(Path(work) / two) for one, two in itertools.pairwise(done))
        report = done["1 processes"]["report"]
        removed = {
            step: {rule: _sizes(one) for rule, one in rules.items()} for step, rules in report["removed"].items()
        }
        results = {
            "bytes": report["read"]["bytes"],
            "documents": report["read"]["documents"],
            "kept": report["kept"],
            "cores": cores(),
            "seconds": {name: one["seconds"] for name, one in done.items()},
            "byte-identical": same,
            "found": found(planting, Path(work) / "1 processes"),
            "removed": removed,
        }
    write_json(options.results, results)
    print(json.dumps(results, indent=1))


def _sizes(numbers: dict[str, Any]) -> dict[str, int]:
    return {name: number for name, number in numbers.items() if name != "samples"}


if __name__ == "__main__":
    main()
