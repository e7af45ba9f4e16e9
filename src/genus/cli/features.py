"""The command `features`: hidden states of a model in a file."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from genus.cli.embed import FORMATS, texts_of, write_npy, write_parquet
from genus.cli.folders import read_model
from genus.cli.options import AsJson, BaseFolder, Folder, Running, chosen_run, ranking_run
from genus.cli.output import Counter, check_outputs, document
from genus.errors import UsageError

if TYPE_CHECKING:
    from genus.objectives.pooling import Pooling
    from genus.tasks.features import Features
    from genus.tasks.report import Metrics
    from genus.train.run import Run

WORD_SIMILARITY = "word-similarity"
"""The `--task` of pairs of words."""


def features(
    model: Folder,
    texts: Annotated[
        Path,
        typer.Argument(metavar="TEXTS", help="A text file with a text on each line, or a table.", show_default=False),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", help="Where to write: .npy (of texts) or .parquet.", show_default=False),
    ],
    layers: Annotated[
        str,
        typer.Option(metavar="N,...", help="Layers, side by side: 0 the embeddings, -1 the last; -4,-3,-2,-1."),
    ] = "-1",
    per: Annotated[
        Literal["text", "word", "token"],
        typer.Option(help="What has a vector; words stand between white space, tokens include special ones."),
    ] = "text",
    pooling: Annotated[
        str, typer.Option(metavar="NAME", help="Of a text's tokens, or of a word's: mean, first or last.")
    ] = "mean",
    text: Annotated[str, typer.Option("--text", metavar="COLUMN", help="Of a table: the column of the text.")] = "text",
    base: BaseFolder = None,
    running: Running = [],
    as_json: AsJson = False,
) -> None:
    """Write hidden states of a model: a vector for each text, word or token.

    `embed` writes what an embedder makes of texts, by its own pooling, prompts and normalization.
    """
    from genus.tasks.features import feature_blocks

    if out.suffix not in FORMATS:
        raise UsageError(f"--out: {out} is neither .npy nor .parquet")
    if out.suffix == ".npy" and per != "text":
        raise UsageError(f"--out: texts have different numbers of {per}s; write a .parquet")
    numbers, pooled = chosen_layers(layers), chosen_pooling(pooling)
    check_outputs({"--out": out}, [texts])
    given = texts_of(texts, text)
    run = ranking_run(chosen_run(running))
    found = _counted(feature_blocks(read_model(model, base), given, numbers, per, pooled, run), len(given))
    if out.suffix == ".npy":
        shape = write_npy(out, (block.vectors for block in found), len(given))
    else:
        shape = write_parquet(out, _columns(found, per))
    if as_json:
        document({"file": out, "texts": len(given), "vectors": shape[0], "size": shape[1], "layers": numbers})
    else:
        print(f"{out}: {shape[0]:,} vectors of {shape[1]}, of {len(given):,} texts")


def chosen_layers(named: str) -> list[int]:
    """Return the numbers of layers that an option names.

    Raises:
        UsageError: they are no numbers.
    """
    try:
        return [int(number) for number in named.split(",")]
    except ValueError:
        raise UsageError(f"--layers: expected numbers, such as -1 or -4,-3,-2,-1, got {named!r:.80}") from None


def chosen_pooling(name: str) -> "Pooling":
    """Return a pooling by its name in lower case.

    Raises:
        UsageError: there is none of that name.
    """
    from genus.errors import near
    from genus.objectives.pooling import Pooling
    from genus.part import slots_of

    kinds: dict[str, Any] = {kind.lower(): part for kind, part in slots_of(Pooling).items()}  # type: ignore[type-abstract]
    if name not in kinds:
        raise UsageError(f"--pooling: there is no {name!r}.{near(name, list(kinds))}")
    pooling: Pooling = kinds[name]()
    return pooling


def word_similarity(model: Path, base: Path | None, data: Sequence[str], settings: list[str], run: "Run") -> "Metrics":
    """Return the correlations of a model's cosines of words with the judgements of a table."""
    from genus.catalog import overridden
    from genus.tasks.word_similarity import WordSimilarity, read_pairs

    if len(data) != 1:
        raise UsageError(f"--task {WORD_SIMILARITY}: expected one table of pairs, got {len(data)}")
    choice = overridden(WordSimilarity(), settings, "--task-set")
    return choice.measure(read_model(model, base), read_pairs(Path(data[0])), ranking_run(run))


def _counted(blocks: "Iterable[Features]", total: int) -> "Iterator[Features]":
    """Yield blocks, and show how many texts there were."""
    counter, done = Counter("reading", ""), 0
    for block in blocks:
        yield block
        done += block.texts
        counter(done, total)


def _columns(blocks: "Iterable[Features]", per: str) -> Iterator[tuple[dict[str, list[Any]], str, Any]]:
    """Yield the columns of blocks: the number of the text from 1, word or token with its characters, vector."""
    before = 0
    for block in blocks:
        columns: dict[str, list[Any]] = {"row": (block.rows + before + 1).tolist()}
        if per != "text":
            columns[per] = [place.text for place in block.places]
            columns |= {"start": [place.start for place in block.places], "end": [place.end for place in block.places]}
        yield columns, "vector", block.vectors
        before += block.texts
