"""The report of a curation as one HTML page that holds its own style and figures."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from genus.cli.analysis_page import figure, sectioned, table
from genus.cli.analysis_plots import NAMES, ROW, bar, short
from genus.cli.analysis_tables import Table
from genus.cli.output import scaled
from genus.cli.plot import LEFT, Axis, Frame, escaped, ticks
from genus.curate.report import by_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STYLE = """
svg rect.second { fill: var(--second); fill-opacity: .35; stroke: var(--second) }
pre { white-space: pre-wrap }
"""
SOURCES, GROUPS, ROWS = 50, 20, 50
"""Most sources, groups of documents, and rows of evaluation tables that are listed."""
EXPONENTS = 4
"""Powers of two between two labels of the axis of lengths, of many."""


def page(report: dict[str, Any], name: str) -> str:
    """Return the page of a report; all texts of the corpus are escaped, and run in their own direction."""
    return sectioned(f"Curation of {name}", lead(report), [*sections(report)], STYLE)


def lead(report: Mapping[str, Any]) -> list[str]:
    """Return what was read and kept, in sentences."""
    read, kept = report["read"], report["kept"]
    shares = ", ".join(f"{kept[unit] / read[unit]:.1%} of {unit}" for unit in read if read[unit])
    told = [f"{_sizes(read)} were read, {_sizes(kept)} were kept{f': {shares}' if shares else ''}."]
    if text := report.get("text"):
        told.append("While reading: " + ", ".join(f"{number:,} {what}" for what, number in text.items()) + ".")
    return told


def sections(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the titles of the sections with their content."""
    yield "What is left", left(report)
    if report["removed"]:
        yield "Rules", rules(report)
    if lengths := report.get("lengths"):
        yield (
            "Lengths",
            figure(histogram(lengths), "Documents by their length; each bar spans lengths up to its double."),
        )
    for step, groups in report.get("groups", {}).items():
        yield f"Groups of {step}", grouped(groups)
    for step, facts in report.get("facts", {}).items():
        yield f"Found by {step}", found(facts)
    if tables := by_table(report):
        yield "Evaluation tables", evaluation(report, tables)
    yield "Sources", sources(report.get("sources", {}))
    if report["removed"]:
        yield "Samples", samples(report["removed"])
    yield "Made from", made_from(report["made_from"])


def left(report: Mapping[str, Any]) -> str:
    """Return how many documents each step leaves."""
    documents = report["read"]["documents"]
    rows = [("read", documents)]
    for place, step in enumerate(report["made_from"]["curation"]["steps"]):
        name = f"{place} {step['kind']}"
        gone = report["removed"].get(name, {}).values()
        rows.append((name, rows[-1][1] - sum(rule.get("documents", 0) for rule in gone)))
    return figure(horizontal(rows, "documents"), "Documents that are left after each step.")


def rules(report: Mapping[str, Any]) -> str:
    """Return what each rule removed, and how many documents each step changed."""
    units = [unit for unit in report["read"] if unit not in ("documents", "bytes")]
    rows, bars = [], []
    for step, of_step in report["removed"].items():
        for rule, gone in of_step.items():
            counts = [f"{gone[what]:,}" if what in gone else "" for what in ("documents", "lines")]
            rows.append(
                [step, rule, *counts, scaled(gone["bytes"], "B"), *(f"{gone.get(unit, 0):,}" for unit in units)]
            )
            bars.append(bar(gone["bytes"] / max(1, report["read"]["bytes"])))
    removed = table(Table(["step", "rule", "documents", "lines", "bytes", *units], rows), bars, "of the bytes read")
    changed = [[step, f"{one['documents']:,}"] for step, one in report.get("changed", {}).items()]
    return removed + (table(Table(["step", "documents that it changed"], changed)) if changed else "")


