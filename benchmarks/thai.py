"""Thai: WangchanBERTa from government news to the sentiment of messages, beside random weights and one answer to all.

    python benchmarks/thai.py --data ../shared/data --jobs 2

The whole of th_gov_news is cleaned, and read in pieces (unigram) and in words (newmm), 8,192 of each, found in part of
it. Networks are pretrained on it for so many tokens, on pieces with two seeds and on words with one, and fine-tuned on
Wisesight's sentiment with three seeds from each pretraining, and with the same seeds from random weights. What is
finished is not done again, even where its results alone are left: stop it at any moment
and run the same command.
"""

from __future__ import annotations

import gzip
import sys
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from family_data import write_corpus
from family_plan import FAILED, SEEDS, Settings, carried_out, parser, settled, take_over, training, words_of
from family_runs import FIRST, Training

from genus import catalog
from genus.errors import GenusError
from genus.evaluate.interval import Interval, interval, paired_bootstrap
from genus.evaluate.metrics import Accuracy, MacroF1, Metric
from genus.examples.keys import PLAN, generator
from genus.files import write_json, write_text
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, FineTuning, Recipe
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files
from genus.tasks.table import rows
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from genus.jobs import Job

RESULTS = Path(__file__).parent / "results" / "thai.json"
CORPUS, TASK = "th_gov_news", "wisesight_sentiment"
SENTIMENT = Classification(texts=("texts",), label="category", metrics=(Accuracy(), MacroF1()))
PRETRAININGS = {"pieces": SEEDS, "words": SEEDS[:1]}
"""Seeds of each; words are there to be compared with, at the price of one."""
SETTINGS = Settings(
    optimizer=AdamW(lr=7e-4, eps=1e-6, weight_decay=0.01, clip_norm=1.0),
    schedule=Linear(warmup=0.05),
    finetuning=FineTuning(
        optimizer=AdamW(lr=3e-4, eps=1e-6, weight_decay=0.01, clip_norm=1.0),
        schedule=Linear(warmup=0.1),
        epochs=1,
        batch=16,
        max_length=128,
    ),
    length=128,
    batch=8,
    tunings=3,
)
DRAWS = 1000
"""Of the paired bootstrap over validation rows."""
CONSTANT = "constant"
DIFFERENCES = (
    ("pieces tokens", CONSTANT),
    ("pieces tokens", "pieces random"),
    ("words tokens", CONSTANT),
    ("words tokens", "words random"),
    ("words tokens", "pieces tokens"),
)


def contenders(size: str) -> dict[str, Recipe]:
    """Return the member with its pieces, and the same with the words of another of its rows."""
    pieces, words = catalog.load(f"wangchanberta/{size}"), catalog.load("wangchanberta/base-words").tokens
    return {"pieces": pieces, "words": replace(pieces, name=f"{pieces.name}-words", tokens=words)}


def plan(options: Namespace) -> list[Job]:
    """Return all jobs: for each kind and seed the vocabulary, a pretraining, and random weights in its place."""
    jobs: dict[str, Job] = {}
    for kind, row in contenders(options.size).items():
        for seed in PRETRAININGS[kind]:
            recipe = replace(settled(row, seed, SETTINGS), budget=Budget(amount=options.tokens, unit="tokens"))
            own = words_of(options, recipe)
            starts = [
                training(options, kind, recipe, own, f"{kind} {start} {seed}", SETTINGS)
                for start in ("tokens", "random")
            ]
            jobs |= {job.name: job for job in (own, *starts)}
    return list(jobs.values())


