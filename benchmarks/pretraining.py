"""What pretraining is worth: mini rows pretrained on Wikipedia, then SST-2 and MRPC, with and without pretraining.

    python benchmarks/pretraining.py --data ../shared/data --out runs/pretraining

Every member is pretrained for the same number of tokens with the same vocabulary size, then fine-tuned with three seeds
from its own weights and from random ones, with the same settings. What is finished is not done again.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from genus import catalog, pipeline
from genus.export.hf import load
from genus.files import write_json
from genus.model.speed import quicken_process
from genus.tasks.dataset import Files
from genus.tasks.finetune import finetune
from genus.tasks.glue import GLUE
from genus.tasks.start import Start
from genus.train.provenance import surroundings
from genus.train.run import Run

if TYPE_CHECKING:
    from genus.export.hf import Imported
    from genus.recipe import FineTuning

RESULTS = Path(__file__).parent / "results" / "pretraining.json"
MEMBERS = ("bert/mini", "roberta/mini")
SETTINGS = (
    "tokens.vocab_size=8192",
    "stages=[{max_length = 128, batch = 16, micro_batch = 16}]",
    "optimizer.lr=7e-4",
    "schedule.warmup=0.05",
    "budget.unit=tokens",
    "finetuning.optimizer={kind = 'AdamW', lr = 3e-4, weight_decay = 0.01}",
)
"""For a short run: pieces that are all seen often, many small updates, fine-tuning that can learn from scratch."""
TASKS = {"sst2": {"epochs": 0.34, "batch": 32}, "mrpc": {"epochs": 2.0, "batch": 32}}
"""SST-2 sees a third of its examples once, MRPC all of its own twice: what a laptop does in minutes."""
SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds en_wikipedia and glue")
    parser.add_argument("--out", type=Path, default=Path("runs/pretraining"), help="where the runs go")
    parser.add_argument("--tokens", type=float, default=6e6, help="pretraining budget of each member")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    quicken_process()
    run = Run(compile=True)
    rows = [row for name in MEMBERS for row in study(name, options.tokens, options.data, options.out, run)]
    made = {"tokens": options.tokens, "settings": SETTINGS, "tasks": TASKS, "results": rows}
    write_json(options.results, surroundings(torch.device("cpu")) | made)


def study(name: str, tokens: float, data: Path, out: Path, run: Run) -> list[dict[str, Any]]:
    """Pretrain a member, and fine-tune it on every task from both kinds of initial weights."""
    folder = out / name.replace("/", "-")
    recipe = catalog.load(name, [*SETTINGS, f"budget.amount={tokens}"])
    corpus = [data / "en_wikipedia" / "train.jsonl.xz"]
    reached = pipeline.pretrain(recipe, corpus, folder, run, resume=True).progress
    model = load(folder / "model")
    pretraining = {"recipe": model.recipe.hash(), "seed": recipe.seed, **asdict(reached)}
    rows: list[dict[str, Any]] = [{"member": name, "pretraining": pretraining}]
    for task, changes in TASKS.items():
        settings = replace(recipe.finetuning, **changes)
        for initial in ("pretrained", "random"):
            where = folder / f"{task}-{initial}"
            rows.append(fine_tuned(name, model, initial, task, Files.find(data / "glue" / task), settings, where))
    return rows


def fine_tuned(
    name: str, model: Imported, initial: str, task: str, files: Files, settings: FineTuning, folder: Path
) -> dict[str, Any]:
    """Return the validation metrics of one task from one kind of initial weights: each seed's, mean and interval."""
    start = Start(model.recipe, model.tokenizer, model.learner if initial == "pretrained" else None)
    report = finetune(start, GLUE[task], Files(files.train, files.validation), folder, settings=settings, seeds=SEEDS)
    metrics = {metric: asdict(interval) for metric, interval in report.summary()["validation"].items()}
    seeds = {trial.seed: trial.metrics["validation"] for trial in report.trials}
    return {"member": name, "initial": initial, "task": task, "validation": metrics, "seeds": seeds}


if __name__ == "__main__":
    main()
