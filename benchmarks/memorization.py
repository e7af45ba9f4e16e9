"""How often must a small decoder see a secret to give it away, and what does the removal of copies change?

    python benchmarks/memorization.py --data ../shared/data                   # gpt2/mini, three seeds
    python benchmarks/memorization.py --data ../shared/data --row gpt2/tiny   # sooner

Canaries (Carlini et al. 2018, arXiv:1802.08232) are planted in text 1 to 100 times, each as a document of its own; the
same row is trained on it and on what near duplicates and exact substrings leave of it, for as many tokens and with one
vocabulary. Measured are the share of the secrets that greedy decoding writes after what stands before them, their
exposure, and the share of what the model writes without a prompt that stands in 50 tokens in a row of its text.
Intervals are Wilson's of extraction over canaries and seeds, and Student's of the rest over seeds. What is finished is
not done again, also where only the results are left; `--report` writes what there is.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from family_plan import carried_out, leave, publish, take_over
from family_runs import Words
from memorization_runs import CORPORA, TOP_K, CanaryCorpora, Exposed

from genus import catalog
from genus.evaluate.interval import interval, wilson
from genus.jobs import Job
from genus.memorization.canaries import REPETITIONS
from genus.memorization.verbatim import TOKENS
from genus.processes import cores
from genus.recipe import Budget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RESULTS = Path(__file__).parent / "results" / "memorization.json"


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the text")
    parser.add_argument("--text", default="imdb/train.jsonl.xz", help="in it")
    parser.add_argument("--row", default="gpt2/mini")
    parser.add_argument("--bytes", type=int, default=int(4e6), help="of the text before canaries")
    parser.add_argument("--canaries", type=int, default=5, help="of each number of repetitions")
    parser.add_argument("--candidates", type=int, default=1_000, help="secrets that each canary is compared with")
    parser.add_argument("--tokens", type=float, default=4e6, help="of each pretraining")
    parser.add_argument("--pieces", type=int, default=4_000)
    parser.add_argument("--samples", type=int, default=200, help="texts that each model writes")
    parser.add_argument("--length", type=int, default=120, help="tokens of each of them")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs") / "memorization")
    parser.add_argument("--jobs", type=int, default=cores(), help="processes, each with its share of the cores")
    parser.add_argument("--report", action="store_true", help="write the results that there are")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.threads = max(1, cores() // options.jobs)
    return options


def plan(options: argparse.Namespace) -> list[Job]:
    """Return all jobs: the corpora, a vocabulary and a store of each, and a pretraining of each and every seed."""
    texts = options.out / "texts"
    made = CanaryCorpora(options.data / options.text, texts, options.bytes, options.canaries, REPETITIONS, 300)
    told = {"text": options.text, "bytes": options.bytes, "canaries": options.canaries}
    jobs = [Job("corpora", made, texts / "done.json", told, 0.0)]
    row = catalog.load(options.row)
    row = replace(row, tokens=replace(row.tokens, vocab_size=options.pieces))
    for name in CORPORA:
        words = options.out / "words" / name
        work = Words(row, texts / f"{name}.jsonl", texts / "cleaned.jsonl", words)
        choices = {"tokens": row.tokens.hash(), **told}
        jobs.append(Job(f"words {name}", work, words / "done.json", choices, 0.0, ("corpora",)))
    for seed in range(options.seeds):
        for name in CORPORA:
            recipe = replace(row, seed=seed, budget=Budget(amount=options.tokens, unit="tokens"))
            folder, words = options.out / f"{name}-{seed}", options.out / "words" / name
            measured = {name: getattr(options, name) for name in ("samples", "length", "candidates")}
            work = Exposed(recipe, words, texts, folder, *measured.values())
            choices = {"recipe": recipe.written(), "corpus": name, **told, **measured}
            needs = (f"words {name}",)
            jobs.append(Job(f"{name} {seed}", work, folder / "result.json", choices, options.tokens, needs))
    return jobs


def scores(jobs: Mapping[str, Job], seeds: Sequence[int]) -> dict[str, Any]:
    """Return extraction and exposure by repetitions, and what is measured once a run, of each corpus."""
    found: dict[str, Any] = {}
    for name in CORPORA:
        runs = [done for seed in seeds if (done := jobs[f"{name} {seed}"].done()) is not None]
        if not runs:
            continue
        rows = []
        for repetitions in REPETITIONS:
            each = [[one for one in run["canaries"] if one["repetitions"] == repetitions] for run in runs]
            flags = [one["extracted"] for some in each for one in some]
            means = [sum(one["exposure"] for one in some) / len(some) for some in each]
            rows.append(
                {
                    "repetitions": repetitions,
                    "extracted": asdict(wilson(sum(flags), len(flags))),
                    "exposure": asdict(interval(means)),
                }
            )
        found[name] = {
            "by_repetitions": rows,
            "memorized": asdict(interval([run["memorized"] for run in runs])),
            "bits_per_byte": asdict(interval([run["held_out"]["bits_per_byte"] for run in runs])),
        }
    return found


def table(found: dict[str, Any]) -> str:
    """Return the scores in Markdown."""
    lines = [["planted", *(f"{name}: {what}" for name in found for what in ("extracted", "exposure, bits"))]]
    lines.append(["---"] * len(lines[0]))
    for place, repetitions in enumerate(REPETITIONS):
        cells = [str(repetitions)]
        for one in found.values():
            row = one["by_repetitions"][place]
            cells += [_told(row["extracted"], 2), _told(row["exposure"], 1)]
        lines.append(cells)
    for what in ("memorized", "bits_per_byte"):
        lines.append([what, *(cell for one in found.values() for cell in (_told(one[what], 4), ""))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _told(one: dict[str, Any], digits: int) -> str:
    ends = "" if one["low"] is None else f" [{one['low']:.{digits}f}, {one['high']:.{digits}f}]"
    return f"{one['mean']:.{digits}f}{ends}"


def main() -> None:
    options = parsed()
    jobs = plan(options)
    take_over(jobs, options.results)
    failed = {} if options.report else carried_out(options, jobs)
    named = {job.name: job for job in jobs}
    found = scores(named, range(options.seeds))
    names = ("text", "row", "bytes", "canaries", "candidates", "tokens", "pieces", "samples", "length", "seeds")
    command = {name: getattr(options, name) for name in names}
    publish(options.results, {**command, "memorized": TOKENS, "top_k": TOP_K}, found, jobs)
    print(table(found))
    leave(failed)


if __name__ == "__main__":
    main()
