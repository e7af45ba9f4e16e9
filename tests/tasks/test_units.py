"""Regression answers in the units of the labels: while it trains, from its folder, and as transformers reads it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from genus.errors import UsageError
from genus.export.folder import load
from genus.objectives.supervised.sequence import SequenceClassification, SequenceRegression
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files, read
from genus.tasks.finetune import finetune
from genus.tasks.predict import predict, score
from genus.tasks.regression import Regression
from genus.tasks.start import Start
from genus.train.run import Run

FOLDED = 1e-5
"""Float32 rounds weight times std, and bias times std plus mean."""


@pytest.mark.parametrize(("scale", "shift"), [(50_000.0, 700_000.0), (1e-4, -0.02)])
def test_numbers_of_any_size(
    write_rows: Callable, tmp_path: Path, start: Start, run: Run, scale: float, shift: float
) -> None:
    transformers = pytest.importorskip("transformers")
    rows = write_rows(tmp_path / "rows.jsonl", 160, 1)
    for row in rows:
        row["price"] = shift + scale * row["share"]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rows.jsonl").unlink()
    task = Regression(label="price")
    report = finetune(start, task, Files.find(tmp_path), tmp_path / "out", seeds=(0,), run=run)
    assert isinstance(report.objective, SequenceRegression)
    prices = [row["price"] for row in rows]
    assert report.objective.mean == pytest.approx(np.mean(prices))
    assert report.objective.std == pytest.approx(np.std(prices))
    answers = [json.loads(line) for line in (tmp_path / "out" / "seed-0" / "validation.jsonl").read_text().splitlines()]
    assert all(abs(line["predicted"] - float(line["label"])) < scale for line in answers)

    model = load(tmp_path / "out" / "model")
    (objective,) = model.recipe.objectives
    assert (objective.mean, objective.std) == (0, 1)  # type: ignore[attr-defined]
    table = {row.line: row for row in read(tmp_path / "train.jsonl", task)}
    held_out = [table[line["line"]] for line in answers]
    found, metrics = score(model, task, held_out, run)
    assert metrics["pearson"] == pytest.approx(report.best.metrics["validation"]["pearson"], rel=1e-3)
    for one, line in zip(found, answers, strict=True):
        assert one.predicted == pytest.approx(line["predicted"], abs=FOLDED * (scale + abs(shift)))

    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "model").eval()
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path / "out" / "model")
    with torch.no_grad():
        values = theirs(**reader([row.texts[0] for row in held_out], padding=True, return_tensors="pt")).logits[:, 0]
    ours = [one.predicted for one in found]
    assert values.tolist() == pytest.approx(ours, abs=FOLDED * (scale + abs(shift)))


def test_models_of_pairs_are_not_asked_about_single_texts(
    write_rows: Callable, tmp_path: Path, start: Start, run: Run
) -> None:
    write_rows(tmp_path / "train.jsonl", 16, 1)
    pairs = Classification(texts=("text", "text"))
    finetune(start, pairs, Files.find(tmp_path), tmp_path / "out", seeds=(0,), run=run)
    model = load(tmp_path / "out" / "model")
    assert len(predict(model, [("a cat", "a dog")])) == 1
    with pytest.raises(UsageError, match="on pairs of texts, and is asked about single ones; give --text twice"):
        predict(model, [("a cat",)])


def test_the_number_of_texts_is_unknown_in_folders_of_others() -> None:
    assert SequenceClassification(labels=("a", "b")).texts is None
