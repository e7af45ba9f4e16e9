"""`genus quickstart`: pretraining and fine-tuning of a small model, on text that is on every machine."""

import textwrap
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genus.cli.options import AsJson, chosen_run
from genus.cli.output import Counter, columns, document
from genus.errors import say
from genus.processes import cores

if TYPE_CHECKING:
    from genus.evaluate.interval import Interval
    from genus.recipe import Recipe
    from genus.tasks.report import Report
    from genus.text.installed import Made

RECIPE = "genus/mini"
MASKED = 0.4
CHANGES = [f"objectives.0.masking.rate={MASKED}", "model.initialization.std=0.05", "optimizer.lr=2e-3"]
"""To the recipe, for what a few minutes have room for: more targets of each token that is read, and larger weights,
with which learning begins sooner and bears a higher rate. Measured: see `benchmarks/README.md`."""
RUN = "genus-mini"
"""The folder of the pretraining run."""
PAGE = "index.html"
QUESTION = "is a sentence as it was written, or is the order of some words changed?"
SENTENCES = {
    "The new type derives from an abstract base [MASK].": {"class"},
    "Use the object as a context [MASK] in a with statement.": {"manager"},
    "All other keyword [MASK] are passed on to the constructor.": {"arguments", "parameters", "args", "options"},
    "If the name is missing, an empty [MASK] is returned.": {"string", "list", "dictionary", "tuple", "set", "array"},
    "The folder can be changed with an environment [MASK].": {"variable"},
    "The maximum [MASK] of workers that run at the same time.": {"number", "amount", "count"},
    "This helper [MASK] returns the name of the module.": {"function", "method", "class"},
    "A text without any letters is a special [MASK].": {"case"},
    "Return the source [MASK] of the function as text.": {"code", "lines", "line", "file"},
    "These options can also be given on the command [MASK].": {"line"},
    "The old name is kept for backward [MASK].": {"compatibility"},
    "The data is first written to a temporary [MASK].": {"file", "directory", "folder", "buffer"},
}
"""Sentences with a word left out, and the content words that a reader accepts there.

Each is made for one pair of neighboring content words, the second a noun, whose second word is left out: of the pairs
in the text in which the second word follows the first at least one time in ten, those that stand in most packages, and
no second word twice. The sentences were fixed before a model was asked, and stand in no text that a model reads.
"""
RULE = (
    "Each sentence is made for two words that often stand together in the documentation of many packages, and the "
    "second is left out. The sentences and the words that count, bold where they come first, were fixed before "
    "a model was asked. No text that the model read holds one of these sentences, and it was trained to restore masked "
    "words only. Pairs of words are about all that it learns in minutes: it knows little of what sentences mean."
)
FIXED = [max(text.split("[MASK]"), key=len).strip() for text in SENTENCES]
"""The longer side of each sentence: docstrings that hold one of them are left out of the corpus."""


@dataclass(frozen=True)
class Size:
    """How much of each part of the quickstart is done."""

    tokens: int
    """Of text to pretrain on: a slower machine takes longer and learns the same."""
    seeds: int
    sentences: int
    """Labeled sentences to fine-tune on, each seen once: there are enough of them, and the labels cost nothing."""


WHOLE = Size(tokens=2_300_000, seeds=5, sentences=3_000)
QUICK = Size(tokens=500_000, seeds=2, sentences=1_500)


def quickstart(
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where everything goes.")] = Path("quickstart"),
    quick: Annotated[bool, typer.Option("--quick", help="In a quarter of the time, and with less to show.")] = False,
    tokens: Annotated[int | None, typer.Option(min=1, help="How many tokens of text to pretrain on.")] = None,
    as_json: AsJson = False,
) -> None:
    """Pretrain, fine-tune and try genus/mini in minutes.

    On the documentation of the installed Python packages, without a download. Fine-tuning is to tell sentences as they
    were written from those with words in another order; the same model from random weights is the comparison. The
    results stand on a page, index.html. What is done is not done again.
    """
    begun = time.perf_counter()
    size = QUICK if quick else WHOLE
    size = size if tokens is None else replace(size, tokens=tokens)
    made = _corpus(out / "text", size)
    say(_expected(size))
    run = out / RUN
    say(f"2/5 pretraining {RECIPE} on {size.tokens:,} tokens, from tokenizer to model, in {run}")
    held_out = _pretrain(made, run, size)
    say(f"3/5 fine-tuning it with {size.seeds} seeds")
    pretrained = _finetune(made, run, out / "from-pretrained", size, random=False)
    say("4/5 fine-tuning the same model from random weights")
    random = _finetune(made, run, out / "from-random", size, random=True)
    say("5/5 completing masked words")
    found = {
        "seconds": time.perf_counter() - begun,
        "text": asdict(made),
        "held_out": held_out,
        "accuracy": {"pretrained": asdict(_accuracy(pretrained)), "random": asdict(_accuracy(random))},
        "completions": _completions(run),
        "models": {"pretrained": run / "model", "fine-tuned": pretrained.model},
        "page": out / PAGE,
    }
    _write(found, made, pretrained, random, out)
    if as_json:
        document(found)
    else:
        _tell(found, made, pretrained, random, out)


