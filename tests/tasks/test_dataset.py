"""Columns, labels and splits of a task's tables, and what is said where they do not fit."""

import json
from pathlib import Path

import numpy as np
import pytest

from genus.batch import IGNORE
from genus.errors import GenusError, UsageError
from genus.objectives.supervised.sequence import SequenceClassification, SequenceRegression
from genus.tasks import Task
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files, LabeledRow, hold_out, read, targets, without_placeholders
from genus.tasks.glue import GLUE
from genus.tasks.regression import Regression
from genus.tasks.splits import read_splits


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_labels_are_alike_from_every_kind_of_table(tmp_path: Path) -> None:
    rows = write(
        tmp_path / "a.jsonl", [{"text": "a", "label": label} for label in (1, 1.0, "1", " 1 ", True, "", None)]
    )
    assert [row.label for row in read(rows, Classification())] == ["1", "1", "1", "1", "True", None, None]
    table = tmp_path / "b.csv"
    table.write_text("text,label\na,1\nb,\n")
    assert read(table, Classification()) == [LabeledRow(2, ("a",), "1"), LabeledRow(3, ("b",), None)]


def test_any_column_names_and_pairs(tmp_path: Path) -> None:
    rows = write(tmp_path / "a.jsonl", [{"q1": "a", "q2": 7, "same": "no", "id": 0}])
    assert read(rows, Classification(texts=("q1", "q2"), label="same")) == [LabeledRow(1, ("a", "7"), "no")]


def test_missing_column_names_the_near_ones(tmp_path: Path) -> None:
    rows = write(tmp_path / "a.jsonl", [{"sentence1": "a", "sentence2": "b", "gold": 1}])
    with pytest.raises(GenusError, match=r"a\.jsonl, line 1: there is no column 'sentence'. Did you mean 'sentence\d'"):
        read(rows, Classification(texts=("sentence",)))
    with pytest.raises(GenusError, match="no column 'label'"):
        read(rows, Classification(texts=("sentence1",)))
    assert read(rows, Classification(texts=("sentence1",)), labeled=False) == [LabeledRow(1, ("a",), None)]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [(["b", "a", "b"], ("a", "b")), (["10", "9", "-1"], ("-1", "9", "10")), (["x", "2", "10"], ("2", "10", "x"))],
)
def test_classes_are_learned_in_order(labels: list[str], classes: tuple[str, ...]) -> None:
    objective = Classification().objective(labels)
    assert objective == SequenceClassification(labels=classes, texts=1)
    assert [objective.labels[int(objective.label_of(label))] for label in labels] == labels


def test_one_class_teaches_nothing() -> None:
    with pytest.raises(GenusError, match="all rows have the label 'a'"):
        Classification().objective(["a", "a"])


def test_unseen_label_names_file_line_label_and_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "validation.jsonl"
    rows = [LabeledRow(1, ("a",), "yes"), LabeledRow(2, ("b",), None), LabeledRow(3, ("c",), "maybe")]
    assert targets(rows[:2], SequenceClassification(labels=("no", "yes")), path).tolist() == [1, IGNORE]
    with pytest.raises(
        GenusError, match=r"validation\.jsonl, line 3: label 'maybe' does not occur in training, which has no, yes"
    ):
        targets(rows, SequenceClassification(labels=("no", "yes")), path)


def test_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    found = targets(
        [LabeledRow(1, ("a",), "2.5"), LabeledRow(2, ("b",), "-1e3"), LabeledRow(3, ("c",), None)],
        SequenceRegression(),
        path,
    )
    assert found.dtype == np.float32
    assert found[:2].tolist() == [2.5, -1000.0]
    assert np.isnan(found[2])
    for wrong in ("high", "nan", "inf"):
        with pytest.raises(GenusError, match=f"line 9: label '{wrong}' is not a number"):
            targets([LabeledRow(9, ("a",), wrong)], SequenceRegression(), path)


def test_empty_table(tmp_path: Path) -> None:
    with pytest.raises(GenusError, match="holds no rows"):
        read(write(tmp_path / "a.jsonl", []), Classification())


def test_test_split_may_be_blind(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    blind = write(tmp_path / "a.jsonl", [{"text": "a", "label": -1}, {"text": "b", "label": -1}])
    rows = read(blind, Classification(), labeled=False)
    assert [row.label for row in rows] == ["-1", "-1"]
    for objective in (SequenceClassification(labels=("0", "1")), SequenceRegression(mean=2.7, std=1.5)):
        assert [row.label for row in without_placeholders(rows, objective, blind)] == [None, None]
        assert "all labels are -1" in capfd.readouterr().err


def test_a_class_or_a_number_of_the_model_is_a_label(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for label in ("-1", "-100"):
        rows = [LabeledRow(1, ("a",), label), LabeledRow(2, ("b",), label)]
        mean = float(label)
        for objective in (SequenceClassification(labels=(label, "0")), SequenceRegression(mean=mean, std=1.0)):
            assert without_placeholders(rows, objective, tmp_path) == rows
    assert not capfd.readouterr().err


def test_training_rows_must_have_labels(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [{"text": "a", "label": 1}, {"text": "b", "label": None}])
    with pytest.raises(GenusError, match="line 2: there is no label in column 'label'"):
        read_splits(Files(train), Classification())


def test_one_row_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(GenusError, match="holds one row, and none can be held out"):
        read_splits(Files(write(tmp_path / "train.jsonl", [{"text": "a", "label": 1}])), Regression())


def test_held_out_share_is_the_same_every_time() -> None:
    rows = [LabeledRow(line, ("a",), "x") for line in range(1, 101)]
    kept, held = hold_out(rows, 0.1)
    assert len(held) == 10
    assert sorted(kept + held, key=lambda row: row.line) == rows
    assert hold_out(rows, 0.1) == (kept, held)
    assert len(hold_out(rows[:3], 0.1)[1]) == 1


def test_files_of_a_folder(tmp_path: Path) -> None:
    for name in ("train.jsonl.gz", "validation_matched.csv", "test.parquet", "train.txt", "README.md"):
        (tmp_path / name).touch()
    found = Files.find(tmp_path)
    assert [path and path.name for path in (found.train, found.validation, found.test)] == [
        "train.jsonl.gz",
        "validation_matched.csv",
        "test.parquet",
    ]
    (tmp_path / "validation_mismatched.csv").touch()
    with pytest.raises(UsageError, match=r"which table is it: validation_matched\.csv, validation_mismatched\.csv"):
        Files.find(tmp_path)
    with pytest.raises(UsageError, match="no training table"):
        Files.find(tmp_path / "nothing")


def test_a_task_is_a_part() -> None:
    for task in [*GLUE.values(), Regression(label="share")]:
        assert Task.from_json(task.to_json()) == task
    with pytest.raises(UsageError, match="texts: expected one column, or two"):
        Classification(texts=("a", "b", "c"))
    with pytest.raises(UsageError, match="metrics: expected at least one"):
        Classification(metrics=())


@pytest.mark.shared
@pytest.mark.parametrize("name", ["cola", "sst2", "mrpc", "stsb", "mnli", "rte", "wnli"])
def test_glue_columns_are_those_of_the_files(shared: Path, name: str) -> None:
    task = GLUE[name]
    splits = read_splits(Files.find(shared / "data" / "glue" / name), task)
    objective = task.objective([row.label or "" for row in splits["train"].rows])
    for split in splits.values():
        assert len(targets(split.rows, objective, split.path)) == len(split.rows)
    assert not splits["validation"].held_out
