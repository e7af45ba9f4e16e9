"""Formats of a wide table: text that fits a terminal, CSV, and a self-contained HTML page."""

import csv
import html
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

TableCells = Sequence[Sequence[str]]

WORD = 11
"""Smallest width of a text column, in characters."""
STYLE = """
:root { color-scheme: light dark; --line: #ddd; --head: #f4f4f2; --page: #fff; --ink: #1a1a1a; }
@media (prefers-color-scheme: dark) { :root { --line: #444; --head: #262626; --page: #171717; --ink: #eee; } }
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem; background: var(--page); color: var(--ink); }
.wide { overflow: auto; max-height: calc(100vh - 9rem); border: 1px solid var(--line); }
table { border-collapse: separate; border-spacing: 0; }
th, td { padding: .5rem .75rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
td { min-width: 6rem; max-width: 20rem; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
thead th { position: sticky; top: 0; background: var(--head); white-space: nowrap; }
tbody th { position: sticky; left: 0; background: var(--head); white-space: nowrap; }
thead th:first-child { left: 0; z-index: 1; }
"""


def text(
    header: Sequence[str], rows: TableCells, groups: Mapping[str, Sequence[str]], notes: Sequence[str] = ()
) -> str:
    """Return one table per group of columns, each with the first column, wrapped to the terminal; then the notes."""
    from rich.console import Console

    console = Console(file=(stream := io.StringIO()), highlight=False, markup=False, emoji=False)
    for title, names in groups.items():
        wanted = [header.index(name) for name in (header[0], *names)]
        console.print(_boxed(title, [[line[place] for place in wanted] for line in (header, *rows)], console.width))
    for note in notes:
        console.print(note)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _boxed(title: str, lines: TableCells, width: int) -> "Table":
    """Return a table of the given width at most, in characters; columns with numbers are right-aligned."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="", box=box.SQUARE, show_lines=True)
    columns = list(zip(*lines, strict=True))
    for column, room in zip(columns, _widths(columns, width - 3 * len(columns) - 1), strict=True):
        right = any(map(is_number, column))
        table.add_column(column[0], overflow="fold", width=room, justify="right" if right else "left")
    for line in lines[1:]:
        table.add_row(*line)
    return table


def _widths(columns: TableCells, room: int) -> list[int]:
    """Return column widths: numbers are never wrapped, names only where text columns would be narrower than `WORD`.

    Text columns share the remaining width equally; what one column does not need goes to longer ones.
    """
    longest = [max(map(len, column)) for column in columns]
    words = [place for place, column in enumerate(columns) if place and not any(map(is_number, column))]
    numbers = sum(longest[1:]) - sum(longest[place] for place in words)
    found = [min(longest[0], room - numbers - WORD * len(words)), *longest[1:]]
    left = room - numbers - found[0]
    for taken, place in enumerate(sorted(words, key=longest.__getitem__)):
        found[place] = min(longest[place], left // (len(words) - taken))
        left -= found[place]
    return found


def comma_separated(header: Sequence[str], rows: TableCells) -> str:
    """Return CSV with a header (RFC 4180, but with Unix line endings)."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    return stream.getvalue()


def page(title: str, note: str, header: Sequence[str], rows: TableCells) -> str:
    """Return an HTML page with one table, whose header and first column stay visible when scrolling."""
    heads = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    lines = "\n".join(f"<tr>{_row(row)}</tr>" for row in rows)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
<p>{html.escape(note)}</p>
<div class="wide">
<table>
<thead><tr>{heads}</tr></thead>
<tbody>
{lines}
</tbody>
</table>
</div>
</body>
</html>
"""


def _row(cells: Sequence[str]) -> str:
    first, *rest = cells
    found = [f'<th scope="row">{html.escape(first)}</th>']
    for cell in rest:
        found.append(f"<td{' class=number' if is_number(cell) else ''}>{html.escape(cell)}</td>")
    return "".join(found)


def is_number(cell: str) -> bool:
    """Return whether a cell is a formatted number, such as `1,234` or `+1.5%`."""
    return cell.strip("+-%").replace(",", "").replace(".", "", 1).isdigit()
