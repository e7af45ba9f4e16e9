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

RECIPE = "genus/mini"
RUN = "genus-mini"
"""The folder of the pretraining run."""
TOKENS = 2_500_000
"""About what two cores read in five minutes; by tokens, so that a slower machine takes longer and learns the same."""
SEEDS = (0, 1, 2)
SENTENCES = (
    "Return a new [MASK] with the same shape.",
    "If [MASK], return a copy.",
    "The default [MASK] is None.",
    "Return the [MASK] of two arrays.",
    "Raises an [MASK] if the file does not exist.",
    "Convert a [MASK] to an integer.",
)


def quickstart(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where everything goes.")] = Path("quickstart"),
    tokens: Annotated[int, typer.Option(min=1, help="How many tokens of text to pretrain on.")] = TOKENS,
    as_json: AsJson = False,
) -> None:
    """Pretrain, fine-tune and try genus/mini in minutes.

    On the documentation of the installed Python packages, without a download. Fine-tuning is to tell sentences as they
    were written from those with two words swapped; the same model from random weights is the comparison. What is done
    is not done again.
    """
    begun = time.perf_counter()
    made = _corpus(out / "text")
    run = out / RUN
    note(f"2/5 pretraining {RECIPE} on {tokens:,} tokens, from tokenizer to model, in {run}")
    held_out = _pretrain(made, run, tokens)
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


def _pretrain(made: "Made", folder: Path, tokens: int) -> dict[str, float]:
    """Pretrain in the folder, or resume the run there; return the held-out metrics."""
    from genus import catalog, pipeline

    recipe = catalog.load(RECIPE, [f"budget.amount={tokens}"])
    run = chosen_run([], held_out=0.02, checkpoint_every=500, evaluate_every=500)
    counter = Counter("tokenizing", "B")
    summary = pipeline.pretrain(recipe, [made.corpus], folder, run, resume=True, progress=counter)
    if summary.stopped:
        raise KeyboardInterrupt
    return summary.progress.evaluation


def _finetune(made: "Made", run: Path, folder: Path, *, random: bool) -> "Report":
    """Fine-tune the run's model, or the same architecture with random weights, to classify docstrings by package."""
    from genus.cli.folders import read_model
    from genus.cli.task import choose
    from genus.tasks.dataset import Files
    from genus.tasks.finetune import finetune
    from genus.tasks.start import Start

    source = read_model(run)
    start = Start(source.recipe, source.tokenizer, None if random else source.learner)
    task = choose("classification", ["text"], "order")
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
    print(
        f"\nOf held-out text, pretraining restores {found['held_out']['masked_lm/correct']:.1%} of the masked tokens."
    )
    print("\nIs a sentence as it was written, or are two neighboring words swapped?")
    print(f"{made.examples[0]:,} labeled sentences to learn from, {made.examples[1]:,} others to be asked about.\n")
    rows = [["pretrained", str(_accuracy(pretrained))], ["random", str(_accuracy(random))]]
    print(columns(["initial weights", f"best validation accuracy, mean of {len(SEEDS)} seeds [95 % interval]"], rows))
    for sentence, words in found["completions"].items():
        print(f"\n{sentence}")
        print("  " + ", ".join(f"{one['token']} ({one['probability']:.2f})" for one in words))
    model = found["models"]["pretrained"]
    places = [
        [str(made.corpus.parent), "the text and the labeled task, as JSON lines"],
        [str(model), f"the pretrained model{_read_by(model)}"],
        [str(out / RUN / "metrics.jsonl"), "how pretraining went"],
        [str(pretrained.model), f"the best fine-tuned model{_read_by(Path(pretrained.model))}"],
    ]
    print("\n" + columns(["where", "what"], places))
    print(f"""
{found["seconds"]:.0f} s in all. Next:
  genus fill {out / RUN} "The number of [MASK] to use."
  genus show {RECIPE} --diff bert/mini
  genus pretrain {RECIPE} YOUR-TEXT-FOLDER --out runs/mine""")


def _read_by(folder: Path) -> str:
    """Return who reads a model folder, to be appended to what it holds."""
    from genus.export.native import is_native
    from genus.files import read_json

    native = is_native(read_json(folder / "config.json"))
    return ", which genus reads (transformers has no class of it)" if native else ", in the Hugging Face layout"
