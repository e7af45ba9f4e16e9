"""The catalog on the command line: `list`, `show` and `table`."""

from typing import Annotated, Any

import typer

from genus.cli.options import AsJson, RecipeName, Settings
from genus.cli.output import columns, document, markdown

Markdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown.")]


def list_members(as_json: AsJson = False) -> None:
    """List the members, their sizes and their papers."""
    from genus import catalog
    from genus.cli.output import scaled
    from genus.cost import cost

    found: list[dict[str, Any]] = []
    for member, rows in catalog.members().items():
        first = next(iter(rows.values())).published
        sizes = {name: cost(row).parameters for name, row in rows.items()}
        found.append({"member": member, "year": first.year, "title": first.title, "paper": first.paper, "sizes": sizes})
    if as_json:
        document(found)
        return
    for row in found:
        print(f"{row['member']} ({row['year']}) {row['title']} [{row['paper']}]")
        print("  " + ", ".join(f"{name} ({scaled(number)})" for name, number in row["sizes"].items()))


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
        document({"hash": row.hash(), "cost": asdict(cost(row)), "recipe": row.to_json()})
    elif as_markdown:
        print(member_page(row.name.split("/")[0]), end="")
    else:
        print(tree(row.to_json()))
        print()
        print(costs(row))


def table(as_json: AsJson = False, as_markdown: Markdown = False) -> None:
    """Compare all rows in one table."""
    from genus import catalog
    from genus.cli.page import facts

    rows = [facts(row) for sizes in catalog.members().values() for row in sizes.values()]
    if as_json:
        document(rows)
        return
    header = list(rows[0])
    print((markdown if as_markdown else columns)(header, [[str(row[name]) for name in header] for row in rows]))
