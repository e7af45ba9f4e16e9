"""How far texts must change until a classifier errs: two attacks on two architectures, and on adversarial training.

    python benchmarks/attack.py --data ../shared/data                    # 100 rows of AG News, rows of size tiny
    python benchmarks/attack.py --data ../shared/data --quick            # 20 rows

A masked and a causal row of one vocabulary are pretrained briefly on news and Wikipedia, and fine-tuned on AG News: the
masked one twice, plainly and with perturbed embeddings (FreeLB). Each classifier is attacked by gradients (GBDA) and by
substitution of words; texts are held to be fluent by the causal row, and similar by BERTScore of the masked one. What
is found on the plain classifier is then tried on the other architecture. What is finished is not done again, and an
attack goes on where it was stopped: stop it at any moment and run the same command.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from attack_runs import CAUSAL, MASKED, Attacking, Pretraining, Tuning
from family_data import write_corpus
from family_plan import FAILED, carried_out
from minilm import markdown

from genus import catalog
from genus.attack.gbda import GBDA
from genus.attack.substitution import Substitution
from genus.errors import GenusError
from genus.evaluate.interval import Interval
from genus.files import write_json, write_text
from genus.jobs import Job
from genus.tasks.augment.adversarial import AdversarialTraining
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.attack import Attack
    from genus.recipe import Recipe

RESULTS = Path(__file__).parent / "results" / "attack.json"
WIKIPEDIA = 6e6
"""Bytes of it beside the 3.6 MB of news."""
PLAIN, ROBUST, DECODER = "bert", "bert, adversarial training", "gpt2"
"""The classifiers."""


def main() -> None:
    options = parsed()
    write_texts(options)
    jobs = plan(options)

    def write() -> list[dict[str, Any]]:
        runs = {name: found for name, job in jobs.items() if (found := job.done()) is not None}
        rows = table(runs)
        write_json(options.results, {**surroundings(torch.device("cpu")), "table": told(rows), "runs": runs})
        write_text(options.results.with_suffix(".md"), markdown(rows) + "\n")
        return rows

    failed = {} if options.report else carried_out(options, list(jobs.values()), write)
    print(markdown(write()))
    if failed:
        sys.exit("\n".join(f"{name}: {why}" for name, why in failed.items()))


def parsed() -> argparse.Namespace:
    """Return the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, required=True, help="the folder that holds ag_news and en_wikipedia")
    made.add_argument("--size", default="tiny", choices=("tiny", "mini"), help="of the rows")
    made.add_argument("--tokens", type=float, default=3e6, help="that each row is pretrained on")
    made.add_argument("--vocabulary", type=int, default=4000, help="pieces")
    made.add_argument("--rows", type=int, default=100, help="that are attacked")
    made.add_argument("--quick", action="store_true", help="attack 20 rows")
    made.add_argument("--labeled", type=int, default=14_918, help="rows to fine-tune on, at most")
    made.add_argument("--epochs", type=float, default=3, help="of fine-tuning")
    made.add_argument("--lr", type=float, default=1e-3, help="of fine-tuning")
    made.add_argument("--length", type=int, default=64, help="tokens of a text that the classifiers read")
    made.add_argument("--iterations", type=int, default=100, help="of GBDA")
    made.add_argument("--transfer-samples", type=int, default=1000, help="of a text, at most")
    made.add_argument("--out", type=Path, default=Path("runs") / "attack", help="where runs go")
    made.add_argument("--results", type=Path, default=RESULTS, help="JSON; the table stands beside it in Markdown")
    made.add_argument("--report", action="store_true", help="write the table of what is finished")
    options = made.parse_args()
    options.jobs, options.threads = 1, 1
    options.rows = 20 if options.quick else options.rows
    return options


def write_texts(options: argparse.Namespace) -> None:
    """Write the text of pretraining, and the tables of the task: rows for validation are the last of training."""
    folder = options.out / "tables"
    if (folder / "test.jsonl").exists():
        return
    write_corpus(options.data / "en_wikipedia" / "train.jsonl.xz", options.out / "text" / "wikipedia.jsonl", WIKIPEDIA)
    train, test = (
        gzip.decompress((options.data / "ag_news" / name).read_bytes()).decode().splitlines(keepends=True)
        for name in ("train_subset.jsonl.gz", "test.jsonl.gz")
    )
    write_text(options.out / "text" / "news.jsonl", "".join(train))
    held = 500  # rows, and as many in test as idf weights are counted over
    write_text(folder / "train.jsonl", "".join(train[:-held][: options.labeled]))
    write_text(folder / "validation.jsonl", "".join(train[-held:]))
    write_text(folder / "test.jsonl", "".join(test[:held]))