def prepare(options: Namespace) -> None:
    """Add to the options what follows from them, and write the text and the tables where they are missing."""
    options.threads = max(1, torch.get_num_threads() // options.jobs)
    options.text = options.out / f"text-{options.pretraining_text}.jsonl"
    options.tables = options.out / f"tables-{options.fine_tuning_text}"
    options.tasks, options.pairs = {TASK: SENTIMENT}, None
    options.sample = options.out / f"text-{options.vocabulary_text}.jsonl"
    for path, size in ((options.text, options.pretraining_text), (options.sample, options.vocabulary_text)):
        write_corpus(options.data / CORPUS / "train.jsonl.xz", path, size)
    write_tables(options.data / TASK, options.tables / TASK, options.fine_tuning_text)
    options.tuned = options.fine_tuning_text
    options.labeled = sum(1 for _ in rows(options.tables / TASK / "train.jsonl"))


def write_tables(source: Path, folder: Path, most: int) -> None:
    """Write a task's tables, of its training rows drawn at random that many bytes; a test table stays away."""
    found = Files.find(source)
    assert found.validation is not None
    for name, path, limit in (("train", found.train, most), ("validation", found.validation, None)):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = list(file)
        if limit is not None:
            order = generator(0, PLAN, 0, 0).permutation(len(lines))
            size = np.cumsum([len(lines[number].encode()) for number in order.tolist()])
            lines = [lines[number] for number in np.sort(order[size <= limit]).tolist()]
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{name}.jsonl", "".join(lines))


class OverRuns(Metric):
    """The mean of a metric over runs: predictions are (N, runs)."""

    metric: Metric

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the mean."""
        return float(np.mean([self.metric(truth, run) for run in predicted.T]))


def numbers(lines: Sequence[str]) -> NDArray[np.int64]:
    """Return answers written as characters, a column a line."""
    return np.array([[ord(character) - FIRST for character in line] for line in lines]).T


@dataclass(frozen=True)
class Starts:
    """What was reached from each start, `pieces tokens` and the like, and by the one answer that scores best."""

    runs: dict[str, dict[str, Any]]
    """By start and pretraining seed."""
    truth: NDArray[np.int64]
    """(N,), as all answers numbers of labels."""
    metric: Metric

    def seeds(self, start: str) -> list[int]:
        """Return the pretraining seeds that are finished."""
        return [seed for seed in SEEDS if start == CONSTANT or f"{start} {seed}" in self.runs]

    def each(self, start: str, seed: int) -> list[float]:
        """Return the scores of the fine-tunings of a pretraining."""
        if start == CONSTANT:
            return [self.metric(self.truth, self.answers(start, seed)[:, 0])]
        tuned = self.runs[f"{start} {seed}"]["tasks"][TASK]["metrics"]
        return [one[self.metric.name] for one in tuned.values()]

    def answers(self, start: str, seed: int) -> NDArray[np.int64]:
        """Return the answers (N, runs)."""
        if start == CONSTANT:
            same = [np.full_like(self.truth, label) for label in np.unique(self.truth)]
            return max(same, key=lambda answers: self.metric(self.truth, answers))[:, None]
        return numbers(list(self.runs[f"{start} {seed}"]["tasks"][TASK]["answers"].values()))

    def score(self, start: str) -> dict[str, Any]:
        """Return the mean with Student's interval over what is independent, and every score.

        That is a pretraining, by the mean of its fine-tunings; from random weights, which are drawn anew for each, a
        fine-tuning.
        """
        each = [self.each(start, seed) for seed in self.seeds(start)]
        independent = list(chain(*each)) if start.endswith("random") else [fmean(scores) for scores in each]
        return asdict(interval(independent)) | {"each": each}

    def difference(self, ours: str, theirs: str) -> dict[str, Any]:
        """Return the difference, paired by seed, with its intervals over pretrainings and over validation rows."""
        seeds = [seed for seed in self.seeds(ours) if seed in self.seeds(theirs)]
        values = [fmean(self.each(ours, seed)) - fmean(self.each(theirs, seed)) for seed in seeds]
        sides = (np.hstack([self.answers(start, seed) for seed in seeds]) for start in (ours, theirs))
        over_rows = paired_bootstrap(OverRuns(metric=self.metric), self.truth, *sides, draws=DRAWS)
        return {"over_pretrainings": asdict(interval(values)), "over_rows": asdict(over_rows)}


def compared(runs: dict[str, dict[str, Any]], truth: str) -> dict[str, Any]:
    """Return and print every start's scores and the differences, of those that are there."""
    names = [*dict.fromkeys(name.rsplit(" ", 1)[0] for name in runs), CONSTANT]
    found: dict[str, Any] = {}
    for metric in SENTIMENT.metrics:
        starts = Starts(runs, numbers([truth])[:, 0], metric)
        pairs = [pair for pair in DIFFERENCES if {*pair} <= {*names}]
        found[metric.name] = {
            "scores": {name: starts.score(name) for name in names if name != CONSTANT},
            CONSTANT: starts.each(CONSTANT, SEEDS[0])[0],
            "differences": {" - ".join(pair): starts.difference(*pair) for pair in pairs},
        }
        for name, told in found[metric.name]["scores"].items():
            print(f"{metric.name:10} {name:32} {Interval(*list(told.values())[:4])}")
        for name, told in found[metric.name]["differences"].items():
            print(f"{metric.name:10} {name:32} {' and '.join(str(Interval(**over)) for over in told.values())}")
    return found


def results(options: Namespace, jobs: list[Job], failed: dict[str, str]) -> dict[str, Any]:
    """Return everything that is finished, as JSON."""
    done = {job.name: job.done() for job in jobs}
    runs = {job.name: done[job.name] for job in jobs if isinstance(job.work, Training)}
    told = ("size", "tokens", "pretraining_text", "vocabulary_text", "fine_tuning_text", "compile", "jobs", "threads")
    validation = [str(row["category"]) for _, row in rows(options.tables / TASK / "validation.jsonl")]
    labels = SENTIMENT.objective(validation).labels
    finished = {name: run for name, run in runs.items() if run}
    truth = "".join(str(labels.index(label)) for label in validation)
    return {
        **surroundings(torch.device("cpu")),
        "command": {name: getattr(options, name) for name in told},
        "labels": labels,
        "truth": truth,
        "fine_tuned_rows": options.labeled,
        "seeds": {"pretraining": PRETRAININGS, "fine_tuning": {seed: SETTINGS.tuning_seeds(seed) for seed in SEEDS}},
        "vocabularies": {name: found for name, found in done.items() if name not in runs and found},
        "compared": compared(finished, truth),
        "runs": finished,
        "missing": {name: failed.get(name, "not finished") for name, run in runs.items() if not run},
    }


def main() -> None:
    command = parser(__doc__, RESULTS)
    command.add_argument("--pretraining-text", type=int, default=10**9, help="bytes of the news, by default all")
    command.add_argument("--vocabulary-text", type=int, default=10**7, help="bytes of the news that vocabularies see")
    command.add_argument("--report", action="store_true", help="write the results of what is finished only")
    command.add_argument("--fine-tuning-text", type=int, default=1_500_000, help="bytes of training rows, at most")
    command.set_defaults(out=Path("runs/thai"), size="mini", tokens=8e5)
    options = command.parse_args()
    prepare(options)
    jobs = plan(options)
    take_over(jobs, options.results)
    failed = {} if options.report else carried_out(options, jobs)
    write_json(options.results, results(options, jobs, failed))
    if failed:
        sys.exit("\n".join(f"{name}: {why}" for name, why in failed.items()))


if __name__ == "__main__":
    try:
        main()
    except GenusError as error:
        print(error, file=sys.stderr)
        sys.exit(FAILED)
