"""Samples: completions of problems, kept as JSON lines, so that they can be run again without being generated."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from genus.errors import GenusError
from genus.files import append_line, whole_lines, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from genus.evaluate.code.execution import Verdict
    from genus.evaluate.code.problems import Problem


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion of a problem; a file of such lines can be read by openai/human-eval, too."""

    task_id: str
    sample: int
    """Its number, from 0, among the samples of the problem."""
    completion: str
    mean_log_probability: float
    """Mean over its tokens, with those of the end token or the stop string, in nats."""
    reason: str
    """Why it ended; see `generate.Reason`."""
    result: str | None = None
    """How its program ended (see `execution.Verdict`), once it was run."""
    detail: str | None = None

    def judged(self, verdict: Verdict) -> Sample:
        """Return the sample with the verdict on its program."""
        return replace(self, result=verdict.result, detail=verdict.detail)


def key(problem: Problem) -> int:
    """Return the key of a problem's draws: samples do not depend on what other problems there are."""
    return zlib.crc32(problem.task_id.encode())


def read_samples(path: Path) -> list[Sample]:
    """Return the samples of a file, but for a last line that was cut as its writer was killed; of no file, none.

    Raises:
        GenusError: the file cannot be read, or another line is no sample.
    """
    found = []
    for number, line in enumerate(whole_lines(path), 1):
        try:
            sample = Sample(**json.loads(line))
            good = isinstance(sample.completion, str) and isinstance(sample.sample, int)
        except (ValueError, TypeError, RecursionError):
            good = False
        if not good:
            raise GenusError(f"{path}, line {number}: is no sample as genus writes it; remove the file")
        found.append(sample)
    return found


def append(path: Path, sample: Sample) -> None:
    """Add a sample to the end of a file.

    Raises:
        GenusError: the file cannot be written.
    """
    append_line(path, line(sample))


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write samples as JSON lines, in place of those of the file."""
    write_text(path, "".join(map(line, samples)))


def line(sample: Sample) -> str:
    """Return a sample as a line of JSON; what was not run has no result."""
    told = {name: value for name, value in asdict(sample).items() if value is not None}
    return json.dumps(told) + "\n"


def ordered(samples: Iterable[Sample], problems: Sequence[Problem]) -> list[Sample]:
    """Return samples in the order of the problems and of their numbers; of several with one number, the last."""
    places = {problem.task_id: place for place, problem in enumerate(problems)}
    known = {(places.get(one.task_id, len(places)), one.task_id, one.sample): one for one in samples}
    return [known[place] for place in sorted(known)]


def whole(samples: Iterable[Sample], problems: Sequence[Problem], number: int) -> dict[str, list[Sample]]:
    """Return the samples 0 to `number` - 1 of each problem that has them all, in this order."""
    known = {(sample.task_id, sample.sample): sample for sample in samples}
    found = {}
    for problem in problems:
        those = [known.get((problem.task_id, place)) for place in range(number)]
        if None not in those:
            found[problem.task_id] = [sample for sample in those if sample is not None]
    return found
