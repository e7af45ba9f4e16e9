"""What lets a small masked model learn within minutes on a CPU: one choice of `genus/mini` changed at a time.

    python benchmarks/small_models.py                                   # all contenders, 700,000 tokens each
    python benchmarks/small_models.py --contenders "learned, post-norm" # some of them

Each row of `CONTENDERS` is `genus/mini` with the changes named, pretrained on the quickstart's text (the documentation
of the installed Python packages) for the same number of tokens. All are measured on the same held-out documents with
the same masks as far as vocabularies agree: 15 % of the tokens. What is finished is not done again: stop it at any
moment and run the same command.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genus import catalog, pipeline
from genus.cost import TRAINING, component_cost
from genus.export.folder import load
from genus.files import read_json, write_json
from genus.model.cpu import tune_cpu_process
from genus.preparation import token_store
from genus.processes import cores
from genus.text import Corpus
from genus.text.installed import make, read
from genus.train.provenance import surroundings
from genus.train.run import Run
from genus.train.world import find_device

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel
    from genus.recipe import Recipe

RESULTS = Path(__file__).parent / "results" / "small-models.json"
LEARNED, POST = "model.embedding.position=LearnedPosition", "model.block=PostNorm"
CONTENDERS = {
    "genus": [],
    "learned positions": [LEARNED],
    "learned positions, post-norm": [LEARNED, POST],
    "post-norm": [POST],
    "no gates, biases": ["model.feedforward={kind='MLP', size=1024}", "model.attention.bias=true"],
    "masking 30 %": ["objectives.0.masking.rate=0.3"],
    "masking 40 %": ["objectives.0.masking.rate=0.4"],
    "masking 40 %, weights of 0.05, rate 2e-3": [
        "objectives.0.masking.rate=0.4",
        "model.initialization.std=0.05",
        "optimizer.lr=2e-3",
    ],
    "rate 2e-3": ["optimizer.lr=2e-3"],
    "rate 5e-4": ["optimizer.lr=5e-4"],
    "batch of 8": ["stages.0.batch=8", "stages.0.micro_batch=8"],
    "batch of 32": ["stages.0.batch=32", "stages.0.micro_batch=32"],
    "rows of 128, batch of 8": ["stages.0.max_length=128", "stages.0.batch=8", "stages.0.micro_batch=8"],
    "4,000 pieces": ["tokens.vocab_size=4000"],
    "6 layers of 192": ["model.layers=6", "model.hidden=192", "model.attention.heads=3", "model.feedforward.size=512"],
    "Lion": ["optimizer={kind='Lion', lr=3e-4, weight_decay=0.1}"],
}
"""Changes to `genus/mini` by name; the first is the row itself."""
HELD_OUT = 0.02
"""Share of the documents that no contender trains on."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="mini")
    parser.add_argument("--tokens", type=float, default=7e5, help="of each contender")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=[*CONTENDERS])
    parser.add_argument("--text", type=Path, help="as the quickstart leaves it in text/corpus.jsonl; else it is made")
    parser.add_argument("--out", type=Path, default=Path("runs") / "small-models")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    tune_cpu_process()
    train, held_out = split(options.text or text(options.out / "text"), options.out)
    base = catalog.load(f"genus/{options.size}")
    told = {"tokens": options.tokens, **surroundings(find_device("cpu"))}
    found = read_json(options.results)["contenders"] if options.results.exists() else {}
    for name in options.contenders:
        changes = [*CONTENDERS[name], f"budget.amount={options.tokens}"]
        recipe = catalog.load(f"genus/{options.size}", changes)
        if found.get(name, {}).get("recipe") != recipe.hash():
            found[name] = learned(recipe, base, train, held_out, options.out / recipe.hash())
            write_json(options.results, {**told, "contenders": found})
        print(line(name, found[name]), flush=True)


def line(name: str, row: dict[str, Any]) -> str:
    """Return a line of the table, in Markdown."""
    cells = [
        f"{row['accuracy']:.3f}",
        f"{row['loss']:.2f}",
        f"{row['bits_per_byte']:.3f}",
        f"{row['flops'] / 1e12:.1f}",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def text(folder: Path) -> Path:
    """Return the quickstart's corpus, made at the first call."""
    corpus = folder / "corpus.jsonl"
    if not corpus.exists():
        make(read(workers=cores()), folder)
    return corpus


def split(corpus: Path, folder: Path) -> tuple[Path, Path]:
    """Write the documents to train on and the held-out ones, and return both files."""
    lines = corpus.read_text(encoding="utf-8").splitlines(keepends=True)
    first = max(2, round(HELD_OUT * len(lines)))
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "train.jsonl", folder / "held-out.jsonl"
    for path, part in zip(paths, (lines[first:], lines[:first]), strict=True):
        path.write_text("".join(part), encoding="utf-8")
    return paths


def learned(recipe: Recipe, base: Recipe, train: Path, held_out: Path, folder: Path) -> dict[str, Any]:
    """Return what a recipe reached, having trained it, measured with the masks of the base recipe."""
    run = Run(device="cpu", held_out=0.0, tracker="none")
    summary = pipeline.pretrain(recipe, [train], folder, run, resume=True)
    if summary.stopped:
        raise KeyboardInterrupt
    source = load(folder / "model")
    asked = replace(source.recipe, objectives=base.objectives)
    progress = summary.progress
    return {
        "recipe": recipe.hash(),
        "seed": recipe.seed,
        "tokens": progress.tokens,
        "steps": progress.step,
        "flops": progress.tokens * TRAINING * component_cost(recipe, {"tokens": 48}).flops,
        **measured(source, asked, held_out, folder / "held-out", run),
    }


def measured(source: LoadedModel, asked: Recipe, held_out: Path, store: Path, run: Run) -> dict[str, float]:
    """Return what a model reaches on held-out documents, with the examples and masks of a recipe of one objective.

    Args:
        source: the model.
        asked: gives the examples, the length of a row, the objective and the seed of the masks.
        held_out: the documents.
        store: the folder of their tokens, which are made at the first call; another tokenizer is refused.
        run: device and precision.
    """
    (objective,) = asked.objectives
    tokens = token_store(Corpus([str(held_out)]), source.tokenizer, store)
    feed = pipeline.validation_feed(asked, tokens, source.tokenizer, source.learner)
    metrics = pipeline.evaluate(source.learner, recipe=asked, feed=feed, run=replace(run, evaluate_batches=1_000_000))
    return {
        "loss": metrics[objective.name],
        "accuracy": metrics[f"{objective.name}/correct"],
        "bits_per_byte": metrics[f"{objective.name}/bits_per_byte"],
    }


if __name__ == "__main__":
    main()
