"""Odd tables: nothing is lost or invented without a word, and what cannot be used is refused in one line."""

import datetime
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from genus.errors import GenusError
from genus.tasks import Task
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files, read
from genus.tasks.finetune import finetune
from genus.tasks.glue import GLUE
from genus.tasks.regression import Regression
from genus.tasks.report import Report
from genus.tasks.start import Start
from genus.tasks.tagging import Tagging
from genus.train.run import Run

CLASSES, NUMBERS, TAGS = Classification(), Regression(), Tagging()
ROWS = [{"text": f"a cat and saw {number}", "label": ["a", "b"][number % 2]} for number in range(12)]
CSV = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in ROWS)
TAGGED = [{"tokens": ["a", "cat", "saw"], "ner_tags": ["O", "B-X", "I-X"]}] * 8


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def each(rows: list[dict], **cells: Callable[[int], object]) -> str:
    """Return rows as JSON lines, with the cells of some columns replaced."""
    return lines(*(row | {name: cell(number) for name, cell in cells.items()} for number, row in enumerate(rows)))


def parquet(**columns: Any) -> bytes:
    pyarrow, out = pytest.importorskip("pyarrow"), io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), out)
    return out.getvalue()


@pytest.fixture
def tune(tmp_path: Path, start: Start, run: Run) -> Callable[..., Report]:
    """A function that writes tables and fine-tunes on them, briefly."""

    def made(task: Task = CLASSES, /, **tables: tuple[str, str | bytes]) -> Report:
        for split, (kind, content) in tables.items():
            data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
            (tmp_path / f"{split}.{kind}").write_bytes(data)
        settings = replace(start.recipe.finetuning, epochs=1.0)
        return finetune(start, task, Files.find(tmp_path), tmp_path / "out", settings=settings, seeds=(0,), run=run)

    return made


