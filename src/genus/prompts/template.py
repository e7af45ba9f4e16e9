"""Templates of prompts: text with the names of columns in braces."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from genus.errors import UsageError, near
from genus.tasks.cell import written

if TYPE_CHECKING:
    from collections.abc import Mapping

STEP = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
"""A doubled brace, a field, or a brace that stands alone."""


class Template:
    """Text with fields: `{column}`, `{column.inner}` of an object, `{column.0}` of a list; `{{` and `}}` are braces."""

    def __init__(self, text: str) -> None:
        """Take a template apart.

        Raises:
            UsageError: a brace stands alone.
        """
        self.text = text
        self.steps = list(STEP.finditer(text))
        for step in self.steps:
            if step[0] in ("{", "}"):
                raise UsageError(
                    f"template {text!r:.80}: a lone {step[0]!r}; name a column as {{column}}, or double it"
                )

    @property
    def fields(self) -> list[str]:
        """The fields, in order."""
        return [step[1] for step in self.steps if step[1]]

    def filled(self, row: Mapping[str, Any]) -> str:
        """Return the text with the values of a row.

        Raises:
            ValueError: there is no such column, or it holds no text or number.
        """
        return self._filled(row, {})

    def several(self, row: Mapping[str, Any]) -> list[str]:
        """Return the texts with each item of a list, if a field holds one; else the one text.

        Raises:
            ValueError: as `filled`; or two fields hold lists.
        """
        lists = {field: value for field in self.fields if isinstance(value := self._value(row, field), list)}
        if not lists:
            return [self.filled(row)]
        if len(lists) > 1:
            raise ValueError(f"template {self.text!r:.80}: {' and '.join(lists)} hold lists, and one may")
        ((field, items),) = lists.items()
        return [self._filled(row, {field: written(item, field)}) for item in items]

    def _filled(self, row: Mapping[str, Any], given: Mapping[str, str]) -> str:
        """Return the text with the values of a row; some fields are given."""

        def value(step: re.Match[str]) -> str:
            field = step[1]
            if field is None:
                return step[0][0]
            if field in given:
                return given[field]
            found = self._value(row, field)
            if found is None or found != found:  # NaN
                raise ValueError(f"template {self.text!r:.80}: column {field!r} has no value")
            return written(found, field)

        return STEP.sub(value, self.text)

    def _value(self, row: Mapping[str, Any], field: str) -> Any:
        """Return the value of a field: a column of that name, else what lies within one."""
        if field in row:
            return row[field]
        value, known = row, list(row)
        for name in field.split("."):
            if isinstance(value, list) and name.isdigit() and int(name) < len(value):
                value = value[int(name)]
            elif isinstance(value, dict) and name in value:
                value = value[name]
            else:
                known += [
                    f"{column}.{name}" for column in known if isinstance(row[column], dict) for name in row[column]
                ]
                raise ValueError(f"template {self.text!r:.80}: there is no column {field!r}.{near(field, known)}")
        return value
