"""Multi-label tables, in every way in which they are written; what is learned of them, told and published."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from genus.errors import GenusError, UsageError
from genus.evaluate.label_metrics import HammingLoss, LabelMacroF1, LabelMicroF1, MacroAuroc, SubsetAccuracy
from genus.evaluate.metrics import MacroF1
from genus.export.folder import load
from genus.objectives.supervised.multi_label import MultiLabelClassification
from genus.tasks.dataset import Files, LabeledRow, read
from genus.tasks.finetune import finetune
from genus.tasks.multi_label import MultiLabel, separator_of
from genus.tasks.predict import predict, score

if TYPE_CHECKING:
    from pathlib import Path

    from genus.tasks.report import Report
    from genus.tasks.start import Start
    from genus.train.run import Run

ROUNDING = 1e-5
"""Float32 sums in another order."""
NOUNS = {"cat": "animal", "dog": "animal", "saw": "tool", "drill": "tool", "bird": "flies"}
LABELS = ("animal", "flies", "tool")


def texts(number: int, seed: int) -> list[dict[str, Any]]:
    """Return rows of texts that name some things or none, with the kinds of all that they name."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(number):
        named = [str(noun) for noun in rng.choice([*NOUNS], rng.integers(4))]
        words = [*named, *rng.choice([*"abcdefgh"], 4)]
        rng.shuffle(words)
        rows.append({"text": " ".join(words), "labels": sorted({NOUNS[noun] for noun in named})})
    return rows


