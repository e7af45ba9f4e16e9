"""The command `vectors`: static word vectors as a model folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genus.cli.options import AsJson, Field, Out, Settings
from genus.cli.output import document
from genus.errors import UsageError, say

if TYPE_CHECKING:
    from genus.recipe import Published
    from genus.vectors import WordVectors

    Made = tuple[WordVectors, str, Published, int]
TITLE = "Distributed Representations of Words and Phrases and their Compositionality"


def vectors(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Vectors in the text format of GloVe or word2vec (.txt, .vec; .gz); with --train, text to learn from.",
            show_default=False,
        ),
    ],
    out: Out,
    train: Annotated[bool, typer.Option("--train", help="Train skip-gram vectors on text, by gensim.")] = False,
    settings: Settings = [],
    field: Field = "text",
    workers: Annotated[
        int, typer.Option(min=1, help="With --train: threads; with several, vectors are not the same each time.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Make a model of static word vectors: read them, or train them on text (--set size=100, window, epochs, ...).

    The model is used as any other. Only a model that genus wrote is written over.
    """
    from genus.export.files import replaced_by_model
    from genus.export.folder import save
    from genus.run_folder import RunFolder
    from genus.vectors.folder import UNKNOWN, as_model

    if not train and (settings or len(sources) != 1):
        raise UsageError("vectors are read from one file; give --train to learn them from text")
    old = replaced_by_model(out)
    with RunFolder(out).lock():
        table, name, told, epochs = _trained(sources, settings, field, workers) if train else _read(Path(sources[0]))
        for line in table.notices:
            say(line)
        model = as_model(table, name, told, epochs)
        save(out, model.recipe, model.learner, model.tokenizer, f"Vectors: {told.data}.", replaced=old)
    number, size = table.vectors.shape
    lowercase, unknown = model.recipe.tokens.to_json()["lowercase"], not {*UNKNOWN}.isdisjoint(table.words)
    if as_json:
        document({"folder": out, "words": number, "size": size, "lowercase": lowercase, "unknown": unknown})
    else:
        case = ", in lower case" if lowercase else ""
        others = "have the vector of the unknown word" if unknown else "are 0"
        print(f"{out}: {number:,} words of {size}{case}; others {others}")


def _read(path: Path) -> "Made":
    """Return the vectors of a file, and what a recipe says of them."""
    from genus.recipe import Published
    from genus.vectors.read import read_vectors

    made = Published(title="word vectors", paper="of a file", year=0, data=f"read from {path.name}")
    return read_vectors(path), "static-vectors", made, 1


def _trained(sources: list[str], settings: list[str], field: str, workers: int) -> "Made":
    """Return vectors trained on text, and what a recipe says of them."""
    from genus.catalog import overridden
    from genus.recipe import Published
    from genus.text import Corpus, Fields
    from genus.text.sources import skipped
    from genus.vectors.skip_gram import SkipGram

    if line := skipped(sources):
        say(line)
    choice = overridden(SkipGram(), settings)
    table = choice.train(Corpus(sources, Fields(field)), workers)
    made = Published(title=TITLE, paper="arXiv:1310.4546", year=2013, data=choice.told())
    return table, "skip-gram", made, choice.epochs