def histogram(lengths: Mapping[str, Mapping[str, int]]) -> str:
    """Return how many documents that were read and kept have a length of 2^n to 2^(n+1) - 1 characters."""
    counts = {what: {int(low).bit_length() - 1: n for low, n in found.items()} for what, found in lengths.items()}
    powers = [power for found in counts.values() for power in found]
    low, high = min(powers), max(powers) + 1
    step = 1 if high - low <= EXPONENTS * 2 else 2 if high - low <= EXPONENTS * 4 else EXPONENTS
    labels = [(float(power), binary(power)) for power in range(low, high + 1, step)]
    most = float(max(n for found in counts.values() for n in found.values()))
    upward = [(value, scaled(value)) for value in ticks(max(most, 1.0)) if value == int(value)]
    frame = Frame(Axis(low, high, labels, "characters (k: 1,024)"), Axis(0, max(most, 1.0), upward), left=LEFT + 28)
    drawn = []
    for kind, what, begin in (("second", "read", 0.1), ("first", "kept", 0.5)):
        for power, number in counts.get(what, {}).items():
            drawn.append(frame.bar(kind, power + begin, power + begin + 0.4, 0, number))
    x, y = frame.at_x(high) - 4, frame.at_y(most) + 12
    drawn.append(f'<text class="second" x="{x:.1f}" y="{y:.1f}" text-anchor="end">read</text>')
    drawn.append(f'<text class="first" x="{x:.1f}" y="{y + 16:.1f}" text-anchor="end">kept</text>')
    told = "; ".join(
        f"{what}: " + ", ".join(f"{n} of {2**power} characters and more" for power, n in sorted(found.items()))
        for what, found in counts.items()
    )
    return frame.svg(f"Lengths of documents. {told}", drawn)


def binary(power: int) -> str:
    """Return a power of two, such as `512` or `16k`."""
    return f"{1 << power % 10}{('', 'k', 'M', 'G')[min(3, power // 10)]}"


def horizontal(rows: Sequence[tuple[str, int]], unit: str) -> str:
    """Return a bar for each named number."""
    most = float(max(1, *(number for _, number in rows)))
    names = [(-float(place), short(name)) for place, (name, _) in enumerate(rows)]
    labels = [(value, scaled(value)) for value in ticks(most)]
    frame = Frame(Axis(0, most, labels, unit), Axis(-len(rows) + 0.5, 0.5, names), ROW * len(rows) + 52, NAMES)
    drawn = [
        frame.bar("first", 0, number, -place - 0.32, -place + 0.32) for place, (_, number) in enumerate(rows) if number
    ]
    return frame.svg("; ".join(f"{name}: {number:,} {unit}" for name, number in rows), drawn)


def grouped(groups: Mapping[str, Mapping[str, int]]) -> str:
    """Return the groups of a step, such as languages, the largest first; ranges of numbers in their order."""
    ranges = all(name.split(" ")[0].replace(".", "").replace("e+", "").isdigit() for name in groups)
    order = (lambda one: float(one[0].split(" ")[0])) if ranges else (lambda one: -one[1]["documents"])
    listed = sorted(groups.items(), key=order)
    shown = listed if ranges else listed[:GROUPS]
    drawn = horizontal([(name, one["documents"]) for name, one in shown], "documents")
    rows = [[name, f"{one['documents']:,}", scaled(one["bytes"], "B")] for name, one in listed]
    more = f" The {GROUPS} largest of {len(listed)}." if len(shown) < len(listed) else ""
    numbers = table(Table(["group", "documents", "bytes"], rows))
    return figure(drawn, f"Documents by group, before the step removes any.{more}", numbers)


def found(facts: Mapping[str, Any]) -> str:
    """Return what a step that knows the whole corpus tells of it."""
    parts = []
    if plain := [[name, f"{value:,}" if isinstance(value, int) else str(value)] for name, value in facts.items()
                 if not isinstance(value, dict | list)]:  # fmt: skip
        parts.append(table(Table(["what", ""], plain)))
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            rows = [[size, f"{number:,}"] for size, number in value.items()]
            most = max(value.values())
            parts.append(table(Table([name, "number"], rows), [bar(number / most) for number in value.values()], ""))
        elif isinstance(value, list) and value:
            parts.append(f"<h3>{escaped(name.capitalize())}</h3>")
            for one in value:
                texts = "".join(f'<p class="text" dir="auto">{escaped(text)}</p>' for text in one["texts"])
                parts.append(f'<article><p class="note">{one["documents"]:,} documents</p>{texts}</article>')
    return "".join(parts)