def write(path: Path, rows: list[dict[str, Any]], mark: str = "") -> Path:
    """Write a table: lists in .jsonl, in .csv texts with that mark, or a column per label."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "labels"] if mark else ["text", *reversed(LABELS)])
        for row in rows:
            cells = [mark.join(row["labels"])] if mark else [int(one in row["labels"]) for one in reversed(LABELS)]
            writer.writerow([row["text"], *cells])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("labels")
    for split, number, seed in (("train", 240, 1), ("validation", 60, 2), ("test", 60, 3)):
        write(made / f"{split}.jsonl", texts(number, seed))
    return made


def tune(start: Start, run: Run, folder: Path, out: Path, task: MultiLabel, **changes: Any) -> Report:
    settings = replace(start.recipe.finetuning, **changes)
    return finetune(start, task, Files.find(folder), out, settings=settings, seeds=(0,), run=run)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


COLUMNS = "tool, flies, animal"


@pytest.mark.parametrize(
    ("name", "mark", "task"),
    [
        ("t.jsonl", "", MultiLabel()),
        ("t.csv", "|", MultiLabel()),
        ("t.csv", " ; ", MultiLabel()),
        ("t.csv", ",", MultiLabel(separator=",")),
        ("t.csv", "", MultiLabel(label=COLUMNS)),
    ],
)
def test_all_ways_of_writing_labels_are_read_alike(tmp_path: Path, name: str, mark: str, task: MultiLabel) -> None:
    rows = texts(30, 5)
    path = write(tmp_path / name, rows, mark)
    found = read(path, task.told_by(path))
    assert [set(row.labels) for row in found] == [set(row["labels"]) for row in rows]
    assert all(row.label is not None for row in found)
    objective = task.objective([label for row in found for label in row.labels])
    assert objective.labels == (("tool", "flies", "animal") if "," in task.label else LABELS)
    binarizer = pytest.importorskip("sklearn.preprocessing").MultiLabelBinarizer(classes=objective.labels)
    assert (task.targets(found, objective) == binarizer.fit_transform([row["labels"] for row in rows])).all()


CELLS: list[tuple[MultiLabel, dict[str, Any], tuple[str, ...] | None]] = [
    (MultiLabel(), {"labels": []}, ()),
    (MultiLabel(), {"labels": ""}, ()),
    (MultiLabel(), {"labels": None}, None),
    (MultiLabel(), {}, None),
    (MultiLabel(), {"labels": "nan"}, None),
    (MultiLabel(), {"labels": float("nan")}, None),
    (MultiLabel(), {"labels": [1, "b ", 2.0, True]}, ("1", "b", "2", "True")),
    (MultiLabel(), {"labels": " a | b||"}, ("a", "b")),
    (MultiLabel(), {"labels": "a, b; c"}, ("a, b", "c")),
    (MultiLabel(separator="none"), {"labels": "a, b"}, ("a, b",)),
    (MultiLabel(separator=","), {"labels": "a|b, c"}, ("a|b", "c")),
    (MultiLabel(label="a,b"), {"a": 1, "b": 0.0}, ("a",)),
    (MultiLabel(label="a,b"), {"a": "true", "b": True}, ("a", "b")),
    (MultiLabel(label="a,b"), {"a": None, "b": ""}, None),
    (MultiLabel(label="a,b"), {"a": -1, "b": "-1"}, None),
    (MultiLabel(label="a,b"), {"a": "0", "b": False}, ()),
]


@pytest.mark.parametrize(("task", "row", "labels"), CELLS)
def test_what_a_cell_means(task: MultiLabel, row: dict[str, Any], labels: tuple[str, ...] | None) -> None:
    assert task.read({"text": "x", **row}) == (("x",), labels)


@pytest.mark.parametrize(
    ("task", "row", "says"),
    [
        (MultiLabel(), {"labels": {"a": 1}}, "column 'labels' holds no list of labels"),
        (MultiLabel(), {"labels": 3}, "column 'labels' holds no list of labels"),
        (MultiLabel(), {"labels": ["a", None]}, "label 2 of column 'labels' is empty"),
        (MultiLabel(), {"labels": [["a"]]}, "column 'labels' holds a list, not one text"),
        (MultiLabel(label="a,b"), {"a": 1, "b": 0.7}, "column 'b' holds '0.7', and not 0 or 1"),
        (MultiLabel(label="a,b"), {"a": 1, "b": None}, "column 'b' holds '', and not 0 or 1"),
        (MultiLabel(label="a,b"), {"a": 1}, "column 'b' holds '', and not 0 or 1"),
    ],
)
def test_what_no_cell_may_hold(task: MultiLabel, row: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        task.read({"text": "x", **row})


@pytest.mark.parametrize(
    ("cells", "known", "mark"),
    [
        (["a", "b"], (), None),
        (["a,b", "a;b|c"], (), "|"),
        (["a,b", "a;b"], (), ";"),
        (["a,b"], (), ","),
        (["New York, NY"], ("New York, NY", "Boston"), None),
        (["a,b;c"], ("a,b", "c"), ";"),
        (["a,b;c"], ("a", "b;c"), ","),
        (["a,b;c", "d"], ("a", "b"), ";"),
    ],
)
def test_the_separator_is_told_by_the_cells_and_by_known_labels(
    cells: list[str], known: tuple, mark: str | None
) -> None:
    assert separator_of(cells, known) == mark


def test_the_separator_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "t.csv", texts(9, 1), ";")
    assert MultiLabel().told_by(path).separator == ";"
    (said,) = capfd.readouterr().err.splitlines()
    assert "labels in column 'labels' are separated by ';', as in '" in said
    assert said.endswith("if that is wrong, say --task-set 'separator=|' or separator=none")
    assert MultiLabel(separator=",").told_by(path).separator == ","
    assert not capfd.readouterr().err


@pytest.fixture(scope="module")
def tuned(folder: Path, recipe: Any, tokenizer: Any, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which thresholds are tuned for each label."""
    from genus.tasks.start import Start

    out = tmp_path_factory.mktemp("tuned") / "out"
    task = MultiLabel(thresholds="tuned_each", metrics=(LabelMacroF1(), *MultiLabel().metrics))
    tune(Start(recipe, tokenizer), run, folder, out, task, epochs=14)
    return out


def matrix(several: list[list[str]]) -> np.ndarray:
    return np.array([[label in labels for label in LABELS] for labels in several])


