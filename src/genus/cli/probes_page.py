"""The report of probes, as a page and in Markdown."""

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

NOTES = {
    "cloze": "The rank is that of the best expected word's first token among all tokens, the probability that of all "
    "its tokens. A causal model reads what stands before the gap alone.",
    "pairs": "Above 0 the first word is likelier, by so many nats, less what it is likelier by in the neutral one. "
    "A few templates say something of these templates, and little of a model's use.",
    "layers": "Logistic regression on the mean of a text's states, which are as pretraining left them; 0 are the "
    "embeddings. What a probe finds is there to be read, and need not be used.",
}
"""What the numbers mean, by section."""
LEAD = "What a model knows without being fine-tuned. Intervals are of 95 %."
TITLES = {"cloze": "Missing words", "pairs": "Pairs", "layers": "Layers"}


def page(report: dict[str, Any]) -> str:
    """Return the page; all texts are escaped."""
    return sectioned(f"Probes of {report['model']}", [LEAD], [*_sections(report)], STYLE)


def written(report: dict[str, Any]) -> str:
    """Return the report in Markdown."""
    parts = [f"# Probes of {report['model']}", LEAD]
    for name, found in tables(report):
        parts += [f"## {TITLES[name]}", NOTES[name], markdown(found.header, found.rows)]
    if report["cloze"]:
        found = sentences(report)
        parts += ["## Sentences", markdown(found.header, found.rows)]
    return "\n\n".join(parts) + "\n"


def tables(report: dict[str, Any]) -> Iterator[tuple[str, Table]]:
    """Yield the name of each probe with its figures."""
    for name in ("cloze", "pairs"):
        if found := report[name]:
            metrics = [*next(iter(found["kinds"].values()))]
            rows = [
                [kind, f"{next(iter(some.values()))['runs']:,}", *(str(Interval(**some[one])) for one in metrics)]
                for kind, some in found["kinds"].items()
            ]
            yield name, Table(["kind", "rows", *metrics], rows)
    if found := report["layers"]:
        rows = [[layer, str(Interval(**one))] for layer, one in found["accuracy"].items()]
        yield "layers", Table(["layer", "accuracy"], [*rows, ["majority", str(Interval(**found["majority"]))]])


def sentences(report: dict[str, Any]) -> Table:
    """Return each sentence with what was expected and what was told."""
    rows = [
        [one["text"], one["kind"], one["told"], f"{one['rank']:,}",
         ", ".join(f"{word['word']} {word['probability']:.2g}" for word in one["words"])]
        for one in report["cloze"]["each"]
    ]  # fmt: skip
    return Table(["sentence", "kind", "most probable", "rank", "expected, with probability"], rows)


def _sections(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, found in tables(report):
        note = f'<p class="note">{escaped(NOTES[name])}</p>'
        if name == "layers":
            told = report["layers"]
            points = [(float(layer), Interval(**one)) for layer, one in told["accuracy"].items()]
            usual = Interval(told["majority"]["mean"], None, None, told["majority"]["runs"])
            flat = [(points[0][0], usual), (points[-1][0], usual)]
            drawn = curves([Series("probe", points), Series("majority", flat)], "layer", "accuracy", span=(0.0, 1.0))
            yield TITLES[name], note + figure(drawn, "Accuracy of linear probes by layer.", table(found))
        else:
            key = [*next(iter(report[name]["kinds"].values()))]
            share = key[0] if name == "cloze" else key[1]
            bars = [bar(some[share]["mean"]) for some in report[name]["kinds"].values()]
            yield TITLES[name], table(found, bars, share) + note
    if report["cloze"]:
        yield "Sentences", table(sentences(report))
