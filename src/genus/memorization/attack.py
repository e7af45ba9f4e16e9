"""The attack: of each way of writing and each score, how many of the best texts have been memorized."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from genus.evaluate.interval import Interval, interval, wilson
from genus.memorization.overlap import best
from genus.memorization.samples import WAYS
from genus.memorization.scores import SCORES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.memorization.exposure import Exposure
    from genus.memorization.samples import Sample, Way
    from genus.memorization.scores import Measured
    from genus.memorization.verbatim import Run, Verbatim

BEST = 100
"""Texts of each score that are looked at (Carlini et al. 2020, section 6.1, which takes them from the best 1,000)."""
EXAMPLES = 20
"""Memorized texts that are shown."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A sample with what its scores are made of, and its longest run that stands in the training text."""

    sample: Sample
    measured: Measured
    run: Run

    def line(self) -> dict[str, Any]:
        """Return what is told of it, without its text."""
        scores = {name: _finite(score(self.measured)) for name, score in SCORES.items()}
        return {
            "way": self.sample.way, "number": self.sample.number, "run_tokens": self.run.tokens,
            "run_characters": self.run.characters, "zlib_bits": self.measured.zlib_bits, "scores": scores,
        }  # fmt: skip


def _finite(value: float | None) -> float | None:
    """Return a number that JSON can say; None for another."""
    return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Precision:
    """How many of the best texts by a score have been memorized."""

    way: Way
    score: str
    best: int
    """k: the texts that are looked at, after those that say the same are left out."""
    memorized: int
    precision: Interval
    """Their share, with Wilson's interval."""
    numbers: list[int]
    """The samples, the best one first."""


def base_rates(judged: Sequence[Judged], least: int) -> dict[str, Interval]:
    """Return the share of all samples of each way that have been memorized: a run of `least` tokens stands there."""
    found: dict[str, Interval] = {}
    for way in WAYS:
        if mine := [one.run.tokens >= least for one in judged if one.sample.way == way]:
            found[way] = wilson(sum(mine), len(mine))
    return found


def precisions(judged: Sequence[Judged], number: int, least: int) -> list[Precision]:
    """Return precision at `number` of each way and each score that there is."""
    found = []
    for way in WAYS:
        mine = [one for one in judged if one.sample.way == way]
        for name, score in SCORES.items():
            values = [score(one.measured) for one in mine]
            if not mine or any(value is None for value in values):
                continue
            chosen = best([one.sample.whole for one in mine], [value for value in values if value is not None], number)
            hits = sum(mine[place].run.tokens >= least for place in chosen)
            numbers = [mine[place].sample.number for place in chosen]
            found.append(Precision(way, name, len(chosen), hits, wilson(hits, len(chosen)), numbers))
    return found


def examples(judged: Sequence[Judged], verbatim: Verbatim, least: int, number: int = EXAMPLES) -> list[dict[str, Any]]:
    """Return the longest runs of memorized texts, of those that say the same one, with the documents that hold them."""
    hits = [one for one in judged if one.run.tokens >= least]
    chosen = best([one.run.text for one in hits], [-float(one.run.tokens) for one in hits], number)
    found = []
    for one in (hits[place] for place in chosen):
        before, _, after = one.sample.text.partition(one.run.text)
        told = {"before": one.sample.prefix + before, "run": one.run.text, "after": after}
        found.append({**one.line(), **told, **asdict(verbatim.held(one.run))})
    return found


def by_repetitions(found: Sequence[Exposure], counted: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Return extraction and exposure of canaries by how often they were planted, with 95 % intervals.

    Args:
        found: of each canary.
        counted: how often each stands in the text that was trained on; None: nobody has counted.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for place, one in enumerate(found):
        groups[one.canary.repetitions].append(place)
    rows = []
    for repetitions, places in sorted(groups.items()):
        mine = [found[place] for place in places]
        row: dict[str, Any] = {
            "repetitions": repetitions,
            "canaries": len(mine),
            "extracted": asdict(wilson(sum(one.extracted for one in mine), len(mine))),
            "exposure": asdict(interval([one.exposure for one in mine])),
        }
        if counted is not None:
            row["occurrences"] = sum(counted[place] for place in places) / len(mine)
        rows.append(row)
    return rows