def recipes(options: argparse.Namespace) -> tuple[Recipe, Recipe]:
    """Return the masked and the causal row, in rows of 64 tokens and small batches, which short runs learn from."""
    stages = [{"max_length": 64, "batch": 16, "micro_batch": 16, "share": 1.0}]
    budget = {"amount": options.tokens, "unit": "tokens"}
    tuned = {"max_length": 64, "batch": 32, "epochs": options.epochs}
    found = []
    for member in (MASKED, CAUSAL):
        recipe = catalog.load(f"{member}/{options.size}").overlay({"budget": budget, "stages": stages})
        optimizer = {"lr": 5e-4}
        found.append(recipe.overlay({"finetuning": {**tuned, "optimizer": optimizer}}))
    masked, causal = found
    return masked.overlay({"tokens": {"vocab_size": options.vocabulary}}), causal


def plan(options: argparse.Namespace) -> dict[str, Job]:
    """Return all jobs by name."""
    masked, causal = recipes(options)
    out, jobs = options.out, dict[str, Job]()

    def add(name: str, work: Callable[[], dict[str, Any]], choices: Any, cost: float, *needs: str) -> None:
        jobs[name] = Job(name, work, out / "jobs" / f"{name}.json", choices, cost, needs)

    text, tables = out / "text", out / "tables"
    add("masked", Pretraining(masked, text, out / "masked", None), masked.written(), options.tokens)
    words = out / "masked" / "tokenizer"
    add("causal", Pretraining(causal, text, out / "causal", words), [masked.written(), causal.written()],
        options.tokens, "masked")  # fmt: skip
    choice = AdversarialTraining()
    for name, start, augmentation in ((PLAIN, "masked", None), (DECODER, "causal", None), (ROBUST, "masked", choice)):
        recipe = masked if start == "masked" else causal
        tuned = {"max_length": options.length, "optimizer": {"lr": options.lr, "bias_correction": True}}
        recipe = recipe.overlay({"finetuning": tuned})
        work = Tuning(out / start / "model", tables, out / name, recipe.finetuning, augmentation)
        told = [masked.written(), causal.written(), recipe.finetuning.to_json(), options.labeled,
                None if augmentation is None else augmentation.written()]  # fmt: skip
        cost = options.labeled * options.epochs * 50 * (1 if augmentation is None else choice.passes + 1)
        add(name, work, told, cost, start)
    attacks: tuple[Attack, ...] = (GBDA(iterations=options.iterations), Substitution())
    for target in (PLAIN, DECODER, ROBUST):
        for attack in attacks:
            kind = type(attack).__name__
            other = DECODER if target == PLAIN else None
            work_of = Attacking(attack, target, other, out, options.rows, options.transfer_samples)
            told = [*jobs[target].choices, attack.written(), options.rows, other, options.transfer_samples]
            needs = ["masked", "causal", target, *([other] if other else [])]
            add(f"{target}, {kind}", work_of, told, options.rows * 5e4, *needs)
    later = [name for name in jobs if name.startswith(ROBUST)]
    return {name: jobs[name] for name in (*(one for one in jobs if one not in later), *later)}


def table(runs: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each attack on each classifier."""
    rows = []
    for name, run in runs.items():
        if "accuracies" not in run:
            continue
        target, _, attack = name.rpartition(", ")
        spreads = {measure: one and one["mean"] for measure, one in run["distributions"].items()}
        rows.append(
            {
                "classifier": target,
                "attack": attack,
                "rows": run["rows"],
                **{measure: Interval(**one) for measure, one in run["accuracies"].items()},
                **{measure: spreads[measure] for measure in MEASURES},
            }
        )
    return rows


MEASURES = ("BERTScore recall", "BERTScore F1", "cosine similarity", "share of tokens changed", "perplexity before",
            "perplexity after", "queries", "queries of the other", "seconds")  # fmt: skip


def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows as JSON."""
    return [{name: str(value) if isinstance(value, Interval) else value for name, value in row.items()} for row in rows]


if __name__ == "__main__":
    try:
        main()
    except GenusError as error:
        print(error, file=sys.stderr)
        sys.exit(FAILED)
