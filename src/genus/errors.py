"""Errors that a user can cause and notices: each is one line that says what, where, and what to do."""

import sys

INTERRUPTED = 130
"""Exit code of a process that Ctrl-C stopped, the convention of shells."""


class GenusError(Exception):
    """An error that the user can correct; the command line prints it as one line and exits with `exit_code`."""

    exit_code = 1


class UsageError(GenusError):
    """An invalid call: an unknown name, a misspelled option, a value of the wrong type."""

    exit_code = 2


class ChoiceError(UsageError, ValueError):
    """A part was given an unknown choice, or an invalid value for a choice."""


def say(line: str) -> None:
    """Print a notice on standard error, in one line."""
    print(" ".join(line.split()), file=sys.stderr, flush=True)


def near(name: str, names: list[str] | tuple[str, ...]) -> str:
    """Return ' Did you mean ...?' with the valid names most similar to `name`, or all names where none is similar."""
    import difflib

    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f" Did you mean {' or '.join(repr(c) for c in close)}?"
    return f" Valid: {', '.join(sorted(names))}."
