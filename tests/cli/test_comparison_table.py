"""The comparison table: every member, every format reads back, and parameters agree with what authors report."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from genus import catalog
from genus.cli import main
from genus.cli.compared import GROUPS, cells, compared, deviation
from genus.model.norm import LayerNorm
from genus.optim.adafactor import Adafactor
from genus.optim.schedule import InverseSquareRoot
from genus.part import slots_of
from genus.tokens import TokenizerConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    Captured = pytest.CaptureFixture[str]

AS_COUNTED = 0.02
"""Authors round, and leave out heads, poolers or position vectors without saying so."""
FIRST = [next(iter(rows)) for rows in catalog.members().values()]
SURVEY = ["model type", "pre-train objective", "tokenization", "vocabulary", "unknown words", "embeddings", "attention"]
SURVEY += ["activations", "parameters", "optimizer", "schedule", "steps", "pre-train data", "batch"]
"""The columns of the field's surveys: training is optimizer, schedule and steps."""


def said(capsys: Captured, *arguments: str) -> str:
    """Run `genus table` and return what it prints."""
    capsys.readouterr()
    assert main(["table", *arguments]) == 0
    return capsys.readouterr().out


class Page(HTMLParser):
    """The cells of a page's table, and what it loads from elsewhere; each tag closed in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.loaded += [str(value) for name, value in attributes if name in {"src", "href"}]
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] in {"td", "th"}:
            self.rows[-1][-1] += text


def of_markdown(text: str) -> list[list[str]]:
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines()]
    assert all(set(cell) == {"-", " "} for cell in lines.pop(1))
    return [[cell.strip().replace(r"\|", "|") for cell in line] for line in lines]


def of_html(text: str) -> list[list[str]]:
    page = Page()
    page.feed(text)
    page.close()
    assert not page.open
    assert not page.loaded
    return page.rows


READERS: dict[str, Callable[[str], list[list[str]]]] = {
    "markdown": of_markdown,
    "csv": lambda text: list(csv.reader(io.StringIO(text))),
    "html": of_html,
}


@pytest.mark.parametrize("written", READERS)
@pytest.mark.parametrize("every_size", [False, True], ids=["members", "sizes"])
def test_every_format_reads_back(capsys: Captured, written: str, every_size: bool) -> None:
    options = ["--format", written, *(["--all"] if every_size else [])]
    header, lines = cells(compared(every_size))
    assert READERS[written](said(capsys, *options)) == [header, *lines]
    assert [line[0] for line in lines] == (catalog.names() if every_size else FIRST)
    assert set(header) >= set(SURVEY)


def boxes(text: str) -> dict[str, list[list[str]]]:
    """Return the tables of a text by title: lines of one row are joined."""
    found: dict[str, list[list[str]]] = {}
    for title, table in re.findall(r"^(\w[^\n]*)\n(┌.*?┘)$", text, re.MULTILINE | re.DOTALL):
        rows = re.split(r"\n├[^\n]*┤\n", table[table.index("\n") + 1 : table.rindex("\n")])
        parts = [[line[1:-1].split("│") for line in row.splitlines()] for row in rows]
        found[title] = [
            [" ".join(part.strip() for part in cell).strip() for cell in zip(*row, strict=True)] for row in parts
        ]
    return found


@pytest.mark.parametrize("width", [80, 100, 160])
def test_text_fits_the_terminal_and_loses_nothing(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = said(capsys, "--all")
    assert max(map(len, text.splitlines())) <= width
    header, lines = cells(compared(every_size=True))
    tables = boxes(text)
    assert list(tables) == list(GROUPS)
    for title, names in GROUPS.items():
        wanted = [[line[header.index(name)] for name in (header[0], *names)] for line in [header, *lines]]
        squeezed = [[cell.replace(" ", "") for cell in row] for row in tables[title]]
        assert squeezed == [[cell.replace(" ", "") for cell in row] for row in wanted]
    shown = {header[0], *(name for names in GROUPS.values() for name in names)}
    assert set(header) - shown == {"why"}
    for row in compared(every_size=True):
        assert row["why"] is None or f"{row['name']} deviates:" in text


def test_numbers_are_not_broken(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = said(capsys, "--all")
    assert all(f"{row['parameters']:,} " in text for row in compared(every_size=True))


def test_json_has_numbers(capsys: Captured) -> None:
    rows = json.loads(said(capsys, "--all", "--json"))
    assert [row["name"] for row in rows] == catalog.names()
    large = next(row for row in rows if row["name"] == "bert/large")
    assert (large["vocabulary"], large["without heads"], large["published"]) == (30_522, 335_141_888, 340_000_000)
    assert large["deviation"] == pytest.approx(336_226_108 / 340_000_000 - 1)
    assert json.loads(said(capsys, "--json")) == [row for row in rows if row["name"] in FIRST]


def test_what_is_known_of_bert(capsys: Captured) -> None:
    row = json.loads(said(capsys, "--json"))[FIRST.index("bert/base")]
    assert row["model type"] == "encoder, 12 layers of 768"
    assert row["pre-train objective"] == "masked LM (15%, single tokens) + next sentence"
    assert row["tokenization"] == "WordPiece, lower-cased"
    assert "[UNK]" in row["unknown words"]
    assert row["embeddings"] == "token + segment + learned position (512)"
    assert (row["attention"], row["activations"]) == ("softmax, 12 heads", "GELU")
    assert (row["optimizer"], row["schedule"]) == ("AdamW, peak rate 0.0001", "linear, warm-up 1%")
    assert (row["steps"], row["batch"]) == ("1,000,000 steps", "256 x 128 then 256 x 512")


@pytest.mark.parametrize("name", catalog.names())
def test_parameters_agree_with_the_published_or_the_recipe_says_why_not(name: str) -> None:
    """To half a unit of the last digit that is not 0, or nearly; and no reason is left over."""
    row = catalog.load(name)
    off, published = deviation(row), row.published.parameters
    if published is None or off is None:
        assert row.published.why is None
        return
    unit = 10 ** (len(str(published)) - len(str(published).rstrip("0")))
    agrees = abs(off) <= max(AS_COUNTED, unit / 2 / published)
    assert agrees != bool(row.published.why), f"{published:,} deviates by {off:+.1%}"


def test_no_cell_of_a_member_is_empty_but_what_its_authors_do_not_say() -> None:
    silent = {"published", "deviation", "why", "pre-train data"}
    for row in compared(every_size=True):
        assert not [column for column, fact in row.items() if fact in (None, "") and column not in silent], row["name"]


def test_words_come_from_the_parts() -> None:
    """A part has words for itself without a line of its own, and no tokenization leaves unknown words out."""
    assert [part.in_words for part in (LayerNorm(), InverseSquareRoot(), Adafactor(lr=0.01))] == [
        "layer norm",
        "inverse square root, warm-up 1%",
        "Adafactor, peak rate 0.01",
    ]
    for kind in slots_of(TokenizerConfig).values():  # type: ignore[type-abstract]  # a slot is abstract
        assert isinstance(kind.unknown, property)


def test_a_wrong_format_is_one_line(capsys: Captured) -> None:
    assert main(["table", "--format", "pdf"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