def _expected(size: Size) -> str:
    """Return one line that says how long training will take, from the time of a few steps on this machine."""
    from genus.cli.quickstart_time import seconds_needed
    from genus.model.cpu import tune_cpu_process

    tune_cpu_process()
    minutes = seconds_needed(_recipe(size), size.tokens, 2 * size.seeds * size.sentences) / 60
    told = f"{minutes:.0f} minutes" if minutes >= 1.5 else f"{60 * minutes:.0f} seconds"
    return f"about {told} on this machine, as busy as it is now; stop at any time and go on later"


def _recipe(size: Size) -> "Recipe":
    from genus import catalog

    return catalog.load(RECIPE, [*CHANGES, f"budget.amount={size.tokens}"])


def _corpus(folder: Path, size: Size) -> "Made":
    """Write the corpus and the classification task, made from the documentation of installed packages."""
    from genus.run_folder import RunFolder
    from genus.text.installed import make, read

    say("1/5 reading the documentation of the installed Python packages")
    with RunFolder(folder).lock():  # it cannot be written: better known before the reading
        modules = read(workers=cores(), progress=Counter("parsing", "files"))
        made = make(modules, folder, train=size.sentences, unread=FIXED)
    say(f"{made.documents:,} documents, {made.characters / 1e6:.1f} MB, in {made.corpus}")
    return made


def _pretrain(made: "Made", folder: Path, size: Size) -> dict[str, float]:
    """Pretrain in the folder, or resume the run there; return the held-out metrics."""
    from genus import pipeline

    run = chosen_run([], held_out=0.01, checkpoint_every=1000, evaluate_every=500)
    counter = Counter("tokenizing", "B")
    summary = pipeline.pretrain(_recipe(size), [made.corpus], folder, run, resume=True, progress=counter)
    if summary.stopped:
        raise KeyboardInterrupt
    return summary.progress.evaluation


def _finetune(made: "Made", run: Path, folder: Path, size: Size, *, random: bool) -> "Report":
    """Fine-tune the run's model, or the same architecture with random weights, to tell the order of words."""
    from genus.cli.folders import read_model
    from genus.cli.task import choose
    from genus.tasks.dataset import Files
    from genus.tasks.finetune import finetune
    from genus.tasks.start import Start

    source = read_model(run)
    start = Start(source.recipe, source.tokenizer, None if random else source.learner)
    task = choose("classification", ["text"], "order")
    settings = replace(source.recipe.finetuning, epochs=1)
    files = Files(made.train, made.validation)
    return finetune(start, task, files, folder, settings=settings, seeds=range(size.seeds))


def _accuracy(report: "Report") -> "Interval":
    return report.summary()["validation"]["accuracy"]


