"""How fast are deduplication and filters, in how much memory, beside datatrove, datasketch, rensa and a suffix array?

    python benchmarks/curate.py --data ../shared/data                  # 1x, 4x and 16x of 4 MB of Wikipedia
    python benchmarks/curate.py --data ../shared/data --megabytes 16   # larger

Each measurement is a process of its own: seconds from its first document to its last, processor seconds of it and of
its workers, and the most memory that any of them had at once. What is finished is not measured again; a library that is
not installed is left out. Signatures are from raw text, so that cutting it into words and runs of words counts: others
get runs of words that Python joins. Others have no second thread here.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate_contenders import PARALLEL, SKETCHES, WORK, errors

from genus.files import write_json, write_text
from genus.text import read_documents

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).parent / "results" / "curate.json"
SCALES = (1, 4, 16)
COPIES = 10
"""Of so many documents one is there again, and one more with some words changed."""
PAIRS = 500
"""Texts with a spoiled copy each, by which errors are measured."""


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds en_wikipedia")
    parser.add_argument("--megabytes", type=float, default=4.0, help="of the smallest corpus")
    parser.add_argument("--scales", type=int, nargs="+", default=SCALES)
    parser.add_argument("--threads", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--only", nargs="+", default=[*WORK], choices=[*WORK])
    parser.add_argument("--out", type=Path, default=Path("runs") / "curate")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=4, metavar=("QUESTION", "CONTENDER", "THREADS", "TEXT"), help=argparse.SUPPRESS)
    return parser.parse_args()


def corpus(data: Path, out: Path, size: float) -> Path:
    """Return a file of about so many bytes of real documents, with copies and near copies among them."""
    path = out / f"text-{int(size)}.jsonl"
    if not path.exists():
        lines, done = list[str](), 0.0
        for number, text in enumerate(_documents(data)):
            lines.append(text)
            if number % COPIES == COPIES - 1:
                old = lines[number // 2]
                lines += [old, old.replace(" the ", " a ", 2)]
            done += sum(len(line.encode()) for line in lines[-3:]) / (3 if number % COPIES else 1)
            if done >= size:
                break
        write_text(path, "".join(json.dumps({"text": line}) + "\n" for line in lines))
    return path


def _documents(data: Path) -> Iterator[str]:
    """Yield the articles, and once these are over the same with their sentences in another order."""
    source = data / "en_wikipedia" / "train.jsonl.xz"
    for turn in itertools.count():
        for text in read_documents([source]):
            parts = text.split(". ")
            yield text if not turn else ". ".join(sorted(parts, key=lambda part: hash_of(part, turn)))


def hash_of(part: str, turn: int) -> int:
    """Return a number that orders sentences, another in every turn."""
    return sum(ord(character) * (place * turn + 7) for place, character in enumerate(part)) % 10_007


def once(question: str, contender: str, threads: int, text: Path) -> dict[str, Any]:
    """Do it in this process, and return what it took."""
    before = usage()
    begun = time.perf_counter()
    kept = WORK[question][contender](text, threads)
    seconds = time.perf_counter() - begun
    # workers are measured one by one: that each of them had the most at the same time is the worst case
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024 if threads > 1 else 0.0
    peak = own_peak() + threads * worker
    return {"kept": kept, "seconds": seconds, "processor_seconds": usage() - before, "peak_mb": peak}


def own_peak() -> float:
    """Return the most memory of this program in MB: `ru_maxrss` would tell that of whoever started it, too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def usage() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    found = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in found)


def measured(question: str, contender: str, threads: int, text: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return what a process of its own measured."""
    command = [sys.executable, __file__, "--data", str(options.data), "--one", question, contender, str(threads)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": str(threads)}
    done = subprocess.run([*command, str(text)], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    megabytes = sum(len(one.encode()) for one in read_documents([text])) / 1e6
    return {"megabytes": megabytes, "mb_per_second": megabytes / found["seconds"], **found}


def machine() -> dict[str, Any]:
    """Return hardware and versions; PyTorch is imported here alone, as its memory is none of what is measured."""
    import torch

    from genus.train.provenance import surroundings

    return surroundings(torch.device("cpu"))


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the measurements in Markdown."""
    head = ["question", "contender", "threads", "MB", "MB a second", "a processor second", "peak MB"]
    lines = [head, ["---"] * len(head)]
    for name, row in rows.items():
        if "failed" not in row:
            question, contender, threads, _ = name.split(", ")
            busy = row["megabytes"] / max(row["processor_seconds"], 1e-9)
            numbers = [f"{row['megabytes']:.1f}", f"{row['mb_per_second']:.1f}", f"{busy:.1f}", f"{row['peak_mb']:.0f}"]
            lines.append([question, contender, threads, *numbers])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    options = parsed()
    if options.one:
        question, contender, threads, text = options.one
        print(json.dumps(once(question, contender, int(threads), Path(text))))
        return
    known = json.loads(options.results.read_text()) if options.results.exists() else {}
    rows = known.get("rows", {})
    for scale, question in itertools.product(options.scales, options.only):
        text = corpus(options.data, options.out, scale * options.megabytes * 1e6)
        for contender, threads in itertools.product(WORK[question], options.threads):
            name = f"{question}, {contender}, {threads}, {scale * options.megabytes:g} MB"
            there = contender == PARALLEL or importlib.util.find_spec(contender) is not None
            if not there or (contender != PARALLEL and threads > 1) or "seconds" in rows.get(name, {}):
                continue
            rows[name] = measured(question, contender, threads, text, options)
            print(
                name, {key: round(value, 2) if isinstance(value, float) else value for key, value in rows[name].items()}
            )
            write_json(options.results, {**machine(), "rows": rows})
    texts = list(itertools.islice(_documents(options.data), PAIRS))
    found = {name: errors(texts, name) for name in SKETCHES if name == PARALLEL or importlib.util.find_spec(name)}
    write_json(options.results, {**machine(), "rows": rows, "errors": found})
    print(table(rows))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
