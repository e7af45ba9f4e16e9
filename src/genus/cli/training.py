"""Commands for training: `pretrain` and `finetune`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genus.cli.noise import EvaluationNoise, TrainNoise, of_splits
from genus.cli.options import (
    AsJson,
    Choices,
    Codes,
    Field,
    Folder,
    Language,
    MetricName,
    Out,
    Prefix,
    Running,
    Settings,
    SourceField,
    TaskSettings,
    Title,
    chosen_run,
)
from genus.cli.output import Counter, columns, document
from genus.errors import UsageError

if TYPE_CHECKING:
    from genus.examples.feed.mixing import Mixing
    from genus.preparation import Text as Mixed
    from genus.tasks import Task
    from genus.tasks.dataset import Files
    from genus.tasks.report import Report
    from genus.tasks.teacher import Teacher

DEFAULT = "genus"
"""The recipe of a text without one."""
RecipeAndTexts = Annotated[
    list[str],
    typer.Argument(
        metavar="[RECIPE] TEXT...",
        help=f"A recipe (a member as bert or roberta/large, a recipe .json, a .toml overlay, the folder of a run; "
        f"else {DEFAULT}), and text: files (.txt, .jsonl, .parquet; .gz, .xz, .zst), folders of them, Hugging Face "
        "dataset ids, or a prepared store. Several with names and weights are mixed: wiki=TEXT:0.7 books=TEXT:0.3.",
        show_default=False,
    ),
]
Mix = Annotated[
    list[str],
    typer.Option(
        "--mix",
        metavar="PATH=VALUE",
        help="How texts with names are mixed: epochs=4 (each is read so often at most), or without weights "
        "temperature=3 and limit=100000 tokens; repeatable.",
    ),
]


def pretrain(
    what: RecipeAndTexts,
    out: Out,
    settings: Settings = [],
    running: Running = [],
    mix: Mix = [],
    language: Language = None,
    words: Annotated[
        Path | None,
        typer.Option("--tokenizer", metavar="FOLDER", help="A tokenizer, instead of training one on the text."),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--start",
            "--start-from",  # see `--runtime`
            metavar="MODEL",
            help="Start from this model's architecture, weights and, without --tokenizer, vocabulary.",
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Who teaches a recipe (distilbert), or whose codes it learns (dall-e)."),
    ] = None,
    field: Field = "text",
    title: Title = None,
    codes: Codes = [],
    source: SourceField = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Pretrain a recipe on text.

    Tokenizer, store, checkpoints and the model go to one folder.
    """
    from dataclasses import asdict

    from genus import catalog, pipeline
    from genus.cli.folders import model_folder
    from genus.text import Fields

    run = chosen_run(running)
    recipe, texts = catalog.split(what, DEFAULT)
    row = catalog.overridden(catalog.spoken(catalog.load(recipe), language), settings)
    corpus, mixing = _mixed(texts, mix)
    first, guide = (None if folder is None else model_folder(folder) for folder in (start, teacher))
    fields, counter = Fields(field, title, tuple(codes), source), Counter("tokenizing", "B")
    given: dict[str, Any] = {"fields": fields, "mixing": mixing, "words": words, "start": first, "teacher": guide}
    summary = pipeline.pretrain(row, corpus, out, run, **given, resume=resume, progress=counter)
    reached = summary.progress
    if as_json:
        document({"folder": out, "model": out / "model", "stopped": summary.stopped, "progress": asdict(reached)})
    else:
        losses = sorted(reached.evaluation.items())
        print(columns(["held out", ""], [[name, f"{value:.4f}"] for name, value in losses]))
        print(
            f"{reached.step:,} steps, {reached.tokens:,} tokens, {reached.seconds:,.0f} s; the model is {out / 'model'}"
        )
    if summary.stopped:
        raise KeyboardInterrupt


def _mixed(texts: list[str], settings: list[str]) -> "tuple[Mixed, Mixing | None]":
    """Return the texts, by their names if they have such, and how these are mixed.

    Raises:
        UsageError: names, weights or settings do not fit each other.
    """
    from genus import catalog
    from genus.examples.feed.mixing import MixedSource, Mixing
    from genus.text.named import FORM, named_texts

    found = named_texts(texts)
    if not found:
        if settings:
            raise UsageError(f"--mix: says how texts with names are mixed; give them names, {FORM}")
        return texts, None
    try:
        mixing = Mixing(sources=tuple(MixedSource(name=one.name, share=one.share) for one in found))
    except ValueError as error:
        raise UsageError(f"{', '.join(texts)}: {error}") from None
    return {one.name: one.texts for one in found}, catalog.overridden(mixing, settings, "--mix")


