"""From text to tokens on the command line: `tokenizer train` and `prepare`."""

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from genus.cli.options import AsJson, Out, RecipeName, Settings, Sources
from genus.cli.output import Counter, columns, document, scaled


def train_tokenizer(
    recipe: RecipeName,
    texts: Sources,
    out: Out,
    settings: Settings = [],
    as_json: AsJson = False,
) -> None:
    """Train the tokenizer of a recipe on text."""
    from genus import catalog
    from genus.text import Corpus

    tokenizer = catalog.load(recipe, settings).tokens.train(Corpus(texts))
    tokenizer.save(out)
    if as_json:
        document({"folder": out, "pieces": tokenizer.vocabulary.size, "hash": tokenizer.hash()})
    else:
        print(f"{out}: {type(tokenizer.tokens).__name__} of {tokenizer.vocabulary.size:,} pieces")


def prepare(
    texts: Sources,
    words: Annotated[Path, typer.Option("--tokenizer", metavar="FOLDER", help="A tokenizer.", show_default=False)],
    out: Out,
    workers: Annotated[int, typer.Option(help="Processes.")] = os.cpu_count() or 1,
    field: Annotated[str, typer.Option(help="The name of the text in .jsonl and .parquet.")] = "text",
    as_json: AsJson = False,
) -> None:
    """Tokenize text into a store.

    Any number of runs read it; a preparation that was stopped goes on where it was.
    """
    from genus.tokens.store import counts, prepare
    from genus.tokens.tokenizer import Tokenizer

    begun = time.perf_counter()
    prepare(texts, Tokenizer.load(words), out, workers=workers, field=field, progress=Counter("tokenizing", "B"))
    seconds = time.perf_counter() - begun
    found = {"folder": out, **asdict(counts(out)), "seconds": seconds}
    if as_json:
        document(found)
        return
    print(columns([str(out), ""], [[name, f"{number:,}"] for name, number in found.items() if isinstance(number, int)]))
    print(f"{scaled(found['bytes'] / seconds, 'B')}/s of text")
