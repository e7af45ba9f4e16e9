"""An error analysis as one HTML page that holds its own style and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genus.cli import analysis_plots as plots
from genus.cli import analysis_tables as tables
from genus.cli.plot import STYLE, document, escaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genus.analysis.findings import Classes, Confusion, Example, Findings, Passage, Word
    from genus.cli.analysis_tables import Table

OWN_STYLE = """
:root { --for: 22, 100, 192; --against: 194, 80, 28 }
@media (prefers-color-scheme: dark) { :root { --for: 111, 177, 255; --against: 255, 154, 102 } }
body { max-width: 54rem }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem } a { color: var(--first) }
.wide { overflow-x: auto } .wide:focus-visible, .text:focus-visible, svg:focus-visible, summary:focus-visible {
  outline: 2px solid var(--first); outline-offset: 2px }
td, th { vertical-align: middle; padding-left: .6rem } td:first-child, th:first-child { padding-left: 0 }
td { overflow-wrap: anywhere; min-width: 6rem }
td.number, th.number { text-align: right; white-space: nowrap; min-width: 0 }
.confusion { width: auto }
.confusion th, .confusion td, .confusion th:first-child { text-align: center; border: 1px solid var(--line);
  padding: .3rem .5rem; max-width: 9rem; min-width: 2.4rem; overflow-wrap: anywhere }
.confusion tbody th:first-child { text-align: right; min-width: 4rem }
.confusion td { background: rgba(var(--for), calc(var(--s) * .5)); font-variant-numeric: tabular-nums }
.confusion td.off { background: rgba(var(--against), calc(var(--s) * .5)) }
figure { margin: 1rem 0 } figcaption { color: var(--faint); font-size: .9rem } details { margin: .4rem 0 }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem }
.pair > * { min-width: 0 } summary { cursor: pointer; color: var(--first) }
svg circle.first { fill: var(--first) } svg circle.second { fill: var(--second) } svg circle.faint { fill-opacity: .45 }
svg rect.first { fill: var(--first); fill-opacity: .35; stroke: var(--first) } svg path.dashed { stroke-dasharray: 5 4 }
article { border: 1px solid var(--line); border-radius: .4rem; padding: .6rem .9rem; margin: .8rem 0 }
article p { margin: .35rem 0 }
.text { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 16rem; overflow-y: auto }
.text span { border-radius: .2rem } .text .for { background: rgba(var(--for), calc(var(--s) * .55)) }
.text .against { background: rgba(var(--against), calc(var(--s) * .55)); border-bottom: 2px dotted var(--second) }
.text .weak { border-bottom: none } .text .unread { color: var(--faint) }
.text mark { background: none; color: inherit; border-radius: .2rem; padding: 0 .15rem;
  box-shadow: inset 0 0 0 1.5px var(--ink) }
.told { display: flex; flex-wrap: wrap; gap: 0 1.2rem } .told b { font-weight: 600 } .told bdi, bdi {
  overflow-wrap: anywhere }