def evaluation(report: Mapping[str, Any], tables: Mapping[str, Sequence[int]]) -> str:
    """Return in how many documents rows of evaluation tables are."""
    rows = [[name, f"{len(numbers):,}", f"{sum(numbers):,}"] for name, numbers in tables.items()]
    each: Counter[str] = Counter()
    for names in report["found"].values():
        each.update(names)
    single = [[name, f"{number:,}"] for name, number in each.most_common(ROWS)]
    more = f"<details><summary>the rows</summary>{table(Table(['row', 'documents'], single))}</details>"
    return table(Table(["table", "rows of it", "documents"], rows)) + more


def sources(found: Mapping[str, Any]) -> str:
    """Return what was read and kept of each source, the largest first."""
    listed = sorted(found.items(), key=lambda source: -source[1].get("read", {}).get("bytes", 0))
    nothing = {"documents": 0, "bytes": 0}
    rows, bars = [], []
    for name, one in listed[:SOURCES]:
        read, kept = one.get("read", nothing), one.get("kept", nothing)
        cells = [
            f"{read['documents']:,}",
            f"{kept['documents']:,}",
            scaled(read["bytes"], "B"),
            scaled(kept["bytes"], "B"),
        ]
        rows.append([name, *cells, *(f"{kept['tokens']:,}" for _ in range("tokens" in kept))])
        bars.append(bar(kept["bytes"] / max(1, read["bytes"])))
    header = ["source", "read", "kept", "bytes read", "bytes kept"]
    header += ["tokens kept"] if any(len(row) > len(header) for row in rows) else []
    rows = [row + [""] * (len(header) - len(row)) for row in rows]
    more = f'<p class="note">And {len(listed) - SOURCES:,} smaller ones.</p>' if len(listed) > SOURCES else ""
    return table(Table(header, rows), bars, "bytes kept") + more


def samples(removed: Mapping[str, Any]) -> str:
    """Return the first texts that each rule removed."""
    parts = []
    for step, of_step in removed.items():
        for rule, gone in of_step.items():
            counts = ", ".join(f"{gone[what]:,} {what}" for what in ("documents", "lines") if what in gone)
            texts = "".join(_sample(sample) for sample in gone["samples"])
            parts.append(f"<details><summary>{escaped(f'{step}, {rule}: {counts}')}</summary>{texts}</details>")
    return "".join(parts)


def made_from(identity: Mapping[str, Any]) -> str:
    """Return the steps with all their choices, and the files of text."""
    rows = [[one["name"], scaled(one["size"], "B"), one["sha256"][:16]] for one in identity["text"][:SOURCES]]
    more = len(identity["text"]) - len(rows)
    rest = f'<p class="note">And {more:,} more.</p>' if more > 0 else ""
    choices = json.dumps(identity["curation"], indent=2, ensure_ascii=False)
    steps = f"<details><summary>the steps</summary><pre>{escaped(choices)}</pre></details>"
    return table(Table(["file", "size", "SHA-256"], rows)) + rest + steps


def _sample(sample: Mapping[str, Any]) -> str:
    where = f"{sample.get('source', '')}, {sample.get('row', '')}"
    text = escaped(sample["text"])
    return f'<article><p class="note"><bdi>{escaped(where)}</bdi></p><p class="text" dir="auto">{text}</p></article>'


def _sizes(one: Mapping[str, int]) -> str:
    tokens = f", {scaled(one['tokens'])} tokens" if "tokens" in one else ""
    return f"{one['documents']:,} documents ({scaled(one['bytes'], 'B')}{tokens})"
