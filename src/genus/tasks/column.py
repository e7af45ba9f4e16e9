"""A column of a table, read whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.errors import GenusError, near, say
from genus.tasks.cell import text_in
from genus.tasks.notices import Notices
from genus.tasks.table import rows

if TYPE_CHECKING:
    from pathlib import Path


def texts_in(path: Path, column: str) -> list[str]:
    """Return the texts in a column; notices of the table are said.

    Raises:
        GenusError: the table cannot be read or lacks the column; a cell holds something else.
    """
    found, notices = [], Notices()
    for line, row in rows(path, notices, (column,)):
        if column not in row:
            raise GenusError(f"{path}, line {line}: there is no column {column!r}.{near(column, list(row))}")
        try:
            found.append(text_in(row, column))
        except ValueError as error:
            raise GenusError(f"{path}, line {line}: {error}") from None
    for notice in notices.lines(path):
        say(notice)
    return found
