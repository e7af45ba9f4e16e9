"""Commands for trained models: `evaluate`, `fill` and `average`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genus.cli.embed import Passages, evaluate_retrieval
from genus.cli.features import WORD_SIMILARITY, word_similarity
from genus.cli.folders import read_model
from genus.cli.likelihoods import WIKITEXT, Stride, measure_words
from genus.cli.noise import Asked, EvaluationNoise, Rates, curve, noised_rows
from genus.cli.options import (
    AsJson,
    BaseFolder,
    Choices,
    Codes,
    Field,
    Folder,
    MetricName,
    Out,
    Prefix,
    Running,
    Settings,
    SourceField,
    Sources,
    TaskSettings,
    Title,
    chosen_run,
    ranking_run,
)
from genus.cli.output import Counter, check_outputs, columns, document
from genus.cli.prompts import (
    CutPrompts,
    Examples,
    Limit,
    Prompts,
    Results,
    Seed,
    ShotNumber,
    TaskFolder,
    evaluate_prompts,
)
from genus.errors import GenusError, UsageError, say

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel
    from genus.tasks.report import Metrics
    from genus.text import Fields
    from genus.train.run import Run


Texts = Annotated[
    list[str], typer.Option("--text", metavar="COLUMN", help="Of a table: the column of the text; twice, of a pair.")
]
Label = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Of a table: the column of the label; a,b,c: of labels.")
]
TaskName = Annotated[
    str | None,
    typer.Option(
        help="A task of GLUE, for its columns and metrics; `completion`, `text-to-text`: a language model, an "
        "encoder-decoder on a table; `sentence-embedding`: any model's vectors; `reranking`; `word-similarity`: pairs "
        "of words with a number; `wikitext`: perplexity per word of wiki.test.tokens, from subwords; "
        "`image-retrieval`, `zero-shot`, `linear-probe`: images with captions, or with labels."
    ),
]
IMAGE_TASKS = ("image-retrieval", "zero-shot", "linear-probe")
"""Tasks of a model of images and texts."""
EMBEDDING = "sentence-embedding"
"""The task for which a model needs no fine-tuning: the means of its hidden states are vectors too."""
Answers = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the answer to each row as JSON lines.")]


def evaluate(
    model: Folder,
    data: Sources,
    text: Texts = [],
    label: Label = None,
    task: TaskName = None,
    choices: Choices = [],
    prefix: Prefix = None,
    metric: MetricName = [],
    task_settings: TaskSettings = [],
    passages: Passages = None,
    answers: Answers = None,
    noise: EvaluationNoise = None,
    noise_rates: Rates = None,
    field: Field = "text",
    title: Title = None,
    codes: Codes = [],
    source: SourceField = None,
    prompts: Prompts = None,
    tasks: TaskFolder = None,
    shots: ShotNumber = 0,
    examples: Examples = [],
    seed: Seed = 0,
    limit: Limit = None,
    cut_prompts: CutPrompts = False,
    results: Results = None,
    stride: Stride = None,
    base: BaseFolder = None,
    settings: Settings = [],
    running: Running = [],
    as_json: AsJson = False,
) -> None:
    """Measure a model on text or on a table.

    A pretrained one on text (losses, perplexity, bits per byte), with `--prompts` on tasks that it is asked in words,
    or with `--task completion` on the completions of a table; a fine-tuned one on a table.
    """
    check_outputs({"--answers": answers, "--results": results}, [*data, *examples])
    run = _run(running, exact=prompts is not None or task == WIKITEXT)
    of_text: dict[str, object] = {"--title": title, "--codes": codes, "--source": source, "--set": settings,
                                  "--noise": noise}  # fmt: skip
    of_tables = {"--text": text, "--label": label, "--choices": choices, "--prefix": prefix, "--metric": metric,
                 "--task-set": task_settings, "--passages": passages}  # fmt: skip
    of_prompts = {"--tasks": tasks, "--shots": shots, "--examples": examples, "--limit": limit,
                  "--results": results if noise_rates is None else None}  # fmt: skip
    if prompts is not None:
        _refuse("evaluation without --prompts", {**of_tables, "--task": task, **of_text, "--stride": stride})
        evaluate_prompts(
            model, data, prompts, tasks, run, shots=shots, examples=examples, seed=seed, limit=limit, cut=cut_prompts,
            results=results, answers=answers, as_json=as_json,
        )  # fmt: skip
        return
    _refuse("a task that is asked in words; name it with --prompts", {**of_prompts, "--cut-prompts": cut_prompts})
    if task in (WIKITEXT, WORD_SIMILARITY):
        _on_words(model, base, data, task, run, stride, {**of_tables, "--answers": answers, **of_text}, as_json)
        return
    _refuse(f"--task {WIKITEXT}", {"--stride": stride})
    fields = _fields(field, title, codes, source)
    noised = Asked(noise, noise_rates, results)
    _print(_measured(model, base, data, task, of_tables, answers, fields, run, settings, noised), as_json)


def _run(running: list[str], *, exact: bool) -> "Run":
    """Return how a model is measured: in float32 where what is ranked differs by little."""
    return chosen_run(running, evaluate_batches=1_000_000, precision="float32" if exact else "auto")


def _on_words(
    model: Path,
    base: Path | None,
    data: list[str],
    task: str,
    run: "Run",
    stride: int | None,
    others: Mapping[str, Any],
    as_json: bool,
) -> None:
    """Measure the perplexity per word of a text, or the similarity of pairs of words."""
    settings = others["--task-set"]
    _refuse(f"other evaluation than --task {task}", {**others, "--task-set": task == WIKITEXT and settings})
    if task == WIKITEXT:
        measure_words(model, data, stride, run, as_json)
        return
    _refuse(f"--task {WIKITEXT}", {"--stride": stride})
    _print(word_similarity(model, base, data, settings, run), as_json)


def _on_images(
    model: Path,
    base: Path | None,
    data: list[str],
    task: str,
    of_tables: Mapping[str, Any],
    answers: Path | None,
    fields: "Fields",
    run: "Run",
) -> "Metrics":
    """Measure retrieval between images and captions, zero-shot classification, or a linear probe of images."""
    from genus import catalog
    from genus.images.store import TEXT
    from genus.tasks.image_evaluation import evaluate
    from genus.text import TEXT as OF_TEXTS

    label, settings = of_tables["--label"], of_tables["--task-set"]
    others = {name: value for name, value in of_tables.items() if name not in ("--label", "--task-set")}
    _refuse("other evaluation than that of images", {**others, "--answers": answers})
    column = TEXT if fields.text == OF_TEXTS.text else fields.text

    def chosen(choice: Any) -> Any:
        return catalog.overridden(choice, settings, "--task-set")

    counter = Counter("reading", "images")
    return evaluate(read_model(model, base), data, task, chosen, column, label, ranking_run(run), counter)


def _fields(field: str, title: str | None, codes: list[str], source: str | None) -> "Fields":
    """Return the fields of text."""
    from genus.text import Fields

    return Fields(field, title, tuple(codes), source)


def _print(found: "Metrics", as_json: bool) -> None:
    """Print metrics as a table, or as JSON."""
    if as_json:
        document(found)
    else:
        told = {name: "undefined" if value is None else f"{value:.4f}" for name, value in sorted(found.items())}
        print(columns(["metric", ""], [[name, value] for name, value in told.items()]))


def fill(
    model: Folder,
    text: Annotated[
        str, typer.Argument(help="Text with [MASK], <mask> or ___ where words are missing.", show_default=False)
    ],
    top: Annotated[int, typer.Option(help="Completions of each mask.")] = 5,
    among: Annotated[
        list[str],
        typer.Option("--among", metavar="WORD", help="Score this word for the mask, of any number of tokens; repeat."),
    ] = [],
    running: Running = [],
    as_json: AsJson = False,
) -> None:
    """Complete masked words, or score given ones for a masked place."""
    from dataclasses import asdict

    from genus.evaluate.candidates import score_candidates
    from genus.evaluate.fill import fill_mask
    from genus.inference.engine import Inference
    from genus.train.world import device_of_run

    run = chosen_run(running)
    source = read_model(model)
    source.learner.to(device_of_run(run))
    if among:
        longest = source.recipe.model.max_length
        scored = score_candidates(source.learner, source.tokenizer, text, among, longest, run.precision)
        if as_json:
            document([asdict(one) for one in scored])
        else:
            rows = [[f"{one.probability:.3f}", one.word, f"{one.nats:.3f}", str(one.tokens)] for one in scored]
            print(columns(["", "word", "nats", "tokens"], rows))
        return
    longest, engine = source.recipe.model.max_length, Inference(run.precision)
    found = fill_mask(source.learner, source.tokenizer, text, top, longest, engine)
    if as_json:
        document([[asdict(completion) for completion in mask] for mask in found])
        return
    for mask in found:
        print(columns(["", "token", "text"], [[f"{one.probability:.3f}", one.token, one.text] for one in mask]))


def average(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)],
    out: Out,
    last: Annotated[int, typer.Option(help="Checkpoints; a run has as many as its --run keep.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Write the mean of a run's last checkpoints as a model.

    Only a model that genus wrote is written over.
    """
    from genus.export.average import average_checkpoints
    from genus.export.files import replaced_by_model
    from genus.run_folder import RunFolder

    old = replaced_by_model(out)
    with RunFolder(out).lock():
        steps = average_checkpoints(run, last, out, replaced=old)
    if as_json:
        document({"folder": out, "steps": steps})
    else:
        named = ", ".join(f"{step:,}" for step in steps)
        print(f"{out}: the mean of {len(steps)} checkpoint{'s' if len(steps) > 1 else ''}, of the steps {named}")


