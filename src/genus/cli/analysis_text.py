"""An error analysis as Markdown."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from genus.cli import analysis_tables as tables
from genus.cli.output import markdown

if TYPE_CHECKING:
    from genus.analysis.findings import Example, Findings, Passage
    from genus.cli.analysis_tables import Table

MARKS = re.compile(r"([\\`*_\[\]#~])")
"""What means something in Markdown."""
LONGEST, WORDS = 400, 6
"""Characters of a text that are shown, and words that contribute most."""


def written(found: Findings) -> str:
    """Return the analysis as Markdown; texts are escaped."""
    parts = [f"# Errors of {plain(found.model)}", *map(plain, tables.lead(found))]
    if found.metrics:
        parts += ["## Metrics", table(tables.metrics(found))]
    parts += _classes(found) + _numbers(found)
    for grouping in found.groupings:
        parts += [f"## By {grouping.by}", *([f"Groups are {grouping.note}."] if grouping.note else [])]
        parts.append(table(tables.groups(grouping)))
    parts += _calibration(found)
    for why, several in found.examples.items():
        parts += [f"## {why}", *(example(one) for one in several)]
    if found.examples:
        parts.append(tables.METHOD["examples"])
    return "\n\n".join(parts) + "\n"


def _classes(found: Findings) -> list[str]:
    if found.classes is None:
        return []
    one = found.classes
    parts = [f"## By {one.what}", table(tables.classes(one)), tables.METHOD["classes"].split(". ")[0] + "."]
    if one.unseen:
        parts.append(f"Neither true nor told anywhere: {plain(', '.join(one.unseen))}.")
    if one.labels:
        parts.append(table(tables.labels(one)))
    if one.confusion is not None:
        shown = tables.shown(one.confusion)
        rows = [[name, *map(str, row)] for name, row in zip(shown.classes, shown.counts, strict=True)]
        parts += ["## Confusions", table(tables.Table(["truth / told", *shown.classes], rows))]
        if one.confusion.most(1):
            parts.append(table(tables.confusions(one.confusion)))
    return parts


def _numbers(found: Findings) -> list[str]:
    return [] if found.numbers is None else ["## Numbers", table(tables.numbers(found.numbers))]


def _calibration(found: Findings) -> list[str]:
    if found.calibration is None:
        return []
    after = None if found.calibrated is None else found.calibrated.after
    parts = ["## Calibration", plain(f"Of {found.calibration.of}, {found.calibration.decisions:,} decisions.")]
    parts += [table(tables.calibrations(found.calibration, after)), tables.METHOD["calibration"]]
    if found.calibrated is not None:
        one = found.calibrated
        parts.append(plain(f"The temperature {one.temperature:.4g} was fitted on {one.decisions:,} decisions of "
                           f"{one.table}; the model with it is in {one.model}."))  # fmt: skip
    return [*parts, table(tables.bins(found.calibration))]


def example(one: Example) -> str:
    """Return an answer as an entry of a list."""
    where = f"line {one.line}" + (f", {plain(one.id)}" if one.id else "")
    told = [where, f"truth **{plain(one.truth)}**" if one.truth else "", f"told **{plain(one.predicted)}**"]
    told += [] if one.probability is None else [f"probability {one.probability:.4f}"]
    lines = [f"* {', '.join(filter(None, told))}"]
    for passage in one.passages:
        text = passage.text if len(passage.text) <= LONGEST else f"{passage.text[:LONGEST]}…"
        lines += ["", f"  > {plain(text) or '(empty)'}"]
        if several := _words(passage):
            lines += ["", f"  {plain(one.explains)}: {several}; in all {passage.total:+.3g}"]
    return "\n".join(lines)


def _words(passage: Passage) -> str:
    """Return the words that contribute most."""
    known = [(passage.text[start:end], value) for start, end, value in passage.words if value is not None]
    most = sorted(known, key=lambda one: -abs(one[1]))[:WORDS]
    return ", ".join(f"{plain(word)} {value:+.3g}" for word, value in most)


def table(found: Table) -> str:
    """Return a table as Markdown, its cells escaped."""
    return markdown([plain(cell) for cell in found.header], [[plain(cell) for cell in row] for row in found.rows])


def plain(text: str) -> str:
    """Return a text in one line that Markdown shows as it is."""
    return MARKS.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))