def _completions(run: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the most probable completions of the mask in each sentence."""
    from genus.cli.folders import read_model
    from genus.evaluate.fill import fill_mask

    source = read_model(run)
    return {text: [asdict(one) for one in fill_mask(source.learner, source.tokenizer, text)[0]] for text in SENTENCES}


def _right(sentence: str, words: list[dict[str, Any]]) -> bool:
    """Return whether the most probable word is one that fits."""
    return words[0]["token"] in SENTENCES[sentence]


def _sentences(found: dict[str, Any], made: "Made", size: int) -> list[str]:
    """Return what was found, in sentences."""
    pretrained, random = (found["accuracy"][name] for name in ("pretrained", "random"))
    apart = None not in (pretrained["low"], random["high"]) and pretrained["low"] > random["high"]
    difference = pretrained["mean"] - random["mean"]
    right = sum(_right(*row) for row in found["completions"].items())
    return [
        f"{RECIPE} read {made.characters / 1e6:.1f} MB of text, the documentation of the Python packages on this "
        f"machine, and restores {found['held_out']['masked_lm/correct']:.1%} of the masked tokens of text that it has "
        f"not seen, where {MASKED:.0%} are masked.",
        f"Fine-tuned on {made.examples[0]:,} sentences and asked about {made.examples[1]:,} others, it is right in "
        f"{pretrained['mean']:.1%} of them; the same model from random weights in {random['mean']:.1%}. "
        + (
            f"The difference of {100 * difference:.1f} points is more than the intervals over {size} seeds: "
            "pretraining helps."
            if apart
            else f"With {size} seed{'s' if size > 1 else ''} that does not show that pretraining helps."
        ),
        f"Of {len(SENTENCES)} masked words, {right} {'is' if right == 1 else 'are'} completed with a word that fits.",
    ]


def _places(found: dict[str, Any], made: "Made", out: Path) -> list[tuple[str, str]]:
    """Return where the results lie, and what they are."""
    models = found["models"]
    return [
        (str(made.corpus.parent), "the text and the labeled task, as JSON lines"),
        (str(models["pretrained"]), f"the pretrained model{_read_by(models['pretrained'])}"),
        (str(out / RUN / "metrics.jsonl"), "how pretraining went"),
        (str(models["fine-tuned"]), f"the best fine-tuned model{_read_by(Path(models['fine-tuned']))}"),
        (str(found["page"]), "all of this as a page"),
    ]


def _commands(out: Path) -> list[str]:
    """Return commands to try next."""
    return [
        f'genus fill {out / RUN} "The number of [MASK] to use."',
        f"genus show {RECIPE} --diff bert/mini",
        "genus pretrain YOUR-TEXT --out runs/mine",
        "genus finetune runs/mine YOUR-TABLES --out runs/task",
    ]


def _write(found: dict[str, Any], made: "Made", pretrained: "Report", random: "Report", out: Path) -> None:
    """Write the page."""
    from genus.cli.quickstart_page import read_curve, write_page

    scores = [
        (name, _accuracy(one).mean, str(_accuracy(one)))
        for name, one in (("pretrained", pretrained), ("random", random))
    ]
    completions = [
        (text, [(word["token"], word["probability"]) for word in words[:4]], _right(text, words))
        for text, words in found["completions"].items()
    ]
    write_page(
        out / PAGE,
        title="What this machine learned in a few minutes",
        lead=_sentences(found, made, len(pretrained.trials)),
        curve=read_curve(out / RUN / "metrics.jsonl", "masked_lm"),
        scores=scores,
        question=QUESTION,
        completions=completions,
        rule=RULE,
        places=_places(found, made, out),
        commands=_commands(out),
    )


def _tell(found: dict[str, Any], made: "Made", pretrained: "Report", random: "Report", out: Path) -> None:
    """Print the results, where the files are, and which commands to try next."""
    print("\n" + "\n".join(textwrap.fill(part, 110) for part in _sentences(found, made, len(pretrained.trials))))
    rows = [["pretrained", str(_accuracy(pretrained))], ["random", str(_accuracy(random))]]
    heading = f"best validation accuracy, mean of {len(pretrained.trials)} seeds [95 % interval]"
    print("\n" + columns(["initial weights", heading], rows) + "\n")
    told = [
        [sentence, ", ".join(f"{one['token']} ({one['probability']:.2f})" for one in words[:4])]
        for sentence, words in found["completions"].items()
    ]
    print(columns(["sentence", "most probable words"], told))
    print("\n" + columns(["where", "what"], [list(row) for row in _places(found, made, out)]))
    print(f"\n{found['seconds']:.0f} s in all. Next:")
    print("\n".join(f"  {command}" for command in _commands(out)))


def _read_by(folder: Path) -> str:
    """Return who reads a model folder, to be appended to what it holds."""
    from genus.export.native import is_native
    from genus.files import read_json

    native = is_native(read_json(folder / "config.json"))
    return ", which genus reads (transformers has no class of it)" if native else ", in the Hugging Face layout"
