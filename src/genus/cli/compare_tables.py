"""The tables of a comparison, as the terminal, Markdown and the page have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from genus.cli.analysis_tables import Table
from genus.cli.output import markdown, scaled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genus.evaluate.interval import Interval
    from genus.study.results import Group, Measured, Results, RowFacts

NONE = ""
READING = [
    "Intervals are Student's over seeds, of 95 %. Differences are paired by seed.",
    "A row ranks below another only where the interval of their paired difference excludes 0 at the level at which all "
    "pairs of rows hold together (Bonferroni); all others share a rank. With one seed nothing is ranked.",
    "Random weights are the same rows untrained, measured alike: a row that is not above them has learned nothing that "
    "the measurement sees.",
    "Likelihoods are not compared with pseudo-likelihoods, nor either with losses of an objective's own targets.",
    "A comparison at this size, text and budget says nothing of published sizes.",
]


def value(found: Interval | None, *, sign: bool = False) -> str:
    """Return a mean with half the width of its interval."""
    if found is None:
        return NONE
    told = f"{found.mean:+.4f}" if sign else f"{found.mean:.4f}"
    return told if found.low is None or found.high is None else f"{told} ± {(found.high - found.low) / 2:.4f}"


def ranking(one: Measured, group: Group) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a measurement, the best mean first."""
    header = ["rank", f"{one.name} ({'higher' if one.larger_is_better else 'lower'} is better)", one.unit,
              "random weights", "pretrained - random", "helped"]  # fmt: skip
    sign = -1 if one.larger_is_better else 1
    order = sorted(group.cells.items(), key=lambda item: (item[1].rank, sign * item[1].over.mean))
    shared = [cell.rank for _, cell in order]
    rows = []
    for name, cell in order:
        rank = f"{cell.rank}{'=' if shared.count(cell.rank) > 1 else ''}"
        helped = {True: "yes", False: "no, it hurt", None: "not shown"}[cell.helped]
        rows.append([rank, name, value(cell.over), value(cell.random), value(cell.gain, sign=True), helped])
    return header, rows


def notices(one: Measured, group: Group) -> list[str]:
    """Return what a ranking needs beside it: what the scores are of, and what could be shown."""
    told = [f"Scores are of: {group.like}."] if group.like else []
    if len(group.cells) > 1:
        if group.detectable is None:
            told.append("Power: with one seed, or scores that do not vary, no difference can be shown.")
        else:
            told.append(f"Power: these seeds and their spread would show a difference of {group.detectable:.4f} or "
                        "more with a probability of 0.8.")  # fmt: skip
    return told + [f"{name} has no score: {why}." for name, why in one.without.items()]


def differences(group: Group) -> Table:
    """Return the paired differences of all pairs."""
    rows = [
        [f"{a} - {b}", value(one.over, sign=True), value(one.joint, sign=True), "yes" if one.side else "no"]
        for a, b, one in group.differences
    ]
    return Table(["paired difference", "95 %", "all pairs together", "apart"], rows)


def facts(found: Results) -> Table:
    """Return what the rows are and what their training reached."""
    header = ["row", "parameters", "lr", "tokens", "FLOPs", "seconds", "left the plateau at", "changes", "recipe"]
    return Table(header, [_fact(row) for row in found.rows])


def _fact(row: RowFacts) -> list[str]:
    runs = [one["progress"] for one in row.training.values()]
    reached = {name: float(np.mean([one[name] for one in runs])) if runs else None for name in ("tokens", "flops")}
    seconds = f"{np.mean([one['seconds'] for one in runs]):.0f}" if runs else NONE
    left = ["not" if one is None else scaled(one) for one in row.plateau.values()]
    if row.training and not any(one["token_losses"] for one in row.training.values()):
        left = ["no token loss"]
    amounts = [NONE if one is None else scaled(one) for one in reached.values()]
    told = "; ".join([*row.settings, *([row.note] if row.note else [])])
    return [
        row.name, scaled(row.parameters), f"{row.rate:g}", *amounts, seconds, ", ".join(left), told, row.hash,
    ]  # fmt: skip