Data = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="A folder with train and validation tables, or one table.", show_default=False),
]
TaskName = Annotated[
    str,
    typer.Option(
        "--task",
        help="classification, contrastive-classification, multi-label, regression, tagging, recurrent-tagging, "
        "character-spans, choice, question-answering, preference, direct-preference, completion, text-to-text, "
        "entities-to-text, sentence-embedding, reranking; a dataset: one of GLUE such as sst2 (as text to text, "
        "sst2-as-text), squad, squad2, conll2003, race, dream, arc, xcopa; or all of GLUE: glue.",
    ),
]
Table = Annotated[Path | None, typer.Option(metavar="FILE", show_default=False)]
Text = Annotated[
    list[str],
    typer.Option("--text", metavar="COLUMN", help="The column of the text, or of the words; given twice, of a pair."),
]
Label = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="The column of the label, of several labels, of the tags, of the right choice, of answers, of completions "
        "or of targets; a,b,c: columns of 0 and 1, one for each of several labels.",
    ),
]
Sweep = Annotated[
    list[str],
    typer.Option(
        "--sweep",
        metavar="PATH=A,B,C",
        help="Try these values of a setting first, in all combinations with one seed, and take the best in validation; "
        "or a paper's grid: bert, bert-miniatures, roberta.",
    ),
]
FromMnli = Annotated[
    bool, typer.Option("--from-mnli", help="With --task glue: RTE, MRPC and STS-B start from the model of MNLI.")
]
Symmetric = Annotated[
    bool, typer.Option("--symmetric", help="Read pairs in both orders and add their states, as GPT for similarity.")
]

Adapt = Annotated[
    str | None,
    typer.Option(
        "--adapt",
        metavar="KIND",
        help="Train few parameters: lora, adapters, prefix-tuning, prompt-tuning, biases, last-layers or ia3.",
    ),
]
AdaptSettings = Annotated[
    list[str],
    typer.Option("--adapt-set", metavar="PATH=VALUE", help="Change one choice of it, such as rank=8; repeatable."),
]

Augment = Annotated[
    str | None,
    typer.Option(
        "--augment",
        metavar="KIND",
        help="With few labels: random-edits, masked-replacement, back-translation, mixup, self-training, consistency; "
        "adversarial-training.",
    ),
]
AugmentSettings = Annotated[
    list[str],
    typer.Option("--augment-set", metavar="PATH=VALUE", help="Change one choice of it, such as copies=4; repeatable."),
]
Accumulate = Annotated[
    int, typer.Option(help="Forward passes that the examples of an update are divided into, which need less memory.")
]


TaskTeacher = Annotated[
    Path | None,
    typer.Option(
        "--teacher", metavar="MODEL", help="A model that was fine-tuned for the task, whose answers are learned too."
    ),
]
TeacherSettings = Annotated[
    list[str],
    typer.Option(
        "--teacher-set",
        metavar="NAME=VALUE",
        help="Of --teacher: temperature (2), the weights soft (0.5), hard (0.5) and hidden (0); repeatable.",
    ),
]


