"""The command `find`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genus.cli.options import AsJson, Field
from genus.cli.output import document
from genus.errors import UsageError

if TYPE_CHECKING:
    from genus.curate.occurrences import Corpus, Found, Query


def find(
    string: Annotated[
        str, typer.Argument(metavar="STRING", help="What to look for, as it stands.", show_default=False)
    ],
    texts: Annotated[
        list[str],
        typer.Argument(metavar="TEXT...", help="Text as for clean, token stores, or runs.", show_default=False),
    ] = [],
    index: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Make an index there, or use the one that is there, for repeated questions."
        ),
    ] = None,
    words: Annotated[
        Path | None, typer.Option("--tokenizer", metavar="FOLDER", help="Of a token store, if it is not beside it.")
    ] = None,
    field: Field = "text",
    show: Annotated[int, typer.Option(help="Occurrences that are shown, the first ones.")] = 10,
    context: Annotated[int, typer.Option(help="Characters on either side that are shown.")] = 40,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Count a string in text or in a token store, and say in which documents it stands."""
    from genus.curate.occurrences import Corpus, Query

    query = Query(string, context, show)
    if not texts and index is None:
        raise UsageError("name TEXT to look in, or an --index")
    if workers < 1:
        raise UsageError(f"--workers: expected at least 1, got {workers}")
    found = _found(query, Corpus(texts, field, words) if texts else None, index, workers)
    shown = [{**one.identity, "place": one.place, "before": one.before, "after": one.after} for one in found.shown]
    if as_json:
        told = {"string": string, "occurrences": found.occurrences, "documents": found.documents, "shown": shown}
        document(told)
        return
    print(f"{found.occurrences:,} in {found.documents:,} document{'' if found.documents == 1 else 's'}")
    for one in found.shown:
        place = ", ".join(str(one.identity[name]) for name in ("source", "row", "id") if name in one.identity)
        print(f"{place}: {' '.join(f'{one.before}[{string}]{one.after}'.split())}")


def _found(query: "Query", corpus: "Corpus | None", index: Path | None, workers: int) -> "Found":
    from genus.curate.engines.local import LocalProcesses
    from genus.curate.occurrences import scan
    from genus.curate.suffix_index import SuffixIndex

    engine = LocalProcesses(workers=workers)
    if index is None:
        assert corpus is not None
        return scan(corpus, query, engine)
    suffixes = SuffixIndex(index)
    if corpus is None or suffixes.is_there:
        suffixes.check(corpus)
    else:
        suffixes.build(corpus, engine)
    return suffixes.find(query)
