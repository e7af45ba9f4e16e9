"""Commands for tokenization: `tokenizer train` and `prepare`."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from genus.cli.options import (
    Address,
    AsJson,
    Codes,
    EngineName,
    Field,
    Out,
    RecipeName,
    Settings,
    SourceField,
    Sources,
    Title,
    chosen_engine,
)
from genus.cli.output import Counter, columns, document, scaled
from genus.errors import say
from genus.processes import cores

Keep = Annotated[
    list[str],
    typer.Option(
        "--keep",
        metavar="FIELD",
        help="A field that the store keeps of each document, with its source and row; of curated text source, row, "
        "id and url unless others are named; repeatable.",
    ),
]
Together = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD",
        help="Documents with one value of this field are held out together, such as those of a book; of text that "
        "`genus clean` marked, near duplicates are.",
    ),
]


def train_tokenizer(
    recipe: RecipeName,
    texts: Sources,
    out: Out,
    settings: Settings = [],
    field: Field = "text",
    title: Title = None,
    codes: Codes = [],
    source: SourceField = None,
    as_json: AsJson = False,
) -> None:
    """Train the tokenizer of a recipe on text. Only a tokenizer that genus wrote is written over."""
    from genus import catalog
    from genus.export.files import replaced_by_tokenizer
    from genus.run_folder import RunFolder
    from genus.text import Corpus, Fields
    from genus.text.sources import skipped
    from genus.tokens.training import dropped_marks, unknown

    if line := skipped(texts):
        say(line)
    corpus, old = Corpus(texts, Fields(field, title, tuple(codes), source)), replaced_by_tokenizer(out)
    with RunFolder(out).lock():
        tokenizer = catalog.load(recipe, settings).tokens.train(corpus)
        tokenizer.save(out, replaced=old)
    for line in filter(None, (unknown(tokenizer, corpus), dropped_marks(tokenizer, corpus))):
        say(line)
    if as_json:
        document({"folder": out, "pieces": tokenizer.vocabulary.size, "hash": tokenizer.hash()})
    else:
        print(f"{out}: {type(tokenizer.tokens).__name__} of {tokenizer.vocabulary.size:,} pieces")


def prepare(
    texts: Sources,
    words: Annotated[Path, typer.Option("--tokenizer", metavar="FOLDER", help="A tokenizer.", show_default=False)],
    out: Out,
    workers: Annotated[int, typer.Option(help="Processes.")] = cores(),
    field: Field = "text",
    title: Title = None,
    codes: Codes = [],
    source: SourceField = None,
    keep: Keep = [],
    together: Together = None,
    engine: EngineName = "local",
    address: Address = None,
    check: Annotated[bool, typer.Option("--check", help="Read the store once and compare its checksums.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tokenize text into a store.

    Any number of runs read it; a preparation that was stopped goes on where it was.
    """
    from genus.text import Corpus, Fields
    from genus.text.sources import skipped
    from genus.tokens.store import Store, counts, prepare
    from genus.tokens.tokenizer import Tokenizer
    from genus.tokens.training import dropped_marks

    if line := skipped(texts):
        say(line)
    begun = time.perf_counter()
    fields = Fields(field, title, tuple(codes), source, tuple(keep), together)
    tokenizer, chosen = Tokenizer.load(words), chosen_engine(engine, address, workers)
    given: dict[str, Any] = {"workers": workers, "fields": fields, "progress": Counter("tokenizing", "B")}
    with chosen.running():
        prepare(texts, tokenizer, out, **given, engine=None if engine == "local" else chosen.in_order)
    if check:
        Store.check(out)
    seconds = time.perf_counter() - begun
    found = {"folder": out, **asdict(counts(out)), "seconds": seconds}
    for line in filter(None, (*counts(out).notices(), dropped_marks(tokenizer, Corpus(texts, fields)))):
        say(line)
    if as_json:
        document(found)
        return
    print(columns([str(out), ""], [[name, f"{number:,}"] for name, number in found.items() if isinstance(number, int)]))
    print(f"{scaled(found['bytes'] / seconds, 'B')}/s of text")
