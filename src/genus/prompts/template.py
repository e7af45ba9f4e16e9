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
                raise UsageError(f"template {text!r:.80}: a lone {step[0]!r}; name a column as {{column}}, or double it")

    @property
    def fields(self) -> list[str]:
        """The fields, in order."""
        return [step[1] for step in self.steps if step[1]]

    def filled(self, row: Mapping[str, Any]) -> str:
        """Return the text with the values of a row.

        Raises:
            ValueError: there is no such column, or it holds no text or number.
        """
        return STEP.sub(lambda step: self._written(row, step[1]) if step[1] else step[0][0], self.text)

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
        return [
            STEP.sub(lambda step: self._step(step, row, field, item), self.text) for item in items
        ]

    def _step(self, step: re.Match[str], row: Mapping[str, Any], field: str, item: Any) -> str:
        """Return what stands for a step, with an item in place of one field."""
        if not step[1]:
            return step[0][0]
        return written(item, field) if step[1] == field else self._written(row, step[1])

    def _written(self, row: Mapping[str, Any], field: str) -> str:
        return written(self._value(row, field), field)

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
                within = [f"{column}.{inner}" for column in known if isinstance(row[column], dict) for inner in row[column]]
                raise ValueError(f"template {self.text!r:.80}: there is no column {field!r}.{near(field, known + within)}")
        return value