def _refuse(whose: str, options: Mapping[str, object]) -> None:
    """Raise a UsageError if an option is given that only applies to another kind of model."""
    for option, value in options.items():
        if value:
            raise UsageError(f"{option}: is for {whose}")


def _measured(
    model: Path,
    base: Path | None,
    data: list[str],
    task: str | None,
    of_tables: Mapping[str, Any],
    answers: Path | None,
    fields: "Fields",
    run: "Run",
    settings: list[str],
    noise: Asked,
) -> "Metrics":
    """Return the metrics of a model: of a fine-tuned one on a table, of a pretrained one on text or on a table."""
    from genus.cli.task import choose, chosen_task
    from genus.objectives.supervised import FineTuned

    if task in IMAGE_TASKS or of_tables["--passages"] is not None:
        _refuse("the texts of one table", noise.given)
    if task in IMAGE_TASKS:
        return _on_images(model, base, data, task, of_tables, answers, fields, run)
    source, (*named, passages) = read_model(model, base), of_tables.values()
    tasks = [one for one in source.recipe.objectives if isinstance(one, FineTuned)]
    if passages is not None or task == EMBEDDING or any(one.embeds for one in tasks):
        from genus.tasks.embed import as_embedder

        source, run = as_embedder(source), ranking_run(run)
    if passages is not None:
        return evaluate_retrieval(source, data, passages, *named, run=run)
    objectives = source.recipe.objectives
    able = task is not None and choose(task).pretrained(objectives, source.recipe.model) is not None
    if able or any(isinstance(objective, FineTuned) for objective in objectives):
        _refuse("text; a model is measured as it is on a table", {"--set": settings})
        return _on_table(source, data, chosen_task(source, task, *named), answers, run, noise)
    of_tables = {**of_tables, "--task": task, "--answers": answers, **noise.given}
    _refuse("a fine-tuned model; this one is pretrained, and measured on text", of_tables)
    return {**_on_text(source, data, fields, run, settings, model)}