def rates(found: Results) -> Table | None:
    """Return the held-out losses of the learning rates that were tried."""
    tried = [row for row in found.rows if row.tried]
    if not tried:
        return None
    header = ["held-out loss after the short run", *tried[0].tried, "taken"]
    losses = [["diverged" if one is None else f"{one:.4f}" for one in row.tried.values()] for row in tried]
    return Table(header, [[row.name, *each, f"{row.rate:g}"] for row, each in zip(tried, losses, strict=True)])


def paper(found: Results) -> Table | None:
    """Return the paper's own figures, beside the means of this comparison."""
    study = found.about["study"]
    if not study or not study["columns"]:
        return None
    header = ["row", *(f"theirs: {column}" for column in study["columns"])]
    header += [f"here: {one.name}" for one in found.measured]
    rows = []
    for row in found.rows:
        theirs = [f"{row.paper[column]:g}" if column in row.paper else NONE for column in study["columns"]]
        rows.append([row.name, *theirs, *(_mean(one, row.name) for one in found.measured)])
    return Table(header, rows)


def _mean(one: Measured, row: str) -> str:
    """Return a row's mean in a measurement; empty where it has none."""
    cells = [group.cells[row] for group in one.groups if row in group.cells]
    return value(cells[0].over) if cells else NONE


def agreements(found: Results) -> Table | None:
    """Return the rank correlations with the paper."""
    rows = [
        [one.measurement, one.column, str(one.rows), f"{one.rho.mean:+.2f} [{one.rho.low:+.2f}, {one.rho.high:+.2f}]"]
        for one in found.agreements
    ]
    return Table(["measured here", "the paper's column", "rows", "Spearman [95 %]"], rows) if rows else None


def sections(found: Results) -> Iterator[tuple[str, list[Table | str]]]:
    """Yield the sections of a report: their titles, and tables and sentences."""
    for one in found.measured:
        for group in one.groups:
            several: list[Table | str] = [Table(*ranking(one, group)), *notices(one, group)]
            if group.differences:
                several.append(differences(group))
            yield one.name + (f": {group.like}" if len(one.groups) > 1 else ""), several
        if not one.groups:
            yield one.name, [f"{name} has no score: {why}." for name, why in one.without.items()] or ["Nothing yet."]
    if (table := paper(found)) is not None:
        study = found.about["study"]
        told: list[Table | str] = [f"{study['citation']} {study['asks']} Figures read in: {study['read']}.", table]
        if (agreed := agreements(found)) is not None:
            told += [agreed, "Intervals are the bootstrap's over rows. Signs are such that +1 is the paper's order."]
        told += [f"Not here: {name}: {why}." for name, why in study["absent"].items()]
        yield "The paper's figures", told
    yield "Rows", [facts(found), *([table] if (table := rates(found)) is not None else [])]
    if found.missing:
        yield "What is missing", [f"{name}: {why}." for name, why in found.missing.items()]
    yield "How to read it", list(READING)
    yield "Where", [place(found.about)]


def place(about: dict[str, Any]) -> str:
    """Return where it was run, and on what."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    text = about["text"]
    return (
        f"{about['device']}, {about['cores']} cores, {about['jobs']} processes; commit {about['commit']}; Python "
        f"{about['python']}, {versions}. Text: {', '.join(text['sources'])}, {scaled(text['bytes'], 'B')} to train on, "
        f"digest {text['digest']}."
    )


def lead(found: Results) -> list[str]:
    """Return the sentences above all."""
    about = found.about
    budget, seeds = about["budget"], len(about["seeds"])
    told = f"{len(found.rows)} rows, each pretrained for {scaled(budget['amount'])} {budget['unit']} with {seeds} " \
           f"seed{'s' if seeds > 1 else ''} on the same text, and measured beside random weights."  # fmt: skip
    more = [] if about["study"] is None else [f"{about['study']['title']} ({about['study']['citation']}), run small."]
    return [*more, told]


def title(found: Results) -> str:
    """Return the heading."""
    study = found.about["study"]
    return f"Study: {study['name']}" if study else "Comparison"


def report(found: Results) -> str:
    """Return the whole report as Markdown."""
    lines = [f"# {title(found)}", "", *lead(found)]
    for name, parts in sections(found):
        lines += ["", f"## {name}"]
        for part in parts:
            lines += ["", part if isinstance(part, str) else markdown(part.header, part.rows)]
    return "\n".join(lines) + "\n"
