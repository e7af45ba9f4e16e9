"""What pretraining gives an encoder-decoder in tasks of text to text, and what the objectives of T5 are worth.

    python benchmarks/text_to_text.py members --data ../shared/data       # t5, bart and byt5, and their random weights
    python benchmarks/text_to_text.py objectives --data ../shared/data    # t5/tiny with seven objectives

All are pretrained on books for the same FLOPs, and fine-tuned to write one-sentence summaries of papers (SciTLDR) and,
members, topics of news (AG News); the model, the tokenizer, the objective and the optimizer of pretraining are the
row's own. `members` has one pretraining a row and three fine-tunings from it, and three from random weights;
`objectives`, as Raffel et al. 2019, tables 4 and 5, three pretrainings with a fine-tuning each. What is finished is not
done again, also where only the results are left: stop it at any moment and run the same command. `--report` writes what
there is.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from family_data import write_corpus
from family_plan import SAMPLE, carried_out, leave, take_over
from family_runs import Words
from text_to_text_runs import Written, write_tables

from genus import catalog
from genus.evaluate.interval import interval
from genus.evaluate.metrics import Accuracy
from genus.evaluate.text_metrics import BitsPerByte, TokenLoss
from genus.evaluate.written import Rouge1, RougeL
from genus.files import write_json
from genus.jobs import Job
from genus.objectives.noise.tokens import SpanNoise, TokenNoise
from genus.objectives.pretraining.text_to_text import Denoising, Deshuffling, PrefixLM, TextToText
from genus.optim.adafactor import Adafactor
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.processes import cores
from genus.recipe import Budget, Recipe
from genus.stages import Stage
from genus.tasks import text_to_text
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genus.tasks import Task

RESULTS = Path(__file__).parent / "results"
FLOPS = {"members": 2e13, "objectives": 5e12}
BATCH, PIECES = 16, 8_000
TEXT = int(4e7)
"""Bytes of books: more than any run reads."""
MEMBERS = ("t5/mini", "bart/mini", "byt5/mini")
TASKS: dict[str, tuple[Task, int]] = {
    "scitldr_a": (
        text_to_text.TextToText(prefix="summarize: ", metrics=(BitsPerByte(), TokenLoss(), Rouge1(), RougeL())),
        600,
    ),
    "ag_news": (
        text_to_text.TextToText(
            texts=("text",),
            label="label",
            prefix="topic: ",
            names=("world", "sports", "business", "science"),
            metrics=(Accuracy(),),
        ),
        600,
    ),
}
"""Tasks with the number of their rows that are trained on."""
STUDIES = {"members": ("scitldr_a", "ag_news"), "objectives": ("scitldr_a",)}
EPOCHS = 4
SHORT = Stage(max_length=32, source_length=128, batch=BATCH, micro_batch=BATCH)
WHOLE = replace(SHORT, max_length=128)
"""What the decoder writes of 128 tokens: what is hidden, or all of them."""
SPANS = Denoising(noise=SpanNoise(rate=0.15, span=3.0))
TOKENS = replace(SPANS, noise=TokenNoise(rate=0.15))
SPANS_OF_3 = "spans of 3"
OBJECTIVES: dict[str, tuple[TextToText, Stage]] = {
    "prefix LM": (PrefixLM(), WHOLE),
    "BERT-style": (replace(TOKENS, inputs="mask or random", outputs="text"), WHOLE),
    "deshuffling": (Deshuffling(), WHOLE),
    "MASS-style": (replace(TOKENS, inputs="mask", outputs="text"), WHOLE),
    "replaced tokens": (TOKENS, replace(SHORT, max_length=48)),
    "dropped tokens": (replace(TOKENS, inputs="nothing", outputs="hidden"), SHORT),
    SPANS_OF_3: (SPANS, SHORT),
}
"""Raffel et al. 2019, tables 4, 5 and 7."""


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=FLOPS)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the books and the tasks")
    parser.add_argument("--out", type=Path, default=Path("runs") / "text-to-text")
    parser.add_argument("--flops", type=float, help="of each pretraining")
    parser.add_argument("--only", nargs="+", help="rows or objectives, by default all")
    parser.add_argument("--jobs", type=int, default=cores(), help="processes, each with its share of the cores")
    parser.add_argument("--report", action="store_true", help="write the results that there are")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    options.flops = options.flops or FLOPS[options.study]
    options.results = options.results or RESULTS / f"text-to-text-{options.study}.json"
    options.threads = max(1, cores() // options.jobs)
    options.books, options.sample = (options.out / f"books-{size}.jsonl" for size in (TEXT, int(SAMPLE)))
    options.tables = options.out / "tables"
    for path, size in ((options.books, TEXT), (options.sample, int(SAMPLE))):
        write_corpus(options.data / "en_books" / "train.jsonl.xz", path, size)
    for task, (_, labeled) in TASKS.items():
        write_tables(options.data / task, options.tables / task, labeled)
    return options


def settled(row: Recipe, flops: float, seed: int) -> Recipe:
    """Return the row with this study's vocabulary size, batch, budget and settings of fine-tuning.

    T5's weights are drawn for Adafactor's relative steps, and are fine-tuned with its constant rate (section 3.1.2).
    """
    stages = tuple(replace(stage, batch=BATCH, micro_batch=BATCH) for stage in row.stages)
    adafactor = isinstance(row.optimizer, Adafactor)
    tuned = replace(row.finetuning, epochs=EPOCHS, batch=BATCH)
    if not adafactor:
        tuned = replace(tuned, optimizer=AdamW(lr=5e-4, weight_decay=0.01, clip_norm=1.0), schedule=Linear(warmup=0.1))
    tokens = row.tokens if row.name.startswith("byt5") else replace(row.tokens, vocab_size=PIECES)
    budget = Budget(amount=flops, unit="flops")
    return replace(row, tokens=tokens, stages=stages, finetuning=tuned, budget=budget, seed=seed)


def rows_of(options: argparse.Namespace, seed: int) -> dict[str, Recipe]:
    """Return the study's recipes by name."""
    if options.study == "members":
        rows = {name: catalog.load(name) for name in MEMBERS}
    else:
        tiny = catalog.load("t5/tiny")
        output = tiny.objectives[0].output
        rows = {
            name: replace(tiny, objectives=(replace(objective, output=output),), stages=(stage,))
            for name, (objective, stage) in OBJECTIVES.items()
        }
    return {name: settled(row, options.flops, seed) for name, row in rows.items() if name in (options.only or rows)}