def test_it_learns_and_its_metrics_are_sklearn_s_of_its_answers(tuned: Path) -> None:
    oracle = pytest.importorskip("sklearn.metrics")
    report = json.loads((tuned / "report.json").read_text())
    (trial,) = report["seeds"]
    for split in ("validation", "test"):
        answers = lines(tuned / "seed-0" / f"{split}.jsonl")
        truth, told = (matrix([line[side] for line in answers]) for side in ("label", "predicted"))
        scores = np.array([[line["scores"][label] for label in LABELS] for line in answers])
        assert (told == (scores > [trial["thresholds"][label] for label in LABELS])).all()
        wanted = {
            "label_micro_f1": oracle.f1_score(truth, told, average="micro"),
            "label_macro_f1": oracle.f1_score(truth, told, average="macro"),
            "sample_f1": oracle.f1_score(truth, told, average="samples", zero_division=0),
            "subset_accuracy": oracle.accuracy_score(truth, told),
            "hamming_loss": oracle.hamming_loss(truth, told),
            "label_ranking_average_precision": oracle.label_ranking_average_precision_score(truth, scores),
            "macro_auroc": oracle.roc_auc_score(truth, scores),
        }
        assert trial["metrics"][split] == pytest.approx(wanted, abs=ROUNDING)
        empty = (~truth.any(1)).sum()
        assert f"{split}: {empty} of 60 texts have no label, and count as 0" in trial["signatures"]["sample_f1"]
    assert trial["metrics"]["test"]["label_macro_f1"] > 0.8  # 0.66 if all labels are told always
    assert trial["metrics"]["validation"]["label_macro_f1"] == max(one["label_macro_f1"] for one in trial["history"])


def test_the_published_model_tells_what_its_seed_told_and_transformers_gives_the_same_probabilities(
    tuned: Path, folder: Path, run: Run
) -> None:
    transformers = pytest.importorskip("transformers")
    model, written = load(tuned / "model"), lines(tuned / "seed-0" / "test.jsonl")
    report = json.loads((tuned / "report.json").read_text())
    (objective,) = model.recipe.objectives
    assert isinstance(objective, MultiLabelClassification)
    assert objective.tuned_thresholds == report["seeds"][0]["thresholds"] != {}
    assert "; labels are told over a probability " in (tuned / "model" / "README.md").read_text()
    asked = [(row["text"],) for row in lines(folder / "test.jsonl")]
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tuned / "model").eval()
    reader = transformers.AutoTokenizer.from_pretrained(tuned / "model")
    with torch.no_grad():
        expected = theirs(**reader([text for (text,) in asked], padding=True, return_tensors="pt")).logits.sigmoid()
    for answer, line, wanted in zip(predict(model, asked, run), written, expected, strict=True):
        assert answer.predicted == line["predicted"]
        assert answer.scores == pytest.approx(line["scores"], abs=ROUNDING)
        assert [*answer.scores.values()] == pytest.approx(wanted.tolist(), abs=ROUNDING)
    task = MultiLabel()
    measured = score(model, task, read(folder / "test.jsonl", task), run)[1]
    assert measured == pytest.approx(report["seeds"][0]["metrics"]["test"], abs=ROUNDING)


def test_one_threshold_and_none(folder: Path, start: Start, run: Run, tmp_path: Path) -> None:
    """The same training: a tuned threshold changes decisions, and scores in validation at least as high."""
    metrics = (SubsetAccuracy(), HammingLoss(), MacroAuroc())
    plain, one = (
        tune(start, run, folder, tmp_path / kind, MultiLabel(thresholds=kind, metrics=metrics), epochs=1)
        for kind in ("half", "tuned")
    )
    assert plain.best.thresholds == {}
    assert len({*one.best.thresholds.values()}) == 1
    assert one.best.thresholds.keys() == {*LABELS}
    before, after = plain.best.metrics["validation"], one.best.metrics["validation"]
    assert after["subset_accuracy"] >= before["subset_accuracy"]  # type: ignore[operator]
    assert one.best.told_over.startswith("labels are told over a probability of 0.")