.key span { padding: 0 .4rem; border-radius: .2rem; color: var(--ink) } .key .for { background: rgba(var(--for), .4) }
.key .against { background: rgba(var(--against), .4); border-bottom: 2px dotted var(--second) }
@media (max-width: 34rem) { .shares { display: none } table { font-size: .9rem } td { min-width: 4.5rem } }
"""
UNDERLINED = 0.25
"""Share of the largest number of a text under which a word below 0 is not underlined."""
LONG = 300
"""Characters of a text that may need scrolling, and so the keyboard."""


def page(found: Findings) -> str:
    """Return the page; all texts of the table are escaped, and run in their own direction."""
    return sectioned(f"Errors of {found.model}", tables.lead(found), [*_sections(found)])


def sectioned(title: str, lead: Sequence[str], sections: Sequence[tuple[str, str]], style: str = "") -> str:
    """Return a page of sections, given by their titles and content, below sentences and links to them."""
    links = "".join(f'<a href="#{_anchor(name)}">{escaped(name)}</a>' for name, _ in sections)
    told = "".join(f'<p dir="auto">{escaped(line)}</p>' for line in lead)
    parts = [f'<section id="{_anchor(name)}"><h2>{escaped(name)}</h2>{body}</section>' for name, body in sections]
    body = f'{told}<nav aria-label="sections">{links}</nav>{"".join(parts)}'
    return document(title, STYLE + OWN_STYLE + style, body)


def _sections(found: Findings) -> Iterator[tuple[str, str]]:
    """Yield the titles of the sections with their content."""
    if found.metrics:
        yield "Metrics", table(tables.metrics(found))
    if found.classes is not None:
        yield f"By {found.classes.what}", _classes(found.classes)
        if found.classes.confusion is not None:
            yield "Confusions", confusion(found.classes.confusion)
    if found.numbers is not None:
        one = found.numbers
        pair = plots.scatter(one, _told("Predicted numbers against true ones", tables.numbers(one)))
        other = plots.residuals(one, "Histogram of predicted minus true numbers")
        captions = "Predicted (upward) against true; equal on the dashed line.", "How many are how far off."
        figures = "".join(figure(*both) for both in zip((pair, other), captions, strict=True))
        yield "Numbers", f'<div class="pair">{figures}</div>{table(tables.numbers(one))}'
    for grouping in found.groupings:
        name = next(iter(found.metrics), "")
        shown = tables.groups(grouping)
        drawn = plots.scores(grouping, name, _told(f"{name} by {grouping.by}", shown))
        note = f'<p class="note">Groups are {escaped(grouping.note)}.</p>' if grouping.note else ""
        yield f"By {grouping.by}", (figure(drawn, "With 95 % intervals.") if drawn else "") + note + table(shown)
    if found.calibration is not None:
        yield "Calibration", _calibration(found)
    for why, several in found.examples.items():
        yield why, _key() + "".join(example(one) for one in several)


def _classes(found: Classes) -> str:
    unseen = ", ".join(found.unseen)
    absent = f'<p class="note" dir="auto">Neither true nor told anywhere: {escaped(unseen)}.</p>' if unseen else ""
    of_labels = table(tables.labels(found)) if found.labels else ""
    scored, places = tables.classes(found), len(found.report.classes)
    f1 = [one.f1 for one in found.report.classes]
    bars = [plots.bar(share) for share in f1] + [""] * (len(scored.rows) - places)
    return table(scored, bars) + '<p class="note">A ratio without a denominator is 0.</p>' + absent + of_labels


def confusion(found: Confusion) -> str:
    """Return a confusion matrix, each count shaded by its share of the true class, and the most frequent confusions."""
    shown = tables.shown(found)
    heads = "".join(f'<th scope="col" dir="auto">{escaped(name)}</th>' for name in shown.classes)
    lines = []
    for true, (name, row) in enumerate(zip(shown.classes, shown.counts, strict=True)):
        total = max(1, sum(found.counts[found.classes.index(name)]))
        cells = "".join(
            f'<td{"" if true == told else " class=off"} style="--s:{count / total:.3f}">{count:,}</td>'
            for told, count in enumerate(row)
        )
        lines.append(f'<tr><th scope="row" dir="auto">{escaped(name)}</th>{cells}</tr>')
    part = ""
    if len(shown.classes) < len(found.classes):
        part = f" The {len(shown.classes)} of {len(found.classes)} classes with the most errors."
    caption = f"True classes are rows, told ones columns; shaded by the share of the true class.{part}"
    head = f"<thead><tr><th>truth \\ told</th>{heads}</tr></thead>"
    grid = f'<table class="confusion">{head}<tbody>{"".join(lines)}</tbody></table>'
    most = tables.confusions(found)
    listed = f"<h3>Most frequent</h3>{table(most)}" if most.rows else ""
    return f'<p class="note">{caption}</p>{_wide(grid, "confusion matrix")}{listed}'


def _calibration(found: Findings) -> str:
    before, one = found.calibration, found.calibrated
    assert before is not None
    several = {"": before} if one is None else {"before": before, "after": one.after}
    figures = ""
    for name, each in several.items():
        told = f"Reliability diagram{f' {name}' if name else ''}: ECE {each.ece:.4f}"
        drawn = plots.reliability(each, _told(told, tables.bins(each)))
        first = f"{name.capitalize()}: bars" if name else "Bars"
        caption = f"{first} are the share of right ones, dots stand at the mean probability."
        figures += figure(drawn, caption, table(tables.bins(each)))
    parts = f'<p class="note">{escaped(tables.METHOD["calibration"])}</p><div class="pair">{figures}</div>'
    parts += table(tables.calibrations(before, None if one is None else one.after))
    if one is not None:
        fitted = f"The temperature {one.temperature:.4g} was fitted on {one.decisions:,} decisions of {one.table}."
        parts += f'<p dir="auto">{escaped(fitted)} The model with it is in <code>{escaped(one.model)}</code>.</p>'
    return parts


def _key() -> str:
    """Return what colors of words mean."""
    colors = '<span class="for">above 0</span> <span class="against">below 0</span>, faint: not read'
    return f'<p class="key note">Words: {colors}. {escaped(tables.METHOD["examples"])}</p>'


def example(one: Example) -> str:
    """Return an answer with its texts, the words shaded by what they contribute."""
    told = [f"line {one.line}" + (f", <bdi>{escaped(one.id)}</bdi>" if one.id else "")]
    told += [f"truth <b><bdi>{escaped(one.truth)}</bdi></b>"] if one.truth else []
    told += [f"told <b><bdi>{escaped(one.predicted)}</bdi></b>"]
    told += [] if one.probability is None else [f"probability {one.probability:.4f}"]
    verdict = "".join(f"<span>{part}</span>" for part in told)
    largest = max((abs(value) for each in one.passages for *_, value in each.words if value is not None), default=0.0)
    texts = "".join(passage(each, largest) for each in one.passages)
    sums = ", ".join(f"{each.total:+.3g}" for each in one.passages)
    several = "of the texts " if len(one.passages) > 1 else "of the text "
    note = f"<bdi>{escaped(one.explains)}</bdi>: {several}{sums}, of special tokens {one.special:+.3g}"
    return f'<article><p class="told">{verdict}</p>{texts}<p class="note">{note}</p></article>'


def passage(found: Passage, largest: float) -> str:
    """Return a text with its words shaded, relative to the largest number of the example."""
    parts, at = [], 0
    for word in found.words:
        start, end, _ = word
        parts += [escaped(found.text[at:start]), _word(found, word, largest)]
        at = end
    parts.append(escaped(found.text[at:]))
    scrolled = ' tabindex="0"' if len(found.text) > LONG else ""
    return f'<p class="text" dir="auto"{scrolled}>{"".join(parts) or "(empty)"}</p>'


def _word(found: Passage, word: Word, largest: float) -> str:
    start, end, value = word
    shown = escaped(found.text[start:end])
    if any(first < end and start < last for first, last in found.marks):
        shown = f"<mark>{shown}</mark>"
    if value is None:
        return f'<span class="unread">{shown}</span>'
    share = abs(value) / largest if largest else 0.0
    kind = "for" if value >= 0 else "against" if share >= UNDERLINED else "against weak"
    return f'<span class="{kind}" style="--s:{share:.2f}" title="{value:+.3g}">{shown}</span>'


def table(found: Table, bars: list[str] | None = None, over: str = "F1") -> str:
    """Return a table, which scrolls by itself where it is wide; `bars` are a last column, with `over` above them."""
    numeric = [all(_is_number(cell) for cell in column) for column in zip(*found.rows, strict=True)]
    kinds = [" class=number" if place and right else "" for place, right in enumerate(numeric or [False] * 9)]
    heads = "".join(
        f'<th scope="col"{kind}>{escaped(name)}</th>' for kind, name in zip(kinds, found.header, strict=False)
    )
    lines = []
    for place, row in enumerate(found.rows):
        cells = "".join(f'<td dir="auto"{kind}>{escaped(cell)}</td>' for kind, cell in zip(kinds, row, strict=False))
        cells += f'<td class="shares">{bars[place]}</td>' if bars else ""
        lines.append(f"<tr>{cells}</tr>")
    heads += f'<th class="shares">{escaped(over)}</th>' if bars else ""
    head = f"<thead><tr>{heads}</tr></thead>"
    return _wide(f"<table>{head}<tbody>{''.join(lines)}</tbody></table>", found.header[0])


def _is_number(cell: str) -> bool:
    """Return whether a cell is empty, or begins as a number with or without an interval."""
    return not cell or cell == tables.UNDEFINED or cell.lstrip("+-")[:1].isdigit()


def _wide(content: str, name: str) -> str:
    return f'<div class="wide" tabindex="0" role="region" aria-label="{escaped(name)}">{content}</div>'


def figure(drawn: str, caption: str, inside: str = "") -> str:
    """Return a figure with its caption, and more of it that unfolds."""
    more = f"<details><summary>the numbers</summary>{inside}</details>" if inside else ""
    return f"<figure>{drawn}<figcaption>{escaped(caption)}</figcaption>{more}</figure>"


def _told(title: str, found: Table) -> str:
    """Return a figure in words: its title and its numbers."""
    rows = "; ".join(
        ", ".join(f"{head} {cell}".strip() for head, cell in zip(found.header, row, strict=True)) for row in found.rows
    )
    return f"{title}. {rows}"


def _anchor(title: str) -> str:
    return "-".join(title.lower().split())
