"""What does the small CLIP find among photographs it has not seen, after minutes on a thousand?

    python benchmarks/retrieval.py --data ../shared/data                               # some 20 minutes of one core
    python benchmarks/retrieval.py --data ../shared/data --digits                      # digits with captions instead
    python benchmarks/retrieval.py --data ../shared/data --row clip/tiny --steps 50    # sooner

Flickr8k: the row learns from the photographs of the training split with five captions each; recall at 1, 5 and 10 of
captions by photographs and of photographs by captions is measured on the others. Digits of MNIST get captions made of
their labels; on test images zero-shot accuracy, by the forms of the captions, and that of a linear probe are measured.
Beside each number stands that of chance, which is computed; every seed is told, with the mean.
What is finished is not done again: stop it at any moment and run the same command.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from draw import FORMS, WORDS, digits, png, shard

from genus.files import read_json, write_json, write_text
from genus.train.provenance import surroundings

RESULTS = Path(__file__).parent / "results" / "retrieval.json"
DEPTHS = (1, 5, 10)
TRAIN, TEST = "train.jsonl", "test.jsonl"
LABEL = "digit"


def main() -> None:
    options = parsed()
    options.work.mkdir(parents=True, exist_ok=True)
    tables = digit_tables(options) if options.digits else photo_tables(options)
    seeds = [measured(options, seed, *tables) for seed in range(options.seeds)]
    even = dict.fromkeys(("zero_shot", "linear_probe"), 1 / len(WORDS))
    chance = even if options.digits else chances(tables[1])
    mean = {name: float(np.mean([one[name] for one in seeds])) for name in seeds[0]}
    told = {name: getattr(options, name) for name in ("row", "steps", "batch", "images", "threads")}
    about = surroundings(torch.device("cpu"))
    found = {"options": told, "chance": chance, "mean": mean, "seeds": seeds, "surroundings": about}
    results = options.results
    before = read_json(results) if results.exists() else {}
    write_json(results, before | {"digits" if options.digits else "photographs": found})
    print(json.dumps({"chance": chance, "mean": mean}, indent=1))


def parsed() -> argparse.Namespace:
    """Return the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True, help="folder with flickr8k_1000/ and mnist/")
    made.add_argument("--work", type=Path, default=Path("runs/retrieval"), help="where runs are")
    made.add_argument("--results", type=Path, default=RESULTS)
    made.add_argument("--row", default="clip/mini")
    made.add_argument("--digits", action="store_true", help="digits of MNIST in the place of photographs")
    made.add_argument("--images", type=int, default=10_000, help="digits that are learned from")
    made.add_argument("--measured", type=int, default=1_000, help="digits that are measured on")
    made.add_argument("--steps", type=int, default=400)
    made.add_argument("--batch", type=int, default=32)
    made.add_argument("--seeds", type=int, default=1)
    made.add_argument("--threads", type=int, default=1)
    return made.parse_args()


def photo_tables(options: argparse.Namespace) -> tuple[Path, Path]:
    """Extract the photographs and write a table of each split, once; return that of training and of the others."""
    folder, source = options.work / "photos", options.data / "flickr8k_1000"
    if not (folder / TEST).exists():
        folder.mkdir(exist_ok=True)
        with tarfile.open(source / "images_128.tar") as file:
            file.extractall(folder, filter="data")
        with gzip.open(source / "captions.jsonl.gz", "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        for name, own in ((TRAIN, True), (TEST, False)):
            kept = [row for row in rows if (row["split"] == "train") == own]
            lines = (json.dumps({"image": row["image"], "caption": row["captions"]}) for row in kept)
            write_text(folder / name, "\n".join(lines) + "\n")
    return folder / TRAIN, folder / TEST


def digit_tables(options: argparse.Namespace) -> tuple[Path, Path]:
    """Write digits with captions to learn from, and others with labels, once; return both."""
    train, folder = shard(options), options.work / "digits"
    if not (folder / TEST).exists():
        for part, name, number in (("train", TRAIN, 2 * options.measured), ("t10k", TEST, options.measured)):
            lines = []
            for place, (image, label) in enumerate(zip(*digits(options.data / "mnist", part, number), strict=True)):
                (folder / part).mkdir(parents=True, exist_ok=True)
                (folder / part / f"{place}.png").write_bytes(png(image))
                lines.append(json.dumps({"image": f"{part}/{place}.png", LABEL: WORDS[label]}))
            write_text(folder / name, "\n".join(lines) + "\n")
    return train, folder / TEST


def measured(options: argparse.Namespace, seed: int, train: Path, test: Path) -> dict[str, float]:
    """Train the row with a seed, or go on with it, and return what it finds, with the seconds of training."""
    name = f"{options.row.replace('/', '-')}-{'digits' if options.digits else 'photos'}-{options.steps}-{seed}"
    out, result = options.work / name, options.work / f"{name}.json"
    if result.exists():
        return read_json(result)
    settings = {"budget.amount": options.steps, "budget.unit": '"steps"', "seed": seed}
    settings |= {"stages.0.batch": options.batch, "stages.0.micro_batch": options.batch}
    run = ["device=cpu", f"threads={options.threads}", "tracker=none", "checkpoint_every=50", "evaluate_every=100000"]
    given = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    given += [word for value in run for word in ("--run", value)]
    begun = time.monotonic()
    resumed = ["--resume"] if (out / "recipe.json").exists() else []
    called("pretrain", options.row, str(train), "--out", str(out), *given, *resumed)
    seconds = time.monotonic() - begun
    if options.digits:
        own = ["--label", LABEL, "--run", f"threads={options.threads}"]
        forms = f"templates={json.dumps(FORMS)}"
        zero = called("evaluate", str(out), str(test), "--task", "zero-shot", *own, "--task-set", forms)
        learned = f'train=["{test.parent / TRAIN}"]'
        probe = called("evaluate", str(out), str(test), "--task", "linear-probe", *own, "--task-set", learned)
        found = {"zero_shot": zero["accuracy"], "linear_probe": probe["accuracy"]}
    else:
        own = ["--run", f"threads={options.threads}"]
        found = called("evaluate", str(out), str(test), "--task", "image-retrieval", *own)
    found |= {"seconds": seconds}
    write_json(result, found)
    return found


def called(*arguments: str) -> dict[str, Any]:
    """Return what a command of genus answers."""
    done = subprocess.run([sys.executable, "-m", "genus", *arguments, "--json"], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def chances(table: Path) -> dict[str, float]:
    """Return the recall at k of a random order, both ways: of one image among all, and of any caption of an image."""
    counts = [len(json.loads(line)["caption"]) for line in table.read_text(encoding="utf-8").splitlines()]
    found: dict[str, float] = {}
    for k in DEPTHS:
        found[f"image_recall@{k}"] = min(1.0, k / len(counts))
        missed = [math.comb(sum(counts) - own, k) / math.comb(sum(counts), k) for own in counts]
        found[f"text_recall@{k}"] = 1 - float(np.mean(missed))
    return found


if __name__ == "__main__":
    main()
