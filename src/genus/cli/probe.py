"""The command `probe`: what a pretrained model knows, asked without fine-tuning it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genus.cli.features import chosen_pooling
from genus.cli.folders import model_name, read_model
from genus.cli.options import AsJson, BaseFolder, Folder, Running, chosen_run
from genus.cli.output import Counter, columns, document
from genus.errors import GenusError, UsageError, say

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel
    from genus.probes.linear import Labeled
    from genus.train.run import Run

JSON, TEXT, PAGE, ATTENTION = "probes.json", "probes.md", "probes.html", "attention.html"
"""What the command writes."""
OWN = "own"
"""Names the sentences that come with the package."""

ClozeFile = Annotated[
    str | None,
    typer.Option(
        "--cloze", metavar="TABLE", help="Sentences with a gap (text, words, kind), or own: those of the package."
    ),
]
PairFile = Annotated[
    str | None,
    typer.Option(
        "--pairs",
        metavar="TABLE",
        help="Templates with two words each (template, one, other, kind, neutral), or own: those of the package.",
    ),
]
TableFolder = Annotated[
    Path | None,
    typer.Option(
        "--layers-on",
        metavar="DATA",
        help="A folder with a training and a validation or test table: a linear probe of each layer.",
    ),
]
TextColumn = Annotated[str, typer.Option("--text", metavar="COLUMN", help="Of these tables: the column of the text.")]
LabelColumn = Annotated[str, typer.Option("--label", metavar="COLUMN", help="The column of the label.")]
Rows = Annotated[int, typer.Option("--rows", help="Rows that probes are fitted on at most, the first ones.")]
PoolingName = Annotated[str, typer.Option("--pooling", metavar="NAME", help="Of a text's tokens: mean, first or last.")]
Attended = Annotated[
    str | None,
    typer.Option("--attention", metavar="TEXT", help="Draw the attention weights of a text: attention.html in --out."),
]
OutFolder = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Write probes.json, probes.md and probes.html there.")
]


def probe(
    model: Folder,
    cloze: ClozeFile = None,
    pairs: PairFile = None,
    layers_on: TableFolder = None,
    text: TextColumn = "text",
    label: LabelColumn = "label",
    rows: Rows = 2_000,
    pooling: PoolingName = "mean",
    attention: Attended = None,
    out: OutFolder = None,
    base: BaseFolder = None,
    running: Running = [],
    as_json: AsJson = False,
) -> None:
    """Ask a pretrained model for missing words, for the likelier of two sentences, and its layers for labels.

    Without --cloze, --pairs and --layers-on, the sentences and pairs of the package are asked.
    """
    from genus.train.world import device_of_run

    if rows < 2:
        raise UsageError(f"--rows: expected at least 2, got {rows}")
    if attention is not None and out is None:
        raise UsageError("--attention: is drawn on a page; say where with --out FOLDER")
    if not any((cloze, pairs, layers_on, attention)):
        cloze = pairs = OWN
    pooled, run = chosen_pooling(pooling), chosen_run(running, precision="float32")
    source = read_model(model, base)
    source.learner.to(device_of_run(run))
    report: dict[str, Any] = {
        "model": model_name(model),
        "cloze": cloze and _cloze(source, cloze, run),
        "pairs": pairs and _pairs(source, pairs, run),
        "layers": layers_on and _layers(source, layers_on, (text, label), rows, pooled, run),
    }
    if attention is not None and out is not None:
        _attention(source, attention, report["model"], out)
    _tell(report, out, as_json)


def _tell(report: dict[str, Any], out: Path | None, as_json: bool) -> None:
    """Write the report, if there is something in it and it is to be written, and print it."""
    from genus.cli import probes_page as pages
    from genus.files import write_json, write_text

    if out is not None and any(report[name] for name in ("cloze", "pairs", "layers")):
        write_json(out / JSON, report)
        write_text(out / TEXT, pages.written(report))
        write_text(out / PAGE, pages.page(report))
    if as_json:
        document(report)
        return
    for _, found in pages.tables(report):
        print(columns(found.header, found.rows))
    if out is not None:
        print(f"written to {out}")


def _attention(source: "LoadedModel", text: str, name: str, out: Path) -> None:
    """Write the page of the attention weights of a text."""
    from genus.cli.attention_page import page
    from genus.files import write_text
    from genus.probes.attention import attention_weights

    write_text(out / ATTENTION, page(name, text, attention_weights(source, text)))


def _table(named: str, own: Path) -> Path:
    """Return the path of a table, or of that of the package."""
    return own if named == OWN else Path(named)


def _cloze(source: "LoadedModel", named: str, run: "Run") -> dict[str, Any]:
    """Return what the report says of sentences with a gap."""
    from genus.probes import cloze as probes

    asked = probes.read_cloze(_table(named, probes.OWN))
    found = probes.answer(source, asked, run.precision)
    kinds = {kind: {name: asdict(one) for name, one in some.items()} for kind, some in probes.by_kind(found).items()}
    each = [
        {"line": one.cloze.line, "kind": one.cloze.kind, "text": one.cloze.text, "rank": one.rank, "told": one.told,
         "words": [asdict(word) for word in one.expected]}
        for one in found
    ]  # fmt: skip
    return {"table": named, "kinds": kinds, "each": each}


def _pairs(source: "LoadedModel", named: str, run: "Run") -> dict[str, Any]:
    """Return what the report says of pairs."""
    from genus.probes import pairs as probes

    found = probes.compare(source, probes.read_pairs(_table(named, probes.OWN)), run.precision)
    kinds = {kind: {name: asdict(one) for name, one in some.items()} for kind, some in probes.by_kind(found).items()}
    return {"table": named, "kinds": kinds, "each": [{**asdict(one.pair), "nats": one.nats} for one in found]}


def _layers(
    source: "LoadedModel", data: Path, named: tuple[str, str], rows: int, pooling: Any, run: "Run"
) -> dict[str, Any]:
    """Return what the report says of layers."""
    from genus.probes.linear import probe_layers
    from genus.tasks.dataset import Files

    files = Files.find(data)
    held = files.validation or files.test
    if held is None:
        raise UsageError(f"{data}: holds no validation or test table, on which probes are measured")
    train, test = (_labeled(path, *named, rows) for path in (files.train, held))
    found = probe_layers(source, train, test, pooling=pooling, run=run, progress=Counter("probing", "layers"))
    return {
        "train": str(files.train),
        "test": str(held),
        "rows": found.train,
        "classes": found.classes,
        "accuracy": {str(layer): asdict(one) for layer, one in found.accuracy.items()},
        "majority": asdict(found.majority),
    }


def _labeled(path: Path, text: str, label: str, most: int) -> "Labeled":
    """Return the first labeled rows of a table."""
    from genus.probes.linear import Labeled
    from genus.tasks.classification import Classification
    from genus.tasks.dataset import read

    found = [row for row in read(path, Classification(texts=(text,), label=label)) if row.label is not None]
    if not found:
        raise GenusError(f"{path}: no row has a label")
    if len(found) > most:
        say(f"{path}: the first {most:,} of {len(found):,} rows are taken (--rows)")
    return Labeled([row.texts[0] for row in found[:most]], [row.labels[0] for row in found[:most]])
