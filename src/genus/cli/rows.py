"""Commands for the catalog of recipes: `list`, `show` and `table`."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genus.cli.options import AsJson, RecipeName, Settings
from genus.cli.output import briefly, columns, document, markdown
from genus.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

Markdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown.")]
TITLE = "The BERT family, compared"
NOTE = (
    "Made by genus table from the recipes. Parameters are counted from each recipe; published ones are as the authors "
    "round them, and the deviation is that of the count with or without heads, whichever comes nearer."
)


@briefly()
def list_members(as_json: AsJson = False) -> None:
    """List the members, their sizes and their papers."""
    from genus import catalog
    from genus.cli.output import scaled
    from genus.cost import parameters

    found: list[dict[str, Any]] = []
    for member, rows in catalog.members().items():
        first = next(iter(rows.values())).published
        sizes = {name: parameters(row) for name, row in rows.items()}
        found.append({"member": member, "year": first.year, "title": first.title, "paper": first.paper, "sizes": sizes})
    if as_json:
        document(found)
        return
    for row in found:
        print(f"{row['member']} ({row['year']}) {row['title']} [{row['paper']}]")
        print("  " + ", ".join(f"{name} ({scaled(number)})" for name, number in row["sizes"].items()))


@briefly()
def show(
    recipe: RecipeName,
    settings: Settings = [],
    other: Annotated[
        str | None, typer.Option("--diff", metavar="RECIPE", help="Show only what differs from this one.")
    ] = None,
    as_json: AsJson = False,
    as_markdown: Markdown = False,
) -> None:
    """Show a whole row, and what it costs.

    Parameters, memory, FLOPs a token; --diff shows what another row chooses otherwise.
    """
    from dataclasses import asdict

    from genus import catalog
    from genus.cli.page import costs, member_page, tree
    from genus.cost import cost
    from genus.part import diff

    row = catalog.load(recipe, settings)
    if other is not None:
        differences = diff(row, catalog.load(other))
        if as_json:
            document([{"path": path, "left": left, "right": right} for path, left, right in differences])
        else:
            print(columns(["choice", recipe, other], [[path, repr(a), repr(b)] for path, a, b in differences]))
    elif as_json:
        document({"hash": row.hash(), "cost": asdict(cost(row)), "recipe": row.written()})
    elif as_markdown:
        if row.name not in catalog.names() or row != catalog.load(row.name):
            raise UsageError(f"--markdown: prints the page of a member as published, not {row.name} with its changes")
        print(member_page(row.name.split("/")[0]), end="")
    else:
        print(tree(row.to_json()))
        print()
        print(costs(row))


class Format(StrEnum):
    """Output format of `genus table`."""

    text = "text"
    markdown = "markdown"
    csv = "csv"
    html = "html"


@briefly()
def table(
    every_size: Annotated[bool, typer.Option("--all", help="A row for every size, not one a member.")] = False,
    written: Annotated[Format, typer.Option("--format", help="How the table is written.")] = Format.text,
    as_json: AsJson = False,
) -> None:
    """Compare the members in one table, in the columns of the field's surveys.

    As text, wrapped to the terminal; as Markdown, CSV, or a page of HTML that needs no other file.
    """
    from genus.cli import formats
    from genus.cli.compared import GROUPS, cells, compared

    rows = compared(every_size)
    if as_json:
        document(rows)
        return
    header, lines = cells(rows)
    notes = [f"{row['name']} deviates: {row['why']}" for row in rows if row["why"]]
    writers: dict[Format, Callable[[], str]] = {
        Format.text: lambda: formats.text(header, lines, GROUPS, notes),
        Format.markdown: lambda: markdown(header, lines) + "\n",
        Format.csv: lambda: formats.comma_separated(header, lines),
        Format.html: lambda: formats.page(TITLE, NOTE, header, lines),
    }
    print(writers[written](), end="")