def finetune(
    model: Folder,
    data: Data,
    out: Out,
    task: TaskName = "classification",
    validation: Table = None,
    test: Table = None,
    text: Text = [],
    label: Label = None,
    choices: Choices = [],
    symmetric: Symmetric = False,
    prefix: Prefix = None,
    metric: MetricName = [],
    task_settings: TaskSettings = [],
    teacher: TaskTeacher = None,
    teacher_settings: TeacherSettings = [],
    sweep: Sweep = [],
    from_mnli: FromMnli = False,
    seeds: Annotated[int, typer.Option(help="How often, each time with another head and order.")] = 3,
    accumulate: Accumulate = 1,
    random: Annotated[bool, typer.Option("--random", help="Start from random weights, as a comparison.")] = False,
    adapt: Adapt = None,
    adapt_settings: AdaptSettings = [],
    augment: Augment = None,
    augment_settings: AugmentSettings = [],
    train_noise: TrainNoise = None,
    noise: EvaluationNoise = None,
    settings: Settings = [],
    running: Running = [],
    as_json: AsJson = False,
) -> None:
    """Fine-tune a model with several seeds; report the mean of each metric with its 95 % interval."""
    from genus.cli.folders import model_folder, read_model
    from genus.cli.suite import refuse, run_all, settled
    from genus.cli.task import augmentation_of, choose, with_adaptation
    from genus.tasks import sweep as sweeps
    from genus.tasks.finetune import finetune
    from genus.tasks.start import Start
    from genus.tasks.suite import SUITES

    run, values, few = chosen_run(running), sweeps.grid(sweep), augmentation_of(augment, augment_settings)
    source = read_model(model)
    row = with_adaptation(settled(source.recipe, task, settings), adapt, adapt_settings)
    start = Start(row, source.tokenizer, None if random else source.learner, model_folder(model))
    if task in SUITES:
        of_one = accumulate > 1 or few or teacher or train_noise or noise
        refuse(task, validation, test, text, label, choices, symmetric, prefix, metric, task_settings, of_one)
        run_all(start, SUITES[task], data, out, range(seeds), run, values, from_mnli, as_json)
        return
    if from_mnli:
        raise UsageError("--from-mnli: only with --task glue")
    asked = choose(
        task, text, label, metric, choices=choices, symmetric=symmetric, prefix=prefix, settings=task_settings
    )
    files, guide = _files(data, asked, validation, test), _teacher(teacher, teacher_settings)
    how: dict[str, Any] = {"run": run, "accumulate": accumulate, "augmentation": few, "teacher": guide,
                           "noises": of_splits(train_noise, noise)}  # fmt: skip
    best = sweeps.sweep(start, asked, files, out / "sweep", values, **how).finetuning if values else None
    report = finetune(start, asked, files, out, settings=best, seeds=range(seeds), **how)
    _tell(report, task, as_json)


def _tell(report: "Report", task: str, as_json: bool) -> None:
    """Print a report as a table, with what papers report on a task of that name below, or as one JSON document."""
    from genus.cli.suite import published

    if as_json:
        document(report.to_json())
        return
    _print(report)
    published(task)


def _teacher(folder: Path | None, settings: list[str]) -> "Teacher | None":
    """Return the teacher in a folder; None where there is none."""
    from genus import catalog
    from genus.cli.folders import read_model
    from genus.errors import UsageError
    from genus.objectives.supervised.taught import Teaching
    from genus.tasks.teacher import Teacher

    if folder is None:
        if settings:
            raise UsageError("--teacher-set: says how a teacher's answers are learned; name one with --teacher MODEL")
        return None
    return Teacher(folder, read_model(folder), catalog.overridden(Teaching(), settings, "--teacher-set"))


def _files(data: Path, task: "Task", validation: Path | None, test: Path | None) -> "Files":
    """Return the tables of a folder, or one table, and those that are named apart."""
    from genus.tasks.dataset import Files

    found = Files.find(data, (*task.columns, *task.label_columns)) if data.is_dir() else Files(data)
    return Files(found.train, validation or found.validation, test or found.test)


def _print(report: "Report") -> None:
    """Print the mean of each metric with its interval, and where the model is."""
    last = report.settings.keep == "last" or math.isinf(report.best.rank(report.task.metrics[0]))
    choice = "last" if last else "best"
    chosen = f"validation, {choice} of {max(len(trial.history) for trial in report.trials)} evaluations"
    found = report.summary()
    rows = [
        [chosen if split == "validation" else split, name, str(found[split].get(name, "undefined"))]
        for split, metrics in sorted(report.trials[0].metrics.items())  # `test`, on which nothing was chosen, is first
        for name in metrics
    ]
    tried = len(report.trials)  # including those that the folder already had
    print(columns(["split", "metric", f"mean of {tried} seed{'s' if tried > 1 else ''} [95 % interval]"], rows))
    for name, defined in report.best.signatures.items():
        print(f"{name}: {defined}")
    if report.best.told_over:
        print(f"{report.best.told_over}; scores in validation are the best of those tried")
    print(f"the best seed's model is {report.model}")
