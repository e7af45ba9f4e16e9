"""Rows of ours beside Hugging Face's class of the same size, trained by `transformers.Trainer` for the same seconds.

    python benchmarks/trainer.py --data ../shared/data                          # masked models, 300 seconds each
    python benchmarks/trainer.py --data ../shared/data --corpus wikipedia       # on another text
    python benchmarks/trainer.py --data ../shared/data --rows causal --corpus books-and-code --seconds 150

All have the same text, tokenizer, threads and seconds of updates, one contender after the other; measure on an idle
machine. On both sides the learning rate is a function of the seconds spent, so that its decay ends when they do, and
nobody has to know the number of steps before. Checkpoints, evaluation and tokenization are not counted. Trainer runs
with its defaults, and with the row's own optimizer, warm-up, batch and dropout; both times in a process with our
settings of the allocator. Its folders are read as any other, so that one code measures and fine-tunes all: on the same
held-out documents with the same masks, and on AG News with a thousand labels, beside random weights. What is finished
is not done again: stop it at any moment and run the same command.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import sys
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from family_data import drawn, write_corpus
from family_plan import FAILED, carried_out, words_of
from small_models import split, text
from trainer_runs import SEEDS, Pretraining, Trained, Tuning

from genus import catalog
from genus.errors import GenusError
from genus.evaluate.interval import interval
from genus.examples.keys import PLAN, generator
from genus.files import write_json, write_text
from genus.jobs import Job
from genus.openmp import choose_waiting
from genus.recipe import Budget
from genus.tasks.dataset import Files
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genus.recipe import Recipe

RESULTS = Path(__file__).parent / "results"
NAMES: dict[Trained, str] = {
    "genus": "{}",
    "defaults": "{}'s size, by Trainer with its defaults",
    "ours": "{}'s size, by Trainer with our settings",
    "nobody": "{}, random weights",
}
VOCABULARY = 8_000
"""Pieces, of the same tokenizer for all rows with the same kind of it, so that they are measured on the same tokens."""
PAGE = 20_000
"""Characters of a document of books and code, at most: of a book so many make one, and longer files are left out."""
VALIDATION, TEST = 0.5, 2.0
"""Rows of AG News for each label: by which the best weights of a fine-tuning are chosen, and whose score is told."""
SECONDS_A_LABEL = 0.18
"""Of three fine-tunings with four epochs, about, for the time left only."""


@dataclass(frozen=True)
class Contender:
    """A row, and by whom it is trained."""

    member: str
    trained: Trained


CONTENDERS = {
    "masked": (
        Contender("genus", "genus"),
        Contender("bert", "genus"),
        Contender("bert", "defaults"),
        Contender("bert", "ours"),
        Contender("genus", "nobody"),
        Contender("bert", "nobody"),
    ),
    "causal": (
        Contender("gpt2", "genus"),
        Contender("llama", "genus"),
        Contender("gpt2", "defaults"),
        Contender("gpt2", "ours"),
        Contender("bert", "genus"),  # what fine-tuning from a masked model gives, on the same text
        Contender("gpt2", "nobody"),
        Contender("llama", "nobody"),
    ),
}
"""By the kind of language model."""
CORPORA = ("installed", "wikipedia", "books-and-code")
"""The quickstart's text; English Wikipedia; books and the code of installed packages, half the bytes each."""


def main() -> None:
    options = parsed()
    try:
        version("accelerate")
    except PackageNotFoundError:
        sys.exit("accelerate is not installed, which transformers.Trainer needs: pip install '.[oracle]'")
    choose_waiting()  # of the processes that jobs start, as the command line's own
    prepare(options)
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
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds ag_news and en_wikipedia")
    parser.add_argument("--seconds", type=float, default=300, help="of each pretraining's updates")
    parser.add_argument("--size", default="mini", help="rows of which size")
    parser.add_argument("--labels", type=int, default=1_000, help="rows of AG News to fine-tune on")
    parser.add_argument("--rows", choices=CONTENDERS, default="masked")
    parser.add_argument("--corpus", choices=CORPORA, default="installed", help="what all are trained on")
    parser.add_argument("--bytes", type=int, default=30_000_000, help="of a corpus other than installed")
    parser.add_argument("--text", type=Path, help="installed, as the quickstart leaves it in text/corpus.jsonl")
    parser.add_argument("--out", type=Path, default=Path("runs") / "trainer")
    parser.add_argument("--results", type=Path, help="trainer-ROWS-CORPUS-SECONDS.json among the results")
    options = parser.parse_args()
    name = f"{options.rows}-{options.corpus}-{options.seconds:.0f}"
    options.results = options.results or RESULTS / f"trainer-{name}.json"
    options.out /= options.corpus if options.corpus == "installed" else f"{options.corpus}-{options.bytes}"
    options.jobs, options.threads = 1, torch.get_num_threads()
    return options


