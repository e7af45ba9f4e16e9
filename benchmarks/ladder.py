"""A ladder of six sizes and three budgets on books, laws fitted to it, and the next size predicted before its run.

    python benchmarks/ladder.py --data DATA

DATA is a folder with `train.jsonl.xz`. Sizes are `genus` (rotary positions, pre-norm) from 2 layers of 64 to 7 of 256;
budgets are in FLOPs. The next size, 8 layers of 320 with four times the largest budget, is predicted from the ladder,
then trained, then compared. Whatever has ended is not made again: the same command goes on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from genus import catalog
from genus.files import write_json
from genus.scale.ladder import climb, rungs
from genus.scale.points import read_runs
from genus.scale.prediction import Prediction, compare, place_of, predict
from genus.scale.report import best_law, report
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from genus.recipe import Recipe

RESULTS = Path(__file__).parent / "results" / "ladder.json"
BASE = "genus/mini"
SIZES = ((2, 64), (3, 96), (4, 128), (5, 160), (6, 192), (7, 256))
"""Layers and hidden size; heads are 32 wide."""
NEXT = (8, 320)
BUDGETS = (1e13, 4e13, 1.6e14)
"""FLOPs of a run; the largest is about an hour on a core, the whole ladder a night."""
METRIC = "masked_lm"


def sized(layers: int, hidden: int, vocabulary: int, batch: int) -> Recipe:
    """Return the base at another size; its vocabulary is small, so that embeddings are not most of it."""
    wide = catalog.load(BASE).model.to_json()["feedforward"]["size"] / catalog.load(BASE).model.to_json()["hidden"]
    return catalog.load(
        BASE,
        [
            f"name=ladder/{layers}x{hidden}",
            f"tokens.vocab_size={vocabulary}",
            f"model.layers={layers}",
            f"model.hidden={hidden}",
            f"model.attention.heads={hidden // 32}",
            f"model.feedforward.size={round(wide * hidden)}",
            f"stages.0.batch={batch}",
            f"stages.0.micro_batch={batch}",
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/ladder"), help="where the runs lie")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--budgets", type=float, nargs="+", default=BUDGETS)
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="how many of the sizes, from the smallest on")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=32, help="rows of a step")
    parser.add_argument("--run", action="append", default=[], help="as genus pretrain --run")
    options = parser.parse_args()
    text = [str(options.data / "train.jsonl.xz")]
    running = [part for one in ("device=cpu", "evaluate_every=200", *options.run) for part in ("--run", one)]
    sizes = [sized(*size, options.vocabulary, options.batch) for size in (*SIZES[: options.sizes], NEXT)]
    ladder = rungs(sizes[:-1], options.budgets, "flops", options.work)
    stop(climb(ladder, text, options.work, running, options.jobs))
    runs, path = read_runs([rung.folder for rung in ladder], METRIC), options.work / "prediction.json"
    (last,) = rungs(sizes[-1:], [4 * max(options.budgets)], "flops", options.work)
    if not path.exists():
        predict(best_law(runs), place_of(last.recipe), last.recipe.name, METRIC).save(path)
    stop(climb([last], text, options.work, running, 1))
    found: dict[str, Any] = {
        "runs": [{"name": run.name, **asdict(run.last)} for run in runs],
        "report": report(runs).to_json(),
        "prediction": asdict(Prediction.read(path)),
        "outcome": asdict(compare(Prediction.read(path), last.folder)),
        "surroundings": surroundings(torch.device("cpu")),
    }
    write_json(options.results, found)
    subprocess.run([sys.executable, "-m", "genus", "scale", "fit", str(options.work / "runs"), "--metric", METRIC],
                   check=False)  # fmt: skip
    print(found["outcome"])


def stop(failed: list[str]) -> None:
    """End where runs failed."""
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
