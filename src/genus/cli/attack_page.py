"""The report on an attack, as one HTML page that holds its own style and figures, and as Markdown."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import numpy as np

from genus.cli.analysis_page import figure, sectioned, table
from genus.cli.analysis_tables import UNDEFINED, Table
from genus.cli.analysis_text import plain
from genus.cli.analysis_text import table as in_markdown
from genus.cli.plot import LEFT, Axis, Frame, escaped, ticks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genus.attack.outcomes import Outcome, Report

OWN_STYLE = """
.text mark { background: rgba(var(--against), .3); box-shadow: none; border-bottom: 2px dotted var(--second) }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 0 1.2rem }
.sides > div { min-width: 0 } .sides h3 { font-size: .9rem; color: var(--faint); margin: .5rem 0 0 }
"""
BARS = 20
"""Of a histogram."""
SHOWN = 20
"""Examples of each kind that are shown; all are in the JSON."""
FOOLED, HELD = "Texts on which the classifier was fooled", "Texts on which it was not"
WHOLE = [(value, f"{value:g}") for value in (0, 0.2, 0.4, 0.6, 0.8, 1)]
MEASURES = ("BERTScore recall", "share of tokens changed")
"""Distributions that are drawn; both are from 0 to 1 but for odd encoders."""


def accuracies(report: Report) -> Table:
    """Return the accuracies with their intervals."""
    rows = [[name, str(one)] for name, one in report.accuracies.items()]
    return Table(["accuracy", "value [95 % interval]"], rows)


def distributions(report: Report) -> Table:
    """Return means and quantiles of what was measured."""
    known = {name: one for name, one in report.spreads.items() if one is not None}
    heads = next((list(one.quantiles) for one in known.values()), [])
    rows = [[name, *(f"{value:.4g}" for value in (one.mean, *one.quantiles.values()))] for name, one in known.items()]
    return Table(["", "mean", *heads], rows)


def classes(report: Report) -> Table:
    """Return what came of each class."""
    rows = [
        [
            one.label,
            f"{one.rows:,}",
            f"{one.right / one.rows:.4f}",
            f"{(one.right - one.fooled) / one.rows:.4f}",
            UNDEFINED if one.recall is None else f"{one.recall:.4f}",
        ]
        for one in report.by_class()
    ]
    return Table(["class", "rows", "accuracy before", "accuracy after", "BERTScore recall"], rows)


def lead(report: Report) -> list[str]:
    """Return what was done, a sentence each."""
    kind = str(report.attack["kind"])
    several = "".join(f"; {name}: {folder}" for name, folder in report.models.items())
    lines = [
        f"{kind} on {len(report.outcomes):,} rows of {report.table}{several}.",
        f"The classifier was right on {len(report.tried):,}, which were attacked, and was fooled on "
        f"{len(report.fooled):,} of these. Every changed text was tokenized and told anew from its characters.",
    ]
    if report.transfer is not None:
        lines.append(f"The other classifier is {report.transfer}; it was asked about texts of the same distributions.")
    return [*lines, *report.notes]


def page(report: Report) -> str:
    """Return the page; all texts of the table are escaped, and run in their own direction."""
    return sectioned(f"Attack on {report.model}", lead(report), [*_sections(report)], OWN_STYLE)


def _sections(report: Report) -> Iterator[tuple[str, str]]:
    """Yield the titles of the sections with their content."""
    yield "Accuracy", table(accuracies(report))
    drawn = "".join(
        figure(histogram(report, name, report.fooled), f"{name}, of the texts on which the classifier was fooled.")
        for name in MEASURES
        if report.fooled
    )
    yield "Changed texts", table(distributions(report)) + drawn
    yield "By class", table(classes(report))
    for title, several in shown(report).items():
        yield title, "".join(example(one) for one in several)


def shown(report: Report) -> dict[str, list[Outcome]]:
    """Return the examples that are shown, by title; those on which the classifier was fooled most similar first."""
    fooled = sorted(report.fooled, key=lambda one: -one.similarity.recall)
    held = [one for one in report.tried if not one.fooled]
    return {title: several[:SHOWN] for title, several in ((FOOLED, fooled), (HELD, held)) if several}


def histogram(report: Report, name: str, several: Sequence[Outcome]) -> str:
    """Return the histogram of a measure of outcomes, from 0 to 1."""
    values = [one.similarity.recall if name == MEASURES[0] else one.tokens_changed for one in several]
    counts, edges = np.histogram(np.clip(values, 0, 1), BARS, (0, 1))
    most = float(counts.max())
    upward = [(value, f"{value:g}") for value in ticks(max(most, 1.0)) if value == int(value)]
    frame = Frame(Axis(0, 1, WHOLE, name), Axis(0, max(most, 1.0), upward), left=LEFT + 20)
    drawn = [
        frame.bar("first", float(edges[place]), float(edges[place + 1]), 0, float(count))
        for place, count in enumerate(counts.tolist())
        if count
    ]
    return frame.svg(f"{name} of {len(values)} texts, mean {np.mean(values):.4f}", drawn)


def example(one: Outcome) -> str:
    """Return a row with its text before and after side by side, the words marked that differ."""
    told = [f"line {one.line}", f"truth <b><bdi>{escaped(one.label)}</bdi></b>"]
    told += [f"told <b><bdi>{escaped(one.after)}</bdi></b>", f"BERTScore recall {one.similarity.recall:.4f}"]
    told += [f"{one.tokens_changed:.0%} of the tokens changed", f"{one.queries:,} queries"]
    if one.perplexities is not None:
        told.append(f"perplexity {one.perplexities[0]:.4g}, then {one.perplexities[1]:.4g}")
    verdict = "".join(f"<span>{part}</span>" for part in told)
    fixed = [text for place, text in enumerate(one.texts) if place != one.attacked]
    kept = "".join(f'<p class="text" dir="auto">{escaped(text)}</p>' for text in fixed)
    before, after = differing(one.texts[one.attacked], one.changed)
    sides = "".join(
        f'<div><h3>{title}</h3><p class="text" dir="auto">{marked(words)}</p></div>'
        for title, words in (("as it is", before), ("changed", after))
    )
    return f'<article><p class="told">{verdict}</p>{kept}<div class="sides">{sides}</div></article>'


Words = list[tuple[str, bool]]
"""Words, and whether each is not in the other text."""


def differing(before: str, after: str) -> tuple[Words, Words]:
    """Return the words of both texts, each with whether it differs (longest matching blocks)."""
    one, other = before.split(), after.split()
    blocks = SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    same = {(block.a + place) for block in blocks for place in range(block.size)}
    too = {(block.b + place) for block in blocks for place in range(block.size)}
    return [(word, n not in same) for n, word in enumerate(one)], [(word, n not in too) for n, word in enumerate(other)]


def marked(words: Words) -> str:
    """Return words as HTML, with those that differ marked."""
    shown_words = (f"<mark>{escaped(word)}</mark>" if differs else escaped(word) for word, differs in words)
    return " ".join(shown_words) or "(empty)"


def written(report: Report) -> str:
    """Return the report as Markdown; texts are escaped."""
    parts = [f"# Attack on {plain(report.model)}", *map(plain, lead(report))]
    parts += ["## Accuracy", in_markdown(accuracies(report)), "## Changed texts", in_markdown(distributions(report))]
    parts += ["## By class", in_markdown(classes(report))]
    for title, several in shown(report).items():
        parts += [f"## {title}", *map(_entry, several)]
    return "\n\n".join(parts) + "\n"


def _entry(one: Outcome) -> str:
    """Return a row as an entry of a list, with its words in bold that differ."""
    told = f"* line {one.line}, truth **{plain(one.label)}**, told **{plain(one.after)}**, {one.queries:,} queries"
    lines = [told]
    for words in differing(one.texts[one.attacked], one.changed):
        text = " ".join(f"**{plain(word)}**" if differs else plain(word) for word, differs in words)
        lines += ["", f"  > {text or '(empty)'}"]
    return "\n".join(lines)
