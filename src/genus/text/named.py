"""Texts with names, as a mixture of sources has them: `wiki=TEXT:0.7`."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from genus.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMED = re.compile(r"([A-Za-z][\w.-]*)=(.+)", re.DOTALL)
FORM = "as in wiki=TEXT:0.7 books=TEXT:0.3"


@dataclass(frozen=True, slots=True)
class NamedText:
    """A source of text."""

    name: str
    texts: tuple[str, ...]
    """Files, folders, datasets, or one token store."""
    share: float | None = None


def is_named(argument: str) -> bool:
    """Return whether an argument is a text with a name, and no path that has `=` in it."""
    return NAMED.fullmatch(argument) is not None and not os.path.exists(argument)


def named_texts(arguments: Sequence[str]) -> list[NamedText]:
    """Return the sources in their order, given as `name=TEXT` or `name=TEXT:weight`; none, if no text has a name.

    Texts of one name are one source, whose weight any of them may say.

    Raises:
        UsageError: only some have a name, a weight is no positive number, or one source has two.
    """
    if not any(map(is_named, arguments)):
        return []
    found: dict[str, NamedText] = {}
    for argument in arguments:
        if not is_named(argument):
            raise UsageError(f"{argument}: has no name, and other texts have; name all, {FORM}")
        one = _named(argument)
        before = found.get(one.name, NamedText(one.name, ()))
        if None not in (before.share, one.share):
            raise UsageError(f"{one.name}: has two weights, {before.share:g} and {one.share:g}; say one")
        weight = one.share if before.share is None else before.share
        found[one.name] = replace(before, texts=before.texts + one.texts, share=weight)
    return [*found.values()]


def _named(argument: str) -> NamedText:
    """Return one source: what is behind the last colon is a weight, unless it belongs to the text."""
    match = NAMED.fullmatch(argument)
    assert match is not None
    name, text = match.groups()
    before, colon, behind = text.rpartition(":")
    if not colon or os.path.exists(text):
        return NamedText(name, (text,))
    try:
        weight = float(behind)
    except ValueError:
        if os.path.exists(before):
            raise UsageError(f"{argument}: {behind!r} is no weight; expected a number above 0, {FORM}") from None
        return NamedText(name, (text,))
    if not 0 < weight < math.inf:
        raise UsageError(f"{argument}: the weight {behind} is no number above 0; leave a source out that is not read")
    return NamedText(name, (before,), weight)
