"""Command-line arguments and options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from genus.train.run import Run

RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A member (bert, roberta/large), a recipe .json, a .toml overlay, or the folder of a run.",
        show_default=False,
    ),
]
Settings = Annotated[
    list[str],
    typer.Option("--set", metavar="PATH=VALUE", help="Change one choice, such as model.layers=6; repeatable."),
]
Running = Annotated[
    list[str],
    typer.Option(
        "--run",
        "--runtime",  # `torchrun` takes a `--run` of its script for an abbreviation of its own options
        metavar="NAME=VALUE",
        help="How to run: device, precision, parallel (Replicated, Sharded, TensorParallel), recompute, compile, "
        "threads, workers, checkpoint_every, keep, evaluate_every, held_out, log_every, noise_scale, tracker; "
        "repeatable.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else.")]
Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="TEXT...",
        help="Files (.txt, .jsonl, .parquet; .gz, .xz, .zst), folders of them, or Hugging Face dataset ids.",
        show_default=False,
    ),
]
Language = Annotated[
    str | None,
    typer.Option(
        "--language",
        metavar="NAME",
        help="What is usual for a language: ar, de, en, ja, th, zh, or the folder of a pack.",
    ),
]
Field = Annotated[str, typer.Option(metavar="NAME", help="The field or column of the text in .jsonl and .parquet.")]
Title = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A field or column that stands in front, as a sentence of its own: a title."),
]
Codes = Annotated[
    list[str],
    typer.Option(
        "--codes",
        metavar="NAME",
        help="A field or column with a control code of each text, or @file or @folder for the name of its file or "
        "folder; repeatable, in the order in which they stand in front.",
    ),
]
SourceField = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="NAME",
        help="A field or column with the source of which each text is the target, as a translation.",
    ),
]
Choices = Annotated[
    list[str],
    typer.Option(
        "--choices", metavar="COLUMN", help="Of `--task choice`: the column of the list; repeated, a column per choice."
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        "--prefix",
        metavar="TEXT",
        help="Of text to text: what stands before every source; of embedding: before the first text, and before all "
        "others where `--task-set document_prefix=` says nothing else.",
    ),
]
TaskSettings = Annotated[
    list[str],
    typer.Option(
        "--task-set",
        metavar="PATH=VALUE",
        help="Change one choice of the task, such as target_length=64, decoding=BeamSearch or answer_length=50; "
        "repeatable.",
    ),
]
MetricName = Annotated[
    list[str],
    typer.Option(
        "--metric",
        metavar="NAME",
        help="accuracy, f1, macro_f1, matthews, pearson, spearman; of several labels label_micro_f1, label_macro_f1, "
        "sample_f1, subset_accuracy, hamming_loss, label_ranking_average_precision, macro_auroc; of tags entity_f1, "
        "entity_precision, entity_recall, word_accuracy; of completions and targets token_loss, perplexity, "
        "bits_per_byte, token_accuracy; of written texts exact_match, bleu, chrf, rouge1, rouge2, rouge_l, rouge_lsum, "
        "answer_exact_match, answer_f1, span_f1; of rankings ndcg@10, mrr@10, recall@10, map@100; the first decides.",
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where to write.", show_default=False)]
Folder = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="The folder of a run, or a model folder: ours, or in the Hugging Face layout; or a .gguf file of a Llama.",
        show_default=False,
    ),
]


BaseFolder = Annotated[
    Path | None,
    typer.Option(
        "--base", metavar="MODEL", help="Of an adapter: the model that it was trained on, if not where it was."
    ),
]


def chosen_run(running: list[str], **defaults: Any) -> "Run":
    """Return the run settings, `--run` over the command's defaults, and tune this process for CPU computation."""
    from genus import catalog
    from genus.model.cpu import tune_cpu_process
    from genus.train.run import Run

    tune_cpu_process()
    return catalog.overridden(Run(**defaults), running, "--run")


def ranking_run(run: "Run") -> "Run":
    """Return the settings of a command that ranks or keeps vectors: `auto` is float32, as what is ranked is close."""
    from dataclasses import replace

    return replace(run, precision="float32") if run.precision == "auto" else run


def generating_run(running: list[str]) -> "Run":
    """Return `chosen_run` of a command that generates: on CPUs its `auto` is float32, in which decoding is faster."""
    from dataclasses import replace

    from genus.train.world import device_of_run

    run = chosen_run(running)
    on_cpu = run.precision == "auto" and device_of_run(run).type == "cpu"
    return replace(run, precision="float32") if on_cpu else run