@pytest.mark.parametrize("symmetric", [False, True])
def test_pairs_in_one_order_or_both(start: Start, run: Run, tmp_path: Path, symmetric: bool) -> None:
    for split, number in (("train", 40), ("validation", 8)):
        rows = [{**row, "other": row["text"][::-1]} for row in texts(number, number)]
        write(tmp_path / f"{split}.jsonl", rows)
    task = MultiLabel(texts=("text", "other"), symmetric=symmetric, metrics=(LabelMicroF1(),))
    report = tune(start, run, tmp_path, tmp_path / "out", task, epochs=1)
    assert 0 <= report.best.metrics["validation"]["label_micro_f1"] <= 1  # type: ignore[operator]
    one, other = predict(load(tmp_path / "out" / "model"), [("a cat", "a saw"), ("a saw", "a cat")], run)
    assert one.scores == pytest.approx(other.scores, abs=ROUNDING) if symmetric else one.scores != other.scores


def test_rows_without_annotation_are_answered_and_not_measured(
    folder: Path, start: Start, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = lines(folder / "test.jsonl")
    for split in ("train", "validation"):
        write(tmp_path / f"{split}.jsonl", texts(30, 4))
    write(tmp_path / "test.jsonl", [*rows[:9], *({**row, "labels": None} for row in rows[9:])])
    report = tune(start, run, tmp_path, tmp_path / "some", MultiLabel(), epochs=1)
    assert "51 of 60 rows have no label, and are answered but not measured" in capfd.readouterr().err
    assert len(lines(tmp_path / "some" / "seed-0" / "test.jsonl")) == 60
    truth = matrix([row["labels"] for row in rows[:9]])
    told = matrix([line["predicted"] for line in lines(tmp_path / "some" / "seed-0" / "test.jsonl")[:9]])
    assert report.best.metrics["test"]["hamming_loss"] == pytest.approx((truth != told).mean())
    write(tmp_path / "test.jsonl", [{**row, "labels": []} for row in rows])
    assert "test" not in tune(start, run, tmp_path, tmp_path / "none", MultiLabel(), epochs=1).best.metrics
    assert "the cells of the labels are empty in all rows: taken as rows without a label" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("validation", "says"),
    [
        (
            ["tool", "rare"],
            "line 1: here and below, 2 labels do not occur in training.*: 'rare'; leave",
        ),
        (None, "line 1: there is no label in column 'labels'"),
    ],
)
def test_strange_and_missing_labels_are_refused(
    start: Start, run: Run, tmp_path: Path, validation: list[str] | None, says: str
) -> None:
    write(tmp_path / "train.jsonl", texts(20, 1))
    write(tmp_path / "validation.jsonl", [{"text": "a", "labels": validation}] * 2)
    with pytest.raises(GenusError, match=says) as caught:
        tune(start, run, tmp_path, tmp_path / "out", MultiLabel())
    assert "\n" not in str(caught.value)


def test_choices_that_contradict_each_other() -> None:
    with pytest.raises(
        UsageError, match="macro_f1 judges classes, not labels or label scores; those that fit: hamming"
    ):
        MultiLabel(metrics=(MacroF1(),))
    with pytest.raises(UsageError, match="thresholds: macro_auroc ranks by scores, which no threshold changes"):
        MultiLabel(metrics=(MacroAuroc(), LabelMicroF1()), thresholds="tuned")
    with pytest.raises(UsageError, match="label: expected a column, or different ones"):
        MultiLabel(label="a,b,a")
    with pytest.raises(ValueError, match="expected one for each of 2 labels, or none, got 1"):
        MultiLabelClassification(labels=("a", "b"), thresholds=(0.5,))
    with pytest.raises(GenusError, match="no row has a label; nothing is to be learned"):
        MultiLabel().objective([])


def test_how_labels_are_understood() -> None:
    rows = [LabeledRow(1, ("x",), ("a", "b", "a")), LabeledRow(2, ("y",), ())]
    told = MultiLabel().remark(rows)
    assert told.startswith("column 'labels': 2 labels, 1.00 per text on average; 1 of 2 texts have none; ")
    assert told.endswith("1 name one twice, which counts once")
    single = MultiLabel().remark([LabeledRow(1, ("x",), ("a",))])
    assert "all have one, for which there is --task classification" in single
