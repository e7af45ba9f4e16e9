"""What distillation keeps: half of `bert/mini`, taught by it, beside it and beside the same half without a teacher.

    python benchmarks/distillation.py --data ../shared/data --out runs/distillation

As Sanh et al. 2019, tables 1 to 3, in small: score on tasks of GLUE, parameters, and tokens a second of inference on
the CPU, taken in alternating turns. All are pretrained for the same tokens on the same text with the same settings and
fine-tuned with three seeds (`family.py`). What is finished is not done again: stop it and run the same command.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import torch
from family import BYTES_PER_TOKEN, TEXT, settled
from family_runs import TASKS, Training, Words, write_corpus, write_tables

from genus import catalog, pipeline
from genus.cost import cost
from genus.errors import GenusError
from genus.evaluate.interval import interval
from genus.export.hf import load
from genus.files import write_json
from genus.model.speed import quicken_process
from genus.recipe import Budget
from genus.tokens.store import Store
from genus.tokens.tokenizer import Tokenizer
from genus.train.provenance import surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genus.recipe import Recipe

RESULTS = Path(__file__).parent / "results" / "distillation.json"
TEACHER, STUDENT, ALONE = "bert/mini", "distilbert/mini", "distilbert/mini without teacher"
BATCHES = 4
"""Different micro-batches that each forward pass of a round takes once."""
SCORE = "accuracy"


def contenders(tokens: float) -> dict[str, Recipe]:
    """Return the rows, the teacher first: alike but for what each is, and `ALONE` the student's less its teacher."""
    rows = {name: settled(catalog.load(name), 0) for name in (TEACHER, STUDENT)}
    rows[ALONE] = replace(rows[STUDENT].exported, name="alone/mini")
    return {name: replace(row, budget=Budget(amount=tokens, unit="tokens")) for name, row in rows.items()}


def trained(options: argparse.Namespace, rows: Mapping[str, Recipe]) -> dict[str, dict[str, Any]]:
    """Return each row's pretraining and its scores."""
    folders = {name: options.out / name.replace("/", "-").replace(" ", "-") for name in rows}
    found = {}
    for name, row in rows.items():
        teacher = folders[TEACHER] / "model" if name == STUDENT else None
        work = Training(row, folders[name], options.words, options.tables, teacher, True, options.compile)
        made = work()
        seeds = {task: [each[SCORE] for each in made["tasks"][task]["metrics"].values()] for task in TASKS}
        found[name] = {
            "folder": folders[name].name,
            "pretraining": made["pretraining"],
            "parameters": cost(row).network,
            SCORE: {task: asdict(interval(values)) | {"seeds": values} for task, values in seeds.items()},
            "score": fmean(fmean(values) for values in seeds.values()),
        }
    return found


def timed(options: argparse.Namespace, rows: Mapping[str, Recipe], folders: Mapping[str, Path]) -> dict[str, Any]:
    """Return tokens a second of each network's forward pass over the same packed text, in alternating turns."""
    tokenizer = Tokenizer.load(options.words / "words")
    store = Store.open(options.words / "store", tokenizer)
    feed = pipeline.examples(rows[ALONE], store, tokenizer, stage=0)
    batches = [feed[number] for number in range(BATCHES)]
    networks = {name: load(folder / "model").learner.eval().network for name, folder in folders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    with torch.inference_mode():
        for number in range(options.rounds + 1):  # the first does not count
            for name, network in networks.items():
                begun = time.perf_counter()
                for batch in batches:
                    network(batch)
                if number:
                    seconds[name].append(time.perf_counter() - begun)
    tokens = sum(batch.tokens.live for batch in batches)
    return {name: {"tokens_per_second": tokens / median(times), "seconds": times} for name, times in seconds.items()}


def report(found: dict[str, dict[str, Any]], speed: dict[str, Any]) -> dict[str, Any]:
    """Return and print everything, relative to the teacher too."""
    first = found[TEACHER]
    for name, row in found.items():
        ratios = [a / b for a, b in zip(speed[TEACHER]["seconds"], speed[name]["seconds"], strict=True)]
        row["speed"] = speed[name] | {"times_as_fast": [median(ratios), min(ratios), max(ratios)]}
        row["size"], row["kept"] = row["parameters"] / first["parameters"], row["score"] / first["score"]
        tasks = ", ".join(f"{task} {row[SCORE][task]['mean']:.3f}" for task in TASKS)
        print(
            f"{name:32} {row['parameters']:>11,} parameters ({row['size']:.0%}), {median(ratios):.2f} times as fast, "
            f"score {row['score']:.3f} ({row['kept']:.1%}): {tasks}"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds en_wikipedia and glue")
    parser.add_argument("--out", type=Path, default=Path("runs/distillation"), help="where runs go and are found")
    parser.add_argument("--tokens", type=float, default=2e6, help="budget of each pretraining")
    parser.add_argument(
        "--fine-tuning-text", type=int, default=300_000, help="bytes of each task's training rows, at most"
    )
    parser.add_argument("--rounds", type=int, default=20, help="of the inference, each contender once")
    parser.add_argument("--compile", action="store_true", help="pays from about a million tokens on")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    quicken_process()
    size = int(max(TEXT, BYTES_PER_TOKEN * options.tokens))
    text, options.words = options.out / f"text-{size}.jsonl", options.out / f"tokens-{size}"
    options.tables = options.out / f"tables-{options.fine_tuning_text}"
    write_corpus(options.data / "en_wikipedia" / "train.jsonl.xz", text, size)
    for task in TASKS:
        write_tables(options.data / "glue" / task, options.tables / task, options.fine_tuning_text)
    rows = contenders(options.tokens)
    Words(rows[TEACHER], text, options.words)()
    found = trained(options, rows)
    speed = timed(options, rows, {name: options.out / row["folder"] for name, row in found.items()})
    command = {name: getattr(options, name) for name in ("tokens", "fine_tuning_text", "rounds", "compile")}
    made = {"command": command, "tasks": TASKS, "contenders": report(found, speed)}
    write_json(options.results, surroundings(torch.device("cpu")) | made)


if __name__ == "__main__":
    try:
        main()
    except GenusError as error:
        sys.exit(str(error))