Case = tuple[Task, str, str | bytes | Callable[[], bytes], str]
"""Task, kind of file, its content, and what is said."""
REFUSED: dict[str, Case] = {
    "nothing": (CLASSES, "csv", "", "holds no rows"),
    "a header alone": (CLASSES, "csv", "text,label\n", "holds no rows"),
    "one class": (CLASSES, "jsonl", each(ROWS, label=lambda _: "a"), "all rows have the label 'a'"),
    "no label column": (CLASSES, "csv", CSV.replace("label", "mark"), "line 2: there is no column 'label'"),
    "a list as label": (
        CLASSES,
        "jsonl",
        each(ROWS, label=lambda n: [n]),
        r"line 1: column 'label' holds a list.*\[0\]",
    ),
    "an object as text": (
        CLASSES,
        "jsonl",
        each(ROWS, text=lambda n: {"id": n}),
        "line 1: column 'text' holds an object",
    ),
    "NaN as label": (
        CLASSES,
        "jsonl",
        each(ROWS, label=lambda n: float("nan") if n == 5 else n % 2),
        "line 6: there is no label",
    ),
    "NaN as label in text": (CLASSES, "csv", CSV.replace("saw 5,b", "saw 5,NaN"), "line 7: there is no label"),
    "infinity as label": (CLASSES, "jsonl", each(ROWS, label=lambda n: float("inf")), "holds inf, which is neither"),
    "a column twice": (CLASSES, "csv", CSV.replace("text,label", "label,label"), "there is no column 'text'"),
    "the label twice": (CLASSES, "csv", "text,label,label\na,b,c\n", "column 'label' stands there twice"),
    "a key twice": (CLASSES, "jsonl", '{"text": "a", "text": "b", "label": 1}\n', "column 'text' stands there twice"),
    "semicolons": (CLASSES, "csv", CSV.replace(",", ";"), "seem to be separated by ';', not by ','"),
    "tabs in a .csv": (CLASSES, "csv", CSV.replace(",", "\t"), r"seem to be separated by '\\t', not by ','"),
    "commas in a .tsv": (CLASSES, "tsv", CSV, r"seem to be separated by ',', not by '\\t'"),
    "a stray quote": (
        CLASSES,
        "csv",
        CSV.replace("a cat and saw 3", '"a cat" and saw 3'),
        "line 5: a quote is not closed",
    ),
    "an open quote": (CLASSES, "csv", CSV + '"open,a\n', "line 14: a quote is not closed"),
    "UTF-16": (CLASSES, "csv", CSV.encode("utf-16"), "is UTF-16, or no text"),
    "deep JSON": (CLASSES, "jsonl", '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "line 1: not JSON"),
    "deep JSON beside a lone surrogate": (
        CLASSES,
        "jsonl",
        '{"text": "\\ud800", "label": 1, "more": ' + "[" * 700 + "]" * 700 + "}\n",
        "line 1: not JSON",
    ),
    "one JSON array": (CLASSES, "jsonl", json.dumps(ROWS), "expected an object with named columns on each line"),
    "only empty texts": (CLASSES, "jsonl", each(ROWS, text=lambda _: " "), "no row has a text"),
    "a struct": (CLASSES, "parquet", lambda: parquet(text=[{"a": 1}] * 4, label=[0, 1] * 2), "holds an object"),
    "null in Parquet": (
        CLASSES,
        "parquet",
        lambda: parquet(text=["a"] * 4, label=[0, 1, None, 1]),
        "line 3: there is no label",
    ),
    "dates as numbers": (
        NUMBERS,
        "jsonl",
        each(ROWS, label=lambda n: f"2024-01-{n + 1:02}"),
        "line 1: label '2024-01-01' is not a number",
    ),
    "a number too large": (NUMBERS, "jsonl", each(ROWS, label=lambda n: 10**400), "is not a number that float32 holds"),
    "decimal commas": (NUMBERS, "jsonl", each(ROWS, label=lambda n: f"{n},5"), "label '0,5' is not a number"),
    "equal numbers": (NUMBERS, "jsonl", each(ROWS, label=lambda n: 3), "all rows have the label '3'"),
    "too small differences": (NUMBERS, "jsonl", each(ROWS, label=lambda n: 1e9 + n / 1000), "subtract a constant"),
    "three classes of a pair's": (
        GLUE["mrpc"],
        "jsonl",
        each(ROWS, sentence1=str, sentence2=str, label=lambda n: n % 3),
        "f1 is of one class of two, and there are 3; those that fit: accuracy, macro_f1, matthews",
    ),
    "a word without a tag": (TAGS, "jsonl", each(TAGGED, ner_tags=lambda _: ["O", None, "O"]), "word 2 has no tag"),
    "a list as word": (
        TAGS,
        "jsonl",
        each(TAGGED, tokens=lambda _: ["a", ["cat"], "saw"]),
        "column 'tokens' holds a list",
    ),
    "text as words": (TAGS, "jsonl", each(TAGGED, tokens=lambda _: "a cat saw"), "holds no list of words"),
}


@pytest.fixture
def shallow() -> Iterator[None]:
    """Set Python's own recursion limit, which PyTorch's compiler raises for the rest of a process."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(("task", "kind", "content", "says"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(tune: Callable, task: Task, kind: str, content: Any, says: str) -> None:
    with pytest.raises(GenusError, match=says) as caught:
        tune(task, train=(kind, content() if callable(content) else content))
    assert "\n" not in str(caught.value)


SAID: dict[str, Case] = {
    "Latin-1": (
        CLASSES,
        "csv",
        CSV.replace("cat", "cät").encode("latin-1"),
        "what is no UTF-8 is replaced by � .*(12, first in line 2)",
    ),
    "lone surrogates": (CLASSES, "jsonl", lines(*ROWS).replace("cat", "\\ud800"), "(12, first in line 1)"),
    "bytes in Parquet": (
        CLASSES,
        "parquet",
        lambda: parquet(text=[b"a\xff", b"b"] * 4, label=[0, 1] * 4),
        "(4, first in line 1)",
    ),
    "texts over several lines": (CLASSES, "csv", CSV + '"two\nlines",a\n', "quoted texts run on over several lines"),
    "missing texts": (
        CLASSES,
        "jsonl",
        each(ROWS, text=lambda n: float("nan") if n % 2 else "a cat"),
        "have an empty text",
    ),
    "missing texts in text": (
        CLASSES,
        "csv",
        CSV.replace("a cat and saw", "nan #")[:-1].replace("nan # 3", "nan"),
        "have an empty text",
    ),
    "long texts": (
        CLASSES,
        "jsonl",
        each(ROWS, text=lambda n: "a cat " * 99),
        "are longer than finetuning.max_length=32 tokens and lose their end",
    ),
    "a class like a missing value": (CLASSES, "csv", CSV + "a dog,None\n", "the label 'None' is a class"),
    "numbers as classes": (CLASSES, "jsonl", each(ROWS * 3, label=lambda n: n / 7), "36 classes in 36 rows"),
    "IOB1": (TAGS, "jsonl", each(TAGGED, ner_tags=lambda _: ["O", "I-X", "I-X"]), "entities also begin with I-"),
    "BIOES": (TAGS, "jsonl", each(TAGGED, ner_tags=lambda _: ["S-X", "B-X", "E-X"]), "the tags are BIOES"),
    "numbers as tags": (TAGS, "jsonl", each(TAGGED, ner_tags=lambda _: [0, 1, 2]), "the tags mark no entities"),
    "-100 as tag": (TAGS, "jsonl", each(TAGGED, ner_tags=lambda _: [-100, 1, 2]), "the tags include -100"),
    "long words": (
        TAGS,
        "jsonl",
        each(TAGGED, tokens=lambda _: ["q" * 50, "cat", "saw"]),
        "words are longer than finetuning.max_length",
    ),
}


@pytest.mark.parametrize(("task", "kind", "content", "says"), SAID.values(), ids=SAID)
def test_said_in_one_line(
    tune: Callable, capfd: pytest.CaptureFixture[str], task: Task, kind: str, content: Any, says: str
) -> None:
    tune(task, train=(kind, content() if callable(content) else content))
    said = capfd.readouterr().err.splitlines()
    parts = says.split(" .*")
    assert [line for line in said if all(part in line for part in parts)], said


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("csv", "\ufeff" + CSV),
        ("csv", CSV.replace("\n", "\r\n")),
        ("csv", CSV.replace("\n", "\n\n")),
        ("csv", CSV.replace("label\n", "label,,\n").replace("a\n", "a,,\n").replace("b\n", "b,,\n")),
        ("tsv", CSV.replace(",", "\t").replace("a cat", '"a" cat')),
        ("jsonl", each(ROWS, label=lambda n: bool(n % 2))),
        ("jsonl", each(ROWS, label=lambda n: [1, "1", 1.0, "one"][n % 4])),
        ("jsonl", each(ROWS, text=lambda n: n / 2)),
        ("jsonl", each(ROWS, label=lambda n: 10**30 + n % 2)),
        (
            "parquet",
            lambda: parquet(text=[*"abcdefghijkl"], label=[datetime.date(2024, 1, 1 + n % 2) for n in range(12)]),
        ),
        ("parquet", lambda: parquet(text=[*"abcdefghijkl"], label=[0.0, 1.0] * 6, other=[{"a": [1]}] * 12)),
    ],
)
def test_read_without_a_word(tune: Callable, capfd: pytest.CaptureFixture[str], kind: str, content: Any) -> None:
    report = tune(train=(kind, content() if callable(content) else content))
    assert sum(split.rows for split in report.data.values()) == len(ROWS)
    assert len(report.objective.classes) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("fine-tuning")]
    assert said == ["no validation table: 1 of 12 training rows are held out to choose the best weights"]


def test_a_test_table_says_how_many_rows_have_no_label(tune: Callable, capfd: pytest.CaptureFixture[str]) -> None:
    report = tune(train=("csv", CSV), test=("csv", CSV + "a dog,\na bird,nan\n"))
    assert "2 of 14 rows have no label, and are answered but not measured" in capfd.readouterr().err
    assert report.trials[0].metrics["test"]["accuracy"] is not None


def test_unread_columns_of_parquet_need_not_be_readable(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    when = pyarrow.array([1, 2], pyarrow.timestamp("ns"))
    (tmp_path / "a.parquet").write_bytes(parquet(text=["a", "b"], label=[0, 1], when=when))
    assert [row.label for row in read(tmp_path / "a.parquet", Classification())] == ["0", "1"]


def test_a_file_whose_name_is_no_utf8(tune: Callable, tmp_path: Path) -> None:
    name = tmp_path / b"train_\xff.csv".decode(errors="surrogateescape")
    try:
        name.write_text(CSV)
    except OSError:
        pytest.skip("the file system has no such names")
    assert tune().data["train"].rows == 11
