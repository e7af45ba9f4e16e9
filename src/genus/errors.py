"""The one kind of error a user can cause: a single line that says what, where, and what to do instead."""


class GenusError(Exception):
    """Something the user can put right; the command line prints it as one line and exits with `exit_code`."""

    exit_code = 1


class UsageError(GenusError):
    """The call itself is wrong: an unknown name, a misspelled option, a value of the wrong type."""

    exit_code = 2


class ChoiceError(UsageError, ValueError):
    """A part was given a choice that it has not, or a value that the choice does not take."""


def near(name: str, names: list[str] | tuple[str, ...]) -> str:
    """Return ' Did you mean ...?' for the valid names nearest to `name`, or the whole list where none is near."""
    import difflib

    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f" Did you mean {' or '.join(repr(c) for c in close)}?"
    return f" Valid: {', '.join(sorted(names))}."