def prepare(options: argparse.Namespace) -> None:
    """Write the text, its two parts and the tables of the task; add to the options where they are."""
    whole, wikipedia = options.out / "corpus.jsonl", options.data / "en_wikipedia" / "train.jsonl.xz"
    if options.corpus == "wikipedia":
        write_corpus(wikipedia, whole, options.bytes)
    elif options.corpus == "books-and-code":
        write_books_and_code(options.data / "en_books", whole, options.bytes)
    else:
        whole = options.text or text(options.out / "text")
    options.text, options.held_out = split(whole, options.out)
    options.sample = options.text
    options.fingerprint = hashlib.sha256(whole.read_bytes()).hexdigest()[:16]
    options.tables = options.out / f"ag_news-{options.labels}"
    train = drawn(options.data / "ag_news" / "train_subset.jsonl.gz", round((1 + VALIDATION) * options.labels))
    parts = {"train": train[: options.labels], "validation": train[options.labels :]}
    parts["test"] = drawn(options.data / "ag_news" / "test.jsonl.gz", round(TEST * options.labels))
    for name, rows in parts.items():
        write_text(options.tables / f"{name}.jsonl", "".join(rows))


def write_books_and_code(books: Path, path: Path, size: int) -> None:
    """Write pages of books and files of installed packages, half the bytes each, in a random order."""
    if path.exists():
        return
    with lzma.open(books / "train.jsonl.xz", "rt", encoding="utf-8") as lines:
        documents = [*taken((page for line in lines for page in pages(json.loads(line)["text"])), size / 2)]
    files = Path(torch.__file__).parents[1].rglob("*.py")
    mixed = sorted(files, key=lambda file: hashlib.sha256(file.as_posix().encode()).digest())
    documents += taken((file.read_text(encoding="utf-8", errors="replace") for file in mixed), size / 2)
    order = generator(0, PLAN, 0, 0).permutation(len(documents)).tolist()
    write_text(path, "".join(json.dumps({"text": documents[number]}) + "\n" for number in order))


def pages(book: str) -> Iterator[str]:
    """Yield the pages of a book."""
    return (book[start : start + PAGE] for start in range(0, len(book), PAGE))


def taken(texts: Iterable[str], size: float) -> Iterator[str]:
    """Yield texts that are neither empty nor longer than `PAGE`, up to so many bytes."""
    total = 0
    for one in texts:
        if one.strip() and len(one) <= PAGE:
            if total > size:
                return
            total += len(one.encode())
            yield one


def plan(options: argparse.Namespace) -> dict[str, Job]:
    """Return all jobs by name: vocabularies, pretrainings, and then fine-tunings."""
    words, pretrainings, tunings = {}, {}, {}
    runs = options.out / f"{options.seconds:.0f}-seconds"
    for contender in CONTENDERS[options.rows]:
        recipe = row_of(contender, options)
        own = words_of(options, recipe)
        words[own.name] = own
        name, folder = name_of(contender, recipe), runs / f"{contender.member}-{contender.trained}"
        run, needs, model = folder / "run", [own.name], None
        choices = {"recipe": recipe.written(), "trained": contender.trained, "text": options.fingerprint}
        if contender.trained != "nobody":
            model = run / "model"
            work = Pretraining(recipe, contender.trained, own.result.parent, options.text, options.held_out, run)
            job = Job(name, work, folder / "done.json", choices, options.seconds, (own.name,))
            pretrainings[job.name] = job
            needs.append(job.name)
        tables = options.tables.name
        tuning = Tuning(recipe, own.result.parent, model, Files.find(options.tables), run / tables)
        named, result = f"{name}, fine-tuned", run / f"{tables}.json"  # goes with the run when that is made anew
        cost = SECONDS_A_LABEL * options.labels
        tunings[named] = Job(named, tuning, result, choices | {"labels": options.labels}, cost, tuple(needs))
    return words | pretrainings | tunings


def row_of(contender: Contender, options: argparse.Namespace) -> Recipe:
    """Return the row of a contender, with the vocabulary and the budget of all."""
    row = catalog.load(f"{contender.member}/{options.size}")
    budget = Budget(amount=options.seconds, unit="seconds")
    return replace(row, tokens=replace(row.tokens, vocab_size=VOCABULARY), budget=budget)


def name_of(contender: Contender, recipe: Recipe) -> str:
    """Return what a contender is called in the table."""
    return NAMES[contender.trained].format(recipe.name)


def results(options: argparse.Namespace, jobs: dict[str, Job]) -> dict[str, Any]:
    """Return everything that is finished, as JSON."""
    rows = {}
    for contender in CONTENDERS[options.rows]:
        name = name_of(contender, row_of(contender, options))
        pretraining = jobs[name].done() if name in jobs else None
        rows[name] = {"pretraining": pretraining, "ag_news": jobs[f"{name}, fine-tuned"].done()}
    told = ("rows", "corpus", "bytes", "seconds", "size", "labels", "fingerprint", "threads")
    return {
        **surroundings(torch.device("cpu")),
        "command": {name: getattr(options, name) for name in told},
        "fine_tuning_seeds": SEEDS,
        "contenders": rows,
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table of all contenders, in Markdown."""
    titles = ["contender", "tokens seen", "steps", "bits per byte", "accuracy of tokens", "AG News accuracy [95 %]"]
    lines = [titles, ["---"] * len(titles)]
    for name, row in rows.items():
        one, tuned = row["pretraining"], row["ag_news"]
        cells = ["", "", "", ""]
        if one:
            cells = [f"{one['tokens']:,}", f"{one['steps']:,}", f"{one['bits_per_byte']:.3f}", f"{one['accuracy']:.3f}"]
        lines.append([name, *cells, str(interval(list(tuned["accuracy"].values()))) if tuned else ""])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    try:
        main()
    except GenusError as error:
        print(error, file=sys.stderr)
        sys.exit(FAILED)
