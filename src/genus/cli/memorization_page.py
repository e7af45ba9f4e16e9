"""The report of what a model has memorized, as a page and in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genus.cli.analysis_page import figure, sectioned, table
from genus.cli.analysis_plots import bar
from genus.cli.analysis_tables import Table
from genus.cli.curves import STYLE, Series, curves
from genus.cli.output import markdown
from genus.cli.plot import escaped
from genus.evaluate.interval import Interval

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 400
"""Characters of an example on either side of its run."""
SCORES = (
    "perplexity; small and medium: the ratio of log-perplexities to that of another model; zlib: log-perplexity over "
    "the bits of the compressed text; lowercase: the ratio to the perplexity of the text in lower case; window: the "
    "least perplexity of 50 tokens in a row (Carlini et al. 2020, section 6.1)."
)


def page(report: dict[str, Any]) -> str:
    """Return the page; all texts are escaped."""
    return sectioned(f"Memorization of {report['model']}", lead(report), [*_sections(report)], STYLE)


def written(report: dict[str, Any]) -> str:
    """Return the report in Markdown."""
    parts = [f"# Memorization of {report['model']}", *lead(report)]
    if report["precision"]:
        parts += ["## Precision of the best texts", SCORES, _markdown(precision(report)), "## All texts"]
        parts += [_markdown(rates(report))]
    if report["examples"]:
        parts += ["## Memorized texts", _markdown(runs(report))]
    if report["canaries"]:
        parts += ["## Canaries", _markdown(canaries(report))]
    return "\n\n".join(parts) + "\n"


def lead(report: dict[str, Any]) -> list[str]:
    """Return what was done, in sentences."""
    told = []
    if report["precision"]:
        total = sum(one["runs"] for one in report["rates"].values())
        told.append(f"{total:,} texts of at most {report['settings']['tokens']} tokens were written and looked up in "
                    f"{', '.join(report['corpus'])}. A text counts as memorized where {report['run_tokens']} tokens in "
                    "a row of what was written stand there, in the same characters.")  # fmt: skip
    if found := report["canaries"]:
        told.append(f"{len(found['each']):,} canaries: the exposure is log2 |R| - log2 rank among "
                    f"{found['compared']:,} secrets, at most {found['most']:.2f} bits; "
                    f"{found['extraction']}.")  # fmt: skip
    return [*told, "Intervals are of 95 %: Wilson's of shares, Student's t of means over canaries."]


def precision(report: dict[str, Any]) -> Table:
    """Return precision at k of each way and score."""
    rows = [
        [one["way"], one["score"], f"{one['best']:,}", f"{one['memorized']:,}", str(Interval(**one["precision"]))]
        for one in report["precision"]
    ]
    return Table(["way", "score", "k", "memorized", "precision at k"], rows)


def rates(report: dict[str, Any]) -> Table:
    """Return the share of all texts that have been memorized."""
    rows = [[way, f"{one['runs']:,}", str(Interval(**one))] for way, one in report["rates"].items()]
    return Table(["way", "texts", "memorized"], rows)


def runs(report: dict[str, Any]) -> Table:
    """Return memorized runs with where they stand."""
    rows = [
        [f"{one['way']} {one['number']}", f"{one['run_tokens']:,}", f"{one['run_characters']:,}",
         f"{one['documents']:,}", _places(one), " ".join(one["run"].split())]
        for one in report["examples"]
    ]  # fmt: skip
    return Table(["text", "tokens", "characters", "documents", "in", "what"], rows)


def canaries(report: dict[str, Any]) -> Table:
    """Return extraction and exposure by repetitions."""
    counted = any("occurrences" in row for row in report["canaries"]["by_repetitions"])
    header = ["planted", *(["in the text"] if counted else []), "canaries", "extracted", "exposure, bits"]
    rows = [
        [f"{row['repetitions']:,}", *([f"{row['occurrences']:g}"] if counted else []), f"{row['canaries']:,}",
         str(Interval(**row["extracted"])), str(Interval(**row["exposure"]))]
        for row in report["canaries"]["by_repetitions"]
    ]  # fmt: skip
    return Table(header, rows)


def _sections(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if report["precision"]:
        bars = [bar(one["precision"]["mean"]) for one in report["precision"]]
        note = f'<p class="note">{escaped(SCORES)}</p>'
        yield "Precision of the best texts", table(precision(report), bars, "precision") + note
        yield "All texts", table(rates(report))
    if report["examples"]:
        yield "Memorized texts", "".join(_example(one) for one in report["examples"])
    if found := report["canaries"]:
        rows = found["by_repetitions"]
        points = [(row["repetitions"], Interval(**row["extracted"])) for row in rows]
        first = curves([Series("extracted", points)], "times planted", "extracted", logarithmic=True, span=(0.0, 1.0))
        points = [(row["repetitions"], Interval(**row["exposure"])) for row in rows]
        second = curves(
            [Series("exposure", points)], "times planted", "bits", logarithmic=True, span=(0.0, found["most"])
        )
        drawn = figure(first, "Share of the secrets that were extracted.") + figure(second, "Exposure.")
        yield "Canaries", f'<div class="pair">{drawn}</div>{table(canaries(report))}'


def _example(one: dict[str, Any]) -> str:
    told = [f"{one['way']} {one['number']}", f"{one['run_tokens']} tokens, {one['run_characters']} characters"]
    told += [f"in {one['documents']:,} document{'' if one['documents'] == 1 else 's'}: {_places(one)}"]
    verdict = "".join(f"<span><bdi>{escaped(part)}</bdi></span>" for part in told)
    before, after = one["before"][-LONG:], one["after"][:LONG]
    text = f"{escaped(before)}<mark>{escaped(one['run'])}</mark>{escaped(after)}"
    return f'<article><p class="told">{verdict}</p><p class="text" dir="auto" tabindex="0">{text}</p></article>'


def _places(one: dict[str, Any]) -> str:
    names = ("source", "row", "id")
    return "; ".join(" ".join(str(each[name]) for name in names if name in each) for each in one["shown"])


def _markdown(found: Table) -> str:
    return markdown(found.header, found.rows)