def plan(options: argparse.Namespace) -> dict[str, Job]:
    """Return all jobs by name: vocabularies, then by seed every row, and random weights of it."""
    jobs: dict[str, Job] = {}
    pretrainings = (0,) if options.study == "members" else (0, 1, 2)
    for seed in pretrainings:
        for name, recipe in rows_of(options, seed).items():
            kind = recipe.tokens.hash()
            words = options.out / "tokens" / kind
            job = Job(
                f"vocabulary {kind[:8]}",
                Words(recipe, options.books, options.sample, words),
                words / "done.json",
                {"tokens": kind, "bytes": TEXT},
                0.0,
            )
            jobs.setdefault(job.name, job)
            seeds = (0, 1, 2) if options.study == "members" else (seed,)
            # objectives differ in nothing but themselves, so that one row's random weights are those of all
            both = options.study == "members" or name == SPANS_OF_3
            for start in ("pretrained", "random") if both else ("pretrained",):
                made = one(options, f"{name} {start} {seed}", recipe, job, seeds, pretrained=start == "pretrained")
                jobs[made.name] = made
    return jobs


def one(
    options: argparse.Namespace, name: str, recipe: Recipe, words: Job, seeds: tuple[int, ...], *, pretrained: bool
) -> Job:
    """Return the job of one start."""
    folder = options.out / options.study / f"{options.flops:.0e}" / name.replace(" ", "-").replace("/", "-")
    tasks = {task: TASKS[task][0] for task in STUDIES[options.study]}
    work = Written(
        recipe, folder, words.result.parent, options.tables, tasks, seeds, None, None, pretrained, compiled=False
    )
    told = {task: {"task": made.written(), "rows": TASKS[task][1]} for task, made in tasks.items()}
    choices = {"recipe": recipe.written(), "pretrained": pretrained, "seeds": seeds, "tasks": told}
    return Job(name, work, folder / "result.json", choices, options.flops * (1.5 if pretrained else 0.5), (words.name,))


def scores(options: argparse.Namespace, jobs: Mapping[str, Job]) -> dict[str, dict[str, Any]]:
    """Return by row and start the mean and interval of every metric over the seeds, and the pretraining's."""
    found: dict[str, dict[str, Any]] = {}
    for name in rows_of(options, 0):
        for start in ("pretrained", "random"):
            runs = [run for seed in (0, 1, 2) if (job := jobs.get(f"{name} {start} {seed}")) and (run := job.done())]
            if not runs:
                continue
            row: dict[str, Any] = {"pretraining": [run.get("pretraining") for run in runs]}
            row["held_out"] = [run["curve"][-1] for run in runs if "curve" in run]
            for task in STUDIES[options.study]:
                trials = [trial for run in runs for trial in run["tasks"][task]["metrics"].values()]
                row[task] = {
                    metric: asdict(interval([trial[metric] for trial in trials]))
                    | {"each": [t[metric] for t in trials]}
                    for metric in trials[0]
                }
                row[task]["seconds"] = [s for run in runs for s in run["tasks"][task]["seconds"].values()]
            found[f"{name}, {'random weights' if start == 'random' else 'pretrained'}"] = row
    return found


def table(found: dict[str, dict[str, Any]], study: str) -> str:
    """Return the table of all rows, in Markdown."""
    shown = [("scitldr_a", "bits_per_byte"), ("scitldr_a", "rouge1"), ("scitldr_a", "rouge_l"), ("ag_news", "accuracy")]
    shown = [one for one in shown if one[0] in STUDIES[study]]
    lines = [["row", "tokens", "held-out bits per byte", *(f"{task}, {metric}" for task, metric in shown)]]
    lines.append(["---"] * len(lines[0]))
    for name, row in found.items():
        tokens = [f"{done['tokens'] / 1e6:.2f} M" for done in row["pretraining"] if done]
        bits = [value for one in row["held_out"] for key, value in one.items() if key.endswith("/bits_per_byte")]
        cells = [name, tokens[0] if tokens else "", f"{sum(bits) / len(bits):.3f}" if bits else ""]
        for task, metric in shown:
            one = row[task][metric]
            half = "" if one["high"] is None else f" ± {one['high'] - one['mean']:.3f}"
            cells.append(f"{one['mean']:.3f}{half}")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    options = parsed()
    jobs = plan(options)
    take_over(list(jobs.values()), options.results)
    failed = {} if options.report else carried_out(options, list(jobs.values()))
    found = scores(options, jobs)
    write_json(
        options.results,
        {
            **surroundings(torch.device("cpu")),
            "command": {"study": options.study, "flops": options.flops, "batch": BATCH, "epochs": EPOCHS},
            "rows": found,
            "runs": {name: done for name, job in jobs.items() if (done := job.done())},
        },
    )
    print(table(found, options.study))
    leave(failed)


if __name__ == "__main__":
    main()
