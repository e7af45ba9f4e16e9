"""Problems of programming with unit tests, in the format of HumanEval (openai/human-eval, data/HumanEval.jsonl.gz)."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genus.errors import GenusError
from genus.text.blocks import SURROGATE

if TYPE_CHECKING:
    from pathlib import Path

STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""Strings that end a completion (Chen et al. 2021, section 2.1), as the function is written by then."""
FIELDS = ("task_id", "prompt", "entry_point", "test")


@dataclass(frozen=True)
class Problem:
    """A function to write."""

    task_id: str
    prompt: str
    """The program up to where the function's body begins."""
    entry_point: str
    """The function's name."""
    test: str
    """A function `check(candidate)`, which raises an exception if the candidate is wrong."""
    canonical_solution: str = ""

    def program(self, completion: str) -> str:
        """Return a program that reaches its end if the completion passes the tests (human-eval, execution.py)."""
        return f"{self.prompt}{completion}\n{self.test}\ncheck({self.entry_point})\n"


def read_problems(path: Path) -> tuple[list[Problem], str]:
    """Return the problems of a file of JSON lines (`.gz` is decompressed), and the SHA-256 of the file.

    Raises:
        GenusError: the file cannot be read, or a line is no problem.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).decode()
    except OSError as error:
        raise GenusError(f"{path}: {error.strerror or 'is damaged: fetch it again'}") from None
    except (EOFError, zlib.error, UnicodeDecodeError):
        raise GenusError(f"{path}: is damaged, or no file of JSON lines: fetch it again") from None
    problems: dict[str, Problem] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        problem = _problem(line, f"{path}, line {number}")
        if problem.task_id in problems:
            raise GenusError(f"{path}, line {number}: task_id {problem.task_id!r} occurs twice")
        problems[problem.task_id] = problem
    if not problems:
        raise GenusError(f"{path}: holds no problem")
    return list(problems.values()), hashlib.sha256(raw).hexdigest()


def _problem(line: str, where: str) -> Problem:
    try:
        row = json.loads(line)
        told = [row[field] for field in FIELDS] + [row.get("canonical_solution", "")]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        told = [None]
    if not all(isinstance(value, str) for value in told):
        raise GenusError(f"{where}: expected an object with the texts {', '.join(FIELDS)}, as HumanEval's")
    if not told[2].isidentifier():
        raise GenusError(f"{where}: entry_point: expected the name of a function, got {told[2]!r}")
    if SURROGATE.search("".join(told)):
        raise GenusError(f"{where}: holds lone surrogates, which are no text")
    return Problem(*told)
