"""Positions and norms: what lets a small masked model leave the plateau of single words' frequencies within minutes.

    python benchmarks/positions.py

`genus/mini` is pretrained on the quickstart's text, the documentation of the installed Python packages, for so many
tokens: as it is, with learned positions, and with learned positions and post-norm layers besides, as BERT has them.
Masked accuracy on held-out text is told along the way. What is finished is not done again: stop it at any moment and
run the same command.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genus import catalog, pipeline
from genus.files import write_json
from genus.model.cpu import tune_cpu_process
from genus.text.installed import make, read
from genus.train.provenance import surroundings
from genus.train.run import Run
from genus.train.world import find_device

if TYPE_CHECKING:
    from genus.recipe import Recipe
    from genus.train.loop import Summary

RESULTS = Path(__file__).parent / "results" / "positions.json"
LEARNED, POST = "model.embedding.position=LearnedPosition", "model.block=PostNorm"
CONTENDERS = {
    "rotary, pre-norm": [],
    "learned, pre-norm": [LEARNED],
    "learned, post-norm": [LEARNED, POST],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="mini")
    parser.add_argument("--tokens", type=float, default=1.5e6, help="of each contender")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=[*CONTENDERS])
    parser.add_argument("--text", type=Path, help="as the quickstart leaves it in text/corpus.jsonl; else it is made")
    parser.add_argument("--out", type=Path, default=Path("runs") / "positions")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    tune_cpu_process()
    text = options.text or options.out / "text" / "corpus.jsonl"
    if not options.text and not text.exists():
        make(read(workers=os.cpu_count() or 1), text.parent)
    found = {}
    for name in options.contenders:
        changes = [*CONTENDERS[name], f"budget.amount={options.tokens}"]
        recipe = catalog.load(f"genus/{options.size}", changes)
        found[name] = pretrained(recipe, text, options.out / name.replace(", ", "-"))
        print(f"{name:20} masked accuracy {found[name]['curve'][-1]['accuracy']:.3f}")
    write_json(options.results, {"tokens": options.tokens, **surroundings(find_device("cpu")), "contenders": found})


def pretrained(recipe: Recipe, text: Path, folder: Path) -> dict[str, Any]:
    """Return what a recipe reached, having trained it, and how it got there."""
    run = Run(device="cpu", held_out=0.02, evaluate_every=250, tracker="none")
    summary: Summary = pipeline.pretrain(recipe, [text], folder, run, resume=True)
    if summary.stopped:
        raise KeyboardInterrupt
    progress = summary.progress
    return {
        "recipe": recipe.hash(),
        "tokens": progress.tokens,
        "steps": progress.step,
        "seconds": progress.seconds,
        "curve": curve(folder / "metrics.jsonl"),
    }


def curve(metrics: Path) -> list[dict[str, float]]:
    """Return step, loss in nats and share of masked tokens restored, of every evaluation on held-out text."""
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return [
        {"step": row["step"], "loss": row["held_out/masked"], "accuracy": row["held_out/masked/correct"]}
        for row in rows
        if "held_out/masked" in row
    ]


if __name__ == "__main__":
    main()
