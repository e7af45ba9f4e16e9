"""Output of commands: results on standard output, progress and notes on standard error."""

import gc
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genus.errors import GenusError, UsageError


def document(value: object) -> None:
    """Print one JSON document; paths become strings.

    Raises:
        GenusError: a number is NaN or infinite, which JSON cannot represent.
    """
    try:
        print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_plain))
    except ValueError:
        raise GenusError("a number of the result is not finite, which JSON cannot say; ask without --json") from None


@contextmanager
def briefly() -> Iterator[None]:
    """Disable garbage collection during a short command, a third of whose time would go to PyTorch's many objects.

    At the end, remaining objects are frozen, so that the collection at exit does not scan them either.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class Counter:
    """Progress counter on standard error, with rate and time left."""

    def __init__(self, what: str, unit: str) -> None:
        self.what, self.unit = what, unit
        self.live = sys.stderr.isatty()
        self.pause = 0.2 if self.live else 10.0
        self.begun = self.shown = time.monotonic()

    def __call__(self, done: float, total: int | None) -> None:
        """Print the progress, at most every `pause` seconds, and at the end."""
        now = time.monotonic()
        finished = total is not None and done >= total
        if now - self.shown < self.pause and not finished:
            return
        self.shown = now
        rate = done / max(now - self.begun, 1e-3)
        line = f"{self.what}: {scaled(done, self.unit)}, {scaled(rate, self.unit)}/s"
        if total and not finished:
            line += f", {done / total:.0%}, {(total - done) / max(rate, 1e-3):.0f} s left"
        print(
            f"\r{line:<78}" if self.live else line,
            end="\n" if finished or not self.live else "",
            file=sys.stderr,
            flush=True,
        )


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path | str]) -> None:
    """Refuse a file that would replace what a command reads, or another file that it writes (UsageError)."""
    known = {Path(one).resolve(): str(one) for one in inputs}
    for option, path in outputs.items():
        if path is None or (path.exists() and not path.is_file() and not path.is_dir()):  # a device takes all
            continue
        if path.is_dir():
            raise UsageError(f"{option}: {path} is a folder; name a file")
        if (other := known.setdefault(path.resolve(), option)) != option:
            raise UsageError(f"{option}: {path} would replace {other}; name another file")


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns under a header."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)]
    return "\n".join(line.rstrip() for line in lines)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def scaled(number: float, unit: str = "") -> str:
    """Return a number to three significant digits with an SI prefix, such as '110 M' or '1.31 GB'."""
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= 0.9995 * size:
            short = number / size
            digits = 0 if short >= 99.95 else 1 if short >= 9.995 else 2
            return f"{short:.{digits}f} {prefix}{unit}"
    return f"{number:g} {unit}".rstrip()


def _plain(value: Any) -> object:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
