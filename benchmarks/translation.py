"""The Transformer beside `torch.nn.Transformer` in the loop of PyTorch's tutorial: BLEU after the same seconds.

    python benchmarks/translation.py --data ../shared/data                  # an hour of updates for each contender
    python benchmarks/translation.py --data ../shared/data --seconds 300

German to English on Multi30k's 29,000 captions. All have the same vocabulary, sizes, target tokens a batch, learning
rate and its schedule, which is a function of the seconds spent; the tutorial's loop pads its batches, and is run in its
own float32 and with products in the precision of ours. One engine translates the 1,000 captions of 2016's test by all
models: beam search with 4 beams and the paper's length penalty. Ours is also measured as the mean of its last five
checkpoints. Checkpoints, tokenization and evaluation are not counted in the seconds. Measure on an idle machine. What
is finished is not done again: stop it at any moment and run the same command.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

import torch
from family_plan import FAILED, carried_out
from translation_runs import SEARCH, Trained, Training, Translation, Words

from genus import catalog
from genus.errors import GenusError
from genus.files import write_json
from genus.jobs import Job
from genus.recipe import Budget, Recipe
from genus.stages import Stage
from genus.train.provenance import surroundings

RESULTS = Path(__file__).parent / "results"
NAMES: dict[Trained, str] = {
    "genus": "{}",
    "torch": "torch.nn.Transformer of {}'s size, the tutorial's loop",
    "torch-autocast": "torch.nn.Transformer of {}'s size, the tutorial's loop in our precision",
}
MEAN = "{}, the mean of its last 5 checkpoints"
SPEED = 5
"""Sentences that are translated a second, about, for the time left only."""


def main() -> None:
    options = parsed()
    try:
        version("sacrebleu")
    except PackageNotFoundError:
        sys.exit("sacrebleu is not installed, which scores translations: pip install '.[eval]'")
    jobs = plan(options)
    failed = carried_out(options, list(jobs.values()))
    found = results(options, jobs)
    write_json(options.results, found)
    print(table(found["contenders"]))
    if failed:
        sys.exit("\n".join(f"{name}: {why}" for name, why in failed.items()))


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds multi30k")
    parser.add_argument("--seconds", type=float, default=3_600, help="of each training's updates")
    parser.add_argument("--size", default="mini", help="row of which size")
    parser.add_argument("--pieces", type=int, default=8_000, help="of the vocabulary")
    parser.add_argument("--length", type=int, default=64, help="of a row of ours; longer pairs are left out for all")
    parser.add_argument("--batch", type=int, default=16, help="rows of a batch of ours")
    parser.add_argument("--checkpoint-every", type=int, default=100, help="steps, of which the last 5 are averaged")
    parser.add_argument("--contenders", nargs="+", choices=get_args(Trained), default=list(get_args(Trained)))
    parser.add_argument("--limit", type=int, help="translate only the first so many captions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs") / "translation")
    parser.add_argument("--results", type=Path, help="translation-SIZE-SECONDS.json among the results")
    options = parser.parse_args()
    name = f"translation-{options.size}-{options.seconds:.0f}.json"
    options.results = options.results or RESULTS / name
    options.jobs, options.threads = 1, torch.get_num_threads()
    return options


def row_of(options: argparse.Namespace) -> Recipe:
    """Return the row, with rows and a budget for short sentences on a processor."""
    row = catalog.load(f"transformer/{options.size}")
    stage = Stage(max_length=options.length, source_length=options.length, batch=options.batch,
                  micro_batch=options.batch)  # fmt: skip
    budget = Budget(amount=options.seconds, unit="seconds")
    tokens = replace(row.tokens, vocab_size=options.pieces)
    return replace(row, tokens=tokens, stages=(stage,), budget=budget, seed=options.seed)


def plan(options: argparse.Namespace) -> dict[str, Job]:
    """Return all jobs by name: the vocabulary, trainings, and translations."""
    recipe, data = row_of(options), options.data / "multi30k"
    train, validation, test = (data / f"{name}.jsonl.gz" for name in ("train", "validation", "test_2016_flickr"))
    text = hashlib.sha256(train.read_bytes() + validation.read_bytes() + test.read_bytes()).hexdigest()[:16]
    words = options.out / f"words-{recipe.tokens.hash()}-{options.length}"
    tokens = {"tokens": recipe.tokens.written(), "text": text, "length": options.length}
    jobs = [Job("vocabulary", Words(recipe, train, validation, words / "made"), words / "done.json", tokens, 0.0)]
    for trained in options.contenders:
        name = NAMES[trained].format(recipe.name)
        folder = options.out / f"{options.size}-{options.seconds:.0f}-seed-{options.seed}" / trained
        choices = {"recipe": recipe.written(), "trained": trained, "text": text}
        if trained == "genus":
            choices |= {"checkpoint_every": options.checkpoint_every}
        work = Training(recipe, trained, words / "made", folder / "run", options.checkpoint_every)
        jobs.append(Job(name, work, folder / "done.json", choices, options.seconds, ("vocabulary",)))
        search = {"search": SEARCH.written(), "limit": options.limit}
        for averaged in (False, True) if trained == "genus" else (False,):
            told = MEAN.format(name) if averaged else name
            asked = Translation(recipe, trained, folder / "run", words / "made", test, options.limit, averaged)
            file = folder / "run" / ("mean.json" if averaged else "translations.json")  # goes with a run made anew
            cost = (options.limit or 1_000) / SPEED
            jobs.append(Job(f"{told}, translations", asked, file, choices | search, cost, (name,)))
    return {job.name: job for job in jobs}


def results(options: argparse.Namespace, jobs: dict[str, Job]) -> dict[str, Any]:
    """Return everything that is finished, as JSON."""
    recipe, rows = row_of(options), {}
    for trained in options.contenders:
        name = NAMES[trained].format(recipe.name)
        training = jobs[name].done()
        for told in (name, MEAN.format(name)):
            if (job := jobs.get(f"{told}, translations")) is not None:
                rows[told] = {"training": training, "test_2016": job.done()}
    told = (
        "seconds",
        "size",
        "pieces",
        "length",
        "batch",
        "checkpoint_every",
        "contenders",
        "limit",
        "seed",
        "threads",
    )
    return {
        **surroundings(torch.device("cpu")),
        "versions_of_metrics": {"sacrebleu": version("sacrebleu")},
        "command": {name: getattr(options, name) for name in told},
        "recipe": {"name": recipe.name, "hash": recipe.hash()},
        "search": SEARCH.written(),
        "vocabulary": jobs["vocabulary"].done(),
        "contenders": rows,
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table of all contenders, in Markdown."""
    titles = ["contender", "target tokens seen", "steps", "tokens/s", "validation perplexity", "BLEU [95 %]"]
    lines = [titles, ["---"] * len(titles)]
    for name, row in rows.items():
        one, test = row["training"], row["test_2016"]
        cells = ["", "", "", ""]
        if one:
            perplexity = "" if name.endswith("checkpoints") else f"{perplexity_of(one['validation']):.2f}"
            cells = [f"{one['tokens']:,}", f"{one['steps']:,}", f"{one['tokens_per_second']:,.0f}", perplexity]
        scored = f"{test['bleu']:.2f} [{test['interval'][0]:.2f}, {test['interval'][1]:.2f}]" if test else ""
        lines.append([name, *cells, scored])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def perplexity_of(metrics: dict[str, float]) -> float:
    """Return the perplexity among the metrics of one objective."""
    return next(value for name, value in metrics.items() if name.endswith("/perplexity"))


if __name__ == "__main__":
    try:
        main()
    except GenusError as error:
        print(error, file=sys.stderr)
        sys.exit(FAILED)