def _on_text(
    source: "LoadedModel", data: list[str], fields: "Fields", run: "Run", settings: list[str], folder: Path
) -> dict[str, float]:
    """Return the metrics of a pretrained model on text, in sequences as its recipe's first stage makes them."""
    from tempfile import TemporaryDirectory

    from genus import catalog, pipeline
    from genus.export.starting.codes import remembered, with_codes
    from genus.preparation import token_store
    from genus.text import Corpus
    from genus.train.world import device_of_run

    if not source.learner.heads:
        raise GenusError("the model has no head to measure; take a pretrained one, or fine-tune it")
    row = catalog.overridden(source.recipe, settings)
    source.learner.to(device_of_run(run))
    with TemporaryDirectory(prefix="genus-") as work:
        corpus = row.examples.texts_of(Corpus(data, fields), Path(work))
        row = with_codes(row, Path(work), remembered(folder) if row.examples.reads_codes else None)
        store = token_store(corpus, source.tokenizer, Path(work) / "store", Counter("tokenizing", "B"))
        notices = pipeline.left_out(row, store, source.tokenizer, row.stages[0])
        for line in filter(None, (row.examples.unfamiliar(store, source.tokenizer), *notices)):
            say(line)
        feed = pipeline.validation_feed(row, store, source.tokenizer, source.learner)
        return pipeline.evaluate(source.learner, recipe=row, feed=feed, run=run)


def _on_table(
    source: "LoadedModel", data: list[str], task: Any, answers: Path | None, run: "Run", noise: Asked
) -> "Metrics":
    """Return the metrics of a fine-tuned model on a table's labeled rows, and write its predictions for all rows."""
    from genus.files import write_text
    from genus.tasks.answer import lines
    from genus.tasks.dataset import read, without_placeholders
    from genus.tasks.predict import objective_of, score

    if len(data) != 1:
        raise UsageError(f"a fine-tuned model is measured on one table, not on {len(data)}; name one")
    path, objective = Path(data[0]), objective_of(source, task)
    task = task.told_by(path, objective.classes)
    rows = read(path, task, labeled=answers is None)
    if answers is not None:
        rows = without_placeholders(rows, objective, path)
    if noise.rates is not None:
        _refuse("one rate of noise", {"--answers": answers})
        return curve(source, task, rows, path, noise, run)
    rows = noised_rows(rows, task, noise)
    found, metrics = score(source, task, rows, run, path)
    if answers is not None:
        write_text(answers, lines(rows, found))
    return metrics
