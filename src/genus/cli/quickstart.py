"""`genus quickstart`: pretraining and fine-tuning of a small model, on text that is on every machine."""

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genus.cli.options import AsJson, chosen_run
from genus.cli.output import Counter, columns, document, note

if TYPE_CHECKING:
    from genus.evaluate.interval import Interval
    from genus.tasks.report import Report
    from genus.text.installed import Made

RECIPE = "bert/mini"
PRETRAINING = (
    "tokens.vocab_size=8192",
    "stages=[{max_length = 128, batch = 16, micro_batch = 16}]",
    "optimizer.lr=7e-4",
    "schedule.warmup=0.05",
    "budget.unit=seconds",
)
"""Small batches give many updates; the recipe learns most with these settings from 8 MB, in minutes on two cores."""
FINE_TUNING = (
    "finetuning.epochs=8",
    "finetuning.batch=16",
    "finetuning.max_length=64",
    "finetuning.optimizer.lr=3e-4",
    "finetuning.optimizer.bias_correction=true",
)
"""Without bias correction, random weights learn nothing at this learning rate, and the comparison would be unfair."""
SEEDS = (0, 1, 2)
SENTENCES = ("Return the [MASK] of two arrays.", "Raises an [MASK] if the file does not exist.")


def quickstart(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where everything goes.")] = Path("quickstart"),
    seconds: Annotated[float, typer.Option(help="How long to pretrain.")] = 270,
    as_json: AsJson = False,
) -> None:
    """Pretrain, fine-tune and try bert/mini in minutes.

    On the documentation of the installed Python packages, without a download. What is learned is to tell which package
    a docstring comes from; the same model from random weights is the comparison. What is done is not done again.
    """
    begun = time.perf_counter()
    made = _corpus(out / "text")
    run = out / "bert-mini"
    note(f"2/5 pretraining {RECIPE} for {seconds:.0f} s, from tokenizer to model, in {run}")
    held_out = _pretrain(made, run, seconds)
    note(f"3/5 fine-tuning it with {len(SEEDS)} seeds")
    pretrained = _finetune(made, run, out / "from-pretrained", random=False)
    note("4/5 fine-tuning the same model from random weights")
    random = _finetune(made, run, out / "from-random", random=True)
    note("5/5 completing masked words")
    found = {
        "seconds": time.perf_counter() - begun,
        "text": asdict(made),
        "held_out": held_out,
        "accuracy": {"pretrained": asdict(_accuracy(pretrained)), "random": asdict(_accuracy(random))},
        "completions": _completions(run),
        "models": {"pretrained": run / "model", "fine-tuned": pretrained.model},
    }
    if as_json:
        document(found)
    else:
        _tell(found, made, pretrained, random, out)


def _corpus(folder: Path) -> "Made":
    """Write the corpus and the classification task, made from the documentation of installed packages."""
    from genus.text.installed import make, read

    note("1/5 reading the documentation of the installed Python packages")
    modules = read(workers=os.cpu_count() or 1, progress=Counter("parsing", "files"))
    made = make(modules, folder)
    note(f"    {made.documents:,} documents, {made.characters / 1e6:.1f} MB, in {made.corpus}")
    return made


def _pretrain(made: "Made", folder: Path, seconds: float) -> dict[str, float]:
    """Pretrain in the folder, or resume the run there; return the held-out metrics."""
    from genus import catalog, pipeline

    recipe = catalog.load(RECIPE, [*PRETRAINING, f"budget.amount={seconds}"])
    run = chosen_run([], held_out=0.02, checkpoint_every=500, evaluate_every=250)
    counter = Counter("tokenizing", "B")
    summary = pipeline.pretrain(recipe, [made.corpus], folder, run, resume=True, progress=counter)
    if summary.stopped:
        raise KeyboardInterrupt
    return summary.progress.evaluation


def _finetune(made: "Made", run: Path, folder: Path, *, random: bool) -> "Report":
    """Fine-tune the run's model, or the same architecture with random weights, to classify docstrings by package."""
    from genus import catalog
    from genus.cli.folders import read_model
    from genus.cli.task import choose
    from genus.tasks.dataset import Files
    from genus.tasks.finetune import finetune
    from genus.tasks.start import Start

    source = read_model(run)
    recipe = catalog.overridden(source.recipe, FINE_TUNING)
    start = Start(recipe, source.tokenizer, None if random else source.learner)
    task = choose("classification", ["text"], "package")
    return finetune(start, task, Files(made.train, made.validation), folder, seeds=SEEDS)


def _accuracy(report: "Report") -> "Interval":
    return report.summary()["validation"]["accuracy"]


def _completions(run: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the most probable completions of the mask in each sentence."""
    from genus.cli.folders import read_model
    from genus.evaluate.fill import fill_mask

    source = read_model(run)
    return {text: [asdict(one) for one in fill_mask(source.learner, source.tokenizer, text)[0]] for text in SENTENCES}


def _tell(found: dict[str, Any], made: "Made", pretrained: "Report", random: "Report", out: Path) -> None:
    """Print the results, where the files are, and which commands to try next."""
    print(f"\nWhich of {len(made.labels)} packages is a docstring from? ({', '.join(made.labels)})")
    print(f"{made.examples[0]:,} labeled docstrings to learn from, {made.examples[1]:,} others to be asked about.\n")
    rows = [["pretrained", str(_accuracy(pretrained))], ["random", str(_accuracy(random))]]
    print(columns(["initial weights", f"accuracy, mean of {len(SEEDS)} seeds [95 % interval]"], rows))
    for sentence, words in found["completions"].items():
        print(f"\n{sentence}")
        print("  " + ", ".join(f"{one['token']} ({one['probability']:.2f})" for one in words))
    places = [
        [str(made.corpus.parent), "the text and the labeled task, as JSON lines"],
        [str(found["models"]["pretrained"]), "the pretrained model, in the Hugging Face layout"],
        [str(out / "bert-mini" / "metrics.jsonl"), "how pretraining went"],
        [str(pretrained.model), "the best fine-tuned model"],
    ]
    print("\n" + columns(["where", "what"], places))
    print(f"""
{found["seconds"]:.0f} s in all. Next:
  genus fill {out / "bert-mini"} "Return a new [MASK] with the same shape."
  genus show bert/mini --diff roberta/mini
  genus pretrain bert/mini YOUR-TEXT-FOLDER --out runs/mine""")
