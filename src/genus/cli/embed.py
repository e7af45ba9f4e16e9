"""Commands for embedders: `embed`, and retrieval from a table of passages (`evaluate --passages`)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genus.cli.folders import read_model
from genus.cli.options import AsJson, Folder, Running, chosen_run, ranking_run
from genus.cli.output import Counter, check_outputs, document
from genus.errors import GenusError, UsageError

if TYPE_CHECKING:
    from genus.export.folder import LoadedModel
    from genus.tasks.report import Metrics
    from genus.train.run import Run

Passages = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Of an embedder: a table with `id` and `text` of passages; DATA has `query` and the ids `relevant` to it.",
    ),
]
FORMATS = (".npy", ".parquet")
WRITTEN = ("word", "token", "image")
"""Columns of text; others are of whole numbers."""
QUERY, RELEVANT = "query", "relevant"
"""The usual columns of a table of queries."""


def embed(
    model: Folder,
    texts: Annotated[
        Path,
        typer.Argument(
            metavar="TEXTS",
            help="A text file with a text on each line, or a table; of a model of images also a folder or shard of "
            "images, or with --text image a table of their paths.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where to write: .npy or .parquet.", show_default=False)
    ],
    text: Annotated[str, typer.Option("--text", metavar="COLUMN", help="Of a table: the column of the text.")] = "text",
    prompt: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What the model remembers to put before each text: query, document, ..."),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What to put before each text, in place of the model's prompt.")
    ] = None,
    running: Running = [],
    as_json: AsJson = False,
) -> None:
    """Write a vector for each text, in their order.

    By the model's own pooling, normalization and longest text; the mean of hidden states where its folder has none.
    """
    from genus.tasks.embed import as_embedder, embed_blocks, prompt_of
    from genus.tasks.image_text import reads_images

    if out.suffix not in FORMATS:
        raise UsageError(f"--out: {out} is neither .npy nor .parquet")
    if prompt is not None and prefix is not None:
        raise UsageError("--prefix: the prompt is given by name already; give one of the two")
    check_outputs({"--out": out}, [texts])
    run = ranking_run(chosen_run(running))
    loaded = read_model(model)
    if reads_images(loaded):
        _embed_either(loaded, texts, text, out, run, as_json)
        return
    given = texts_of(texts, text)
    source = as_embedder(loaded)
    before = prompt_of(source, prompt) if prefix is None else prefix
    vectors = counted(embed_blocks(source, given, before, run), Counter("embedding", ""), len(given))
    shape = write_npy(out, vectors, len(given)) if out.suffix == ".npy" else write_parquet(out, _numbered(vectors))
    if as_json:
        document({"file": out, "texts": shape[0], "size": shape[1], "prefix": before})
    else:
        print(f"{out}: {shape[0]:,} vectors of {shape[1]}")


def _embed_either(model: "LoadedModel", path: Path, column: str, out: Path, run: "Run", as_json: bool) -> None:
    """Write a vector for each text of a file, or for each image of a folder, a shard or a table of the column `image`.

    Of images, .parquet has their names too.
    """
    from genus.images.read import HOLDERS, IMAGE
    from genus.tasks.embed import blocks
    from genus.tasks.image_text import AT_ONCE, image_files, image_vectors, text_vectors

    if path.is_dir() or path.name.lower().endswith(HOLDERS) or column == IMAGE:
        found = image_files([path])
        names, kind = [row.name for row in found], "image"
        vectors = image_vectors(model, [row.data for row in found], run)
    else:
        names, kind = texts_of(path, column), "text"
        vectors = (text_vectors(model, some, run) for some in blocks(names, AT_ONCE))
    vectors = iter(counted(vectors, Counter("embedding", ""), len(names)))
    if out.suffix == ".npy":
        shape = write_npy(out, vectors, len(names))
    else:
        rows = ((columns | {kind: names[columns["row"][0] - 1 : columns["row"][-1]]} if kind == "image" else columns,
                 name, block) for columns, name, block in _numbered(vectors))  # fmt: skip
        shape = write_parquet(out, rows)
    if as_json:
        document({"file": out, f"{kind}s": shape[0], "size": shape[1]})
    else:
        print(f"{out}: {shape[0]:,} vectors of {shape[1]}")


def texts_of(path: Path, column: str) -> list[str]:
    """Return the texts of a file.

    Raises:
        GenusError: it cannot be read, holds none, or lacks the column.
    """
    from genus.tasks.column import texts_in
    from genus.text.read import read_whole

    if ".txt" in path.suffixes[-2:]:
        found = read_whole(path).split("\n")
        found = [line.rstrip("\r") for line in (found[:-1] if found[-1] == "" else found)]
    else:
        found = texts_in(path, column)
    if not found:
        raise GenusError(f"{path}: holds no texts")
    return found


def counted(vectors: Iterable[Any], counter: Counter, total: int) -> Iterable[Any]:
    """Yield blocks of vectors, and show how many there were."""
    done = 0
    for block in vectors:
        yield block
        done += len(block)
        counter(done, total)


def write_npy(path: Path, vectors: Iterable[Any], number: int) -> tuple[int, int]:
    """Write blocks of vectors as one float32 array, and return its shape."""
    import numpy as np

    from genus.files import replacing

    with replacing(path) as work:
        array, start = None, 0
        for block in vectors:
            if array is None:
                shape = (number, block.shape[1])
                array = np.lib.format.open_memmap(work, mode="w+", dtype=np.float32, shape=shape)
            array[start : (start := start + len(block))] = block
        assert array is not None
        array.flush()
        return number, array.shape[1]


def write_parquet(path: Path, blocks: Iterable[tuple[dict[str, list[Any]], str, Any]]) -> tuple[int, int]:
    """Write blocks of columns, with vectors (N, E) in a column of that name; return the shape of all vectors."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise GenusError(f"{path}: writing .parquet needs pyarrow: pip install 'genus[data]'") from None
    from genus.files import replacing

    with replacing(path) as work:
        writer, done, size = None, 0, 0
        for columns, name, block in blocks:
            size = block.shape[1]
            lists = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel(), pa.float32()), size)
            kinds = {key: pa.string() if key in WRITTEN else pa.int64() for key in columns}
            table = pa.table({key: pa.array(column, kinds[key]) for key, column in columns.items()} | {name: lists})
            writer = parquet.ParquetWriter(work, table.schema) if writer is None else writer
            writer.write_table(table)
            done += len(block)
        assert writer is not None
        writer.close()
    return done, size


