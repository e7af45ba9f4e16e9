"""Errors that a user can cause and notices: each is one line that says what, where, and what to do."""

from __future__ import annotations

import importlib
import reprlib
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERRUPTED = 130
"""Exit code of a process that Ctrl-C stopped, the convention of shells."""
MOST_SHOWN = 80
"""Characters of a value, and entries of a list or a table, that a message shows at most."""

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = _brief.maxlong = MOST_SHOWN


class GenusError(Exception):
    """An error that the user can correct; the command line prints it as one line and exits with `exit_code`."""

    exit_code = 1


class UsageError(GenusError):
    """An invalid call: an unknown name, a misspelled option, a value of the wrong type."""

    exit_code = 2


class ChoiceError(UsageError, ValueError):
    """A part was given an unknown choice, or an invalid value for a choice."""


_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)


def say(line: str) -> None:
    """Print a notice on standard error, in one line; within `heard`, keep it instead."""
    line, kept = " ".join(line.split()), _heard.get()
    if kept is None:
        print(line, file=sys.stderr, flush=True)
    else:
        kept.append(line)


@contextmanager
def heard() -> Iterator[list[str]]:
    """Context manager: the list of what is said in this context, such as a server's answer to one request."""
    kept: list[str] = []
    token = _heard.set(kept)
    try:
        yield kept
    finally:
        _heard.reset(token)


def shown(value: object) -> str:
    """Return the repr of a value, with its middle left out where it is long, and what is deep within it."""
    return _brief.repr(value)


def library(name: str, what: str, extra: str) -> Any:
    """Return the module `name` of a library that an extra of the installation brings.

    Raises:
        GenusError: it is missing; `what` needs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise GenusError(f"{what} needs another library: pip install 'genus[{extra}]'") from None


def near(name: str, names: list[str] | tuple[str, ...], otherwise: str = "") -> str:
    """Return ' Did you mean ...?' with the valid names most similar to `name`.

    Where none is similar, return `otherwise`, or all names if it is empty.
    """
    import difflib

    close = difflib.get_close_matches(name[:MOST_SHOWN], names, n=3, cutoff=0.5)
    if close:
        return f" Did you mean {' or '.join(repr(c) for c in close)}?"
    return otherwise or f" Valid: {', '.join(sorted(names))}."
