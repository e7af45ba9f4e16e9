"""Encoding speed, ours beside the `tokenizers` library's `encode_batch_fast`: one process, one thread, the same ids.

    python benchmarks/tokenization.py --text train.jsonl.xz --tokenizer bert-base-uncased --tokenizer roberta-base

Rates are MB of UTF-8 text a second of processor time, so that other work on the machine counts little. Three are told:
theirs; ours from empty tables over the whole text (`cold`: what `genus prepare` does once per worker); ours once more
over the same text (`warm`). Ids are compared text by text before anything is written.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread each, before the library is loaded
os.environ["RAYON_NUM_THREADS"] = "1"

import tokenizers

from genus.text import read_documents
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results" / "tokenization.json"
BATCH = 1_000
"""Texts in one call of `encode_batch_fast`; more are not faster."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, action="append", required=True, help="a folder; may be repeated")
    parser.add_argument("--megabytes", type=float, default=60, help="how much of the text to take")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    texts = take(options.text, options.megabytes * 1e6)
    rows = [measure(folder, texts) for folder in options.tokenizer]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps({"text": options.text.parent.name, **surroundings(), "results": rows}, indent=2) + "\n"
    )


def take(file: Path, size: float) -> list[str]:
    total = itertools.accumulate
    texts = list(read_documents([file]))
    return [text for text, end in zip(texts, total(len(text.encode()) for text in texts), strict=True) if end <= size]


def measure(folder: Path, texts: list[str]) -> dict[str, Any]:
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    tokenizer = Tokenizer.load(folder)

    def theirs() -> list[list[int]]:
        batches = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
        return [
            e.ids for batch in batches for e in tokenizer.backend.encode_batch_fast(batch, add_special_tokens=False)
        ]

    def ours() -> list[list[int]]:
        return tokenizer.encode(texts)

    reference, seconds = timed(theirs)
    cold_ids, cold = timed(ours)
    warm_ids, warm = timed(ours)
    if not reference == cold_ids == warm_ids:
        raise SystemExit(f"{folder}: the ids differ")
    row = {
        "tokenizer": folder.name,
        "megabytes": round(megabytes, 1),
        "texts": len(texts),
        "tokens": sum(map(len, reference)),
        "ids_identical": True,
        "encode_batch_fast_mb_s": round(megabytes / seconds, 2),
        "ours_cold_mb_s": round(megabytes / cold, 2),
        "ours_warm_mb_s": round(megabytes / warm, 2),
        "ratio_cold": round(seconds / cold, 2),
        "ratio_warm": round(seconds / warm, 2),
    }
    print(json.dumps(row))
    return row


def timed(work: Callable[[], list[list[int]]]) -> tuple[list[list[int]], float]:
    start = time.process_time()
    return work(), time.process_time() - start


def surroundings() -> dict[str, Any]:
    cpu = Path("/proc/cpuinfo")
    models = (
        [line.split(":", 1)[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
        if cpu.exists()
        else []
    )
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return {
        "threads": 1,
        "unit": "MB of UTF-8 text per second of processor time",
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "tokenizers": tokenizers.__version__,
        "commit": commit.stdout.strip(),
    }


if __name__ == "__main__":
    main()