def _numbered(vectors: Iterable[Any]) -> Iterable[tuple[dict[str, list[Any]], str, Any]]:
    """Yield blocks of vectors as the column `embedding` beside the number of each row from 1."""
    done = 0
    for block in vectors:
        yield {"row": [*range(done + 1, done + len(block) + 1)]}, "embedding", block
        done += len(block)


def evaluate_retrieval(
    model: "LoadedModel",
    data: Sequence[str],
    passages: Path,
    text: list[str],
    label: str | None,
    choices: list[str],
    prefix: str | None,
    metrics: list[str],
    settings: list[str],
    *,
    run: "Run",
) -> "Metrics":
    """Return the metrics of the ranking of a table's passages for a table of queries."""
    from genus.cli.task import choose
    from genus.evaluate.ranking import MAP, MRR, NDCG, Recall
    from genus.tasks.retrieval import retrieve

    if choices:
        raise UsageError("--choices: is for questions with choices, not for --passages")
    if len(data) != 1:
        raise UsageError(f"--passages: expected one table of queries, got {len(data)}")
    if len(text) > 1:
        raise UsageError(f"--text: expected the column of the queries, got {len(text)}")
    column, relevant = text[0] if text else QUERY, label or RELEVANT
    task: Any = choose("sentence-embedding", (column, relevant), None, metrics, prefix=prefix, settings=settings)
    chosen = task.metrics or (NDCG(), MRR(), Recall(), Recall(k=100), MAP())
    return retrieve(model, task, Path(data[0]), passages, chosen, run, Counter("passages", ""))
