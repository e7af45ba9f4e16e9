"""What do copies in the training text do to a small decoder, and what is their removal worth?

    python benchmarks/deduplication.py --data ../shared/data                   # gpt2/mini, three seeds
    python benchmarks/deduplication.py --data ../shared/data --row gpt2/tiny   # sooner

After Lee et al. 2021 (arXiv:2107.06499), sections 6.1 and 6.2, in small: a tenth of the text is copies of some of its
documents, each many times; the same row is trained on it and on what near duplicates and exact substrings leave of it,
for as many tokens and with one vocabulary. Measured are the share of the tokens that it writes without a prompt (top-k
50) which stand in 50 tokens in a row of its training text, and the loss of text of which nothing was trained on. Three
seeds each; intervals are Student's, and of the differences by seed. What is finished is not done again, also where only
the results are left; `--report` writes what there is.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deduplication_runs import Corpora, Trained
from family_plan import carried_out, leave, publish, take_over
from family_runs import Words
from memorization_runs import TOP_K

from genus import catalog
from genus.evaluate.interval import interval
from genus.jobs import Job
from genus.memorization.verbatim import TOKENS
from genus.processes import cores
from genus.recipe import Budget

if TYPE_CHECKING:
    from collections.abc import Mapping

RESULTS = Path(__file__).parent / "results" / "deduplication.json"
SEEDS = (0, 1, 2)
CORPORA = ("before", "after")
METRICS = ("memorized", "nats_per_token", "bits_per_byte")


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds en_wikipedia")
    parser.add_argument("--row", default="gpt2/mini")
    parser.add_argument("--bytes", type=int, default=int(1.2e7), help="of the text before copies")
    parser.add_argument("--share", type=float, default=0.1, help="of the text with copies that is copies")
    parser.add_argument("--copies", type=int, default=30, help="of each document that is copied")
    parser.add_argument("--tokens", type=float, default=6e6, help="of each pretraining")
    parser.add_argument("--pieces", type=int, default=8_000)
    parser.add_argument("--samples", type=int, default=1_000, help="texts that each model writes")
    parser.add_argument("--length", type=int, default=120, help="tokens of each of them")
    parser.add_argument("--out", type=Path, default=Path("runs") / "deduplication")
    parser.add_argument("--jobs", type=int, default=cores(), help="processes, each with its share of the cores")
    parser.add_argument("--report", action="store_true", help="write the results that there are")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.threads = max(1, cores() // options.jobs)
    return options


def plan(options: argparse.Namespace) -> list[Job]:
    """Return all jobs: the corpora, a vocabulary and a store of each, and a pretraining of each and every seed."""
    texts = options.out / "texts"
    made = Corpora(
        options.data / "en_wikipedia" / "train.jsonl.xz", texts, options.bytes, options.share, options.copies, 300
    )
    told = {"bytes": options.bytes, "share": options.share, "copies": options.copies}
    jobs = [Job("corpora", made, texts / "done.json", told, 0.0)]
    row = catalog.load(options.row)
    row = replace(row, tokens=replace(row.tokens, vocab_size=options.pieces))
    for name in CORPORA:
        words = options.out / "words" / name
        work = Words(row, texts / f"{name}.jsonl", texts / "after.jsonl", words)
        jobs.append(
            Job(f"words {name}", work, words / "done.json", {"tokens": row.tokens.hash(), **told}, 0.0, ("corpora",))
        )
    for seed in SEEDS:
        for name in CORPORA:
            recipe = replace(row, seed=seed, budget=Budget(amount=options.tokens, unit="tokens"))
            folder = options.out / f"{name}-{seed}"
            words = options.out / "words" / name
            trained = Trained(recipe, words, texts, folder, options.samples, options.length)
            choices = {"recipe": recipe.written(), "text": name, **told}
            choices |= {"samples": options.samples, "length": options.length}
            needs = (f"words {name}",)
            jobs.append(Job(f"{name} {seed}", trained, folder / "result.json", choices, options.tokens, needs))
    return jobs


def scores(jobs: Mapping[str, Job]) -> dict[str, Any]:
    """Return each metric's mean and interval over the seeds, before and after, and of the differences."""
    runs = {name: {seed: jobs[f"{name} {seed}"].done() for seed in SEEDS} for name in CORPORA}
    found: dict[str, Any] = {}
    for metric in METRICS:
        each = {
            name: {seed: value(done, metric) for seed, done in runs[name].items() if done is not None}
            for name in CORPORA
        }
        both = sorted(each["before"].keys() & each["after"].keys())
        each["after - before"] = {seed: each["after"][seed] - each["before"][seed] for seed in both}
        found[metric] = {
            name: {**asdict(interval([*values.values()])), "each": [*values.values()]}
            for name, values in each.items()
            if values
        }
    return found


def value(done: dict[str, Any], metric: str) -> float:
    """Return a run's value of a metric."""
    return float({**done["held_out"], "memorized": done["memorized"]}[metric])


def table(found: dict[str, Any]) -> str:
    """Return the scores in Markdown."""
    lines = [["metric", *CORPORA, "after - before"], ["---"] * 4]
    for metric, row in found.items():
        cells = [metric]
        for name in (*CORPORA, "after - before"):
            one = row.get(name)
            half = "" if one is None or one["high"] is None else f" ± {one['high'] - one['mean']:.4f}"
            cells.append("" if one is None else f"{one['mean']:.4f}{half}")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    options = parsed()
    jobs = plan(options)
    take_over(jobs, options.results)
    failed = {} if options.report else carried_out(options, jobs)
    named = {job.name: job for job in jobs}
    found = scores(named)
    command = {
        name: getattr(options, name) for name in ("row", "bytes", "share", "copies", "tokens", "samples", "length")
    }
    publish(options.results, {**command, "memorized": TOKENS, "top_k": TOP_K}, found, jobs)
    print(table(found))
    leave(failed)


if __name__ == "__main__":
    main()
