"""Metrics that choose the best weights: what does not fit is refused, and what is undefined chooses nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from genus.errors import UsageError
from genus.evaluate.metrics import F1, Accuracy, MacroF1, Matthews, Metric, Pearson, Spearman
from genus.evaluate.tags import EntityF1, WordAccuracy
from genus.inference.engine import Inference
from genus.objectives.supervised.sequence import SequenceClassification
from genus.tasks.classification import Classification
from genus.tasks.dataset import Files
from genus.tasks.finetune import finetune
from genus.tasks.regression import Regression
from genus.tasks.start import Start
from genus.tasks.study import BestCheckpoint
from genus.train.run import Run


@pytest.mark.parametrize("metric", [Accuracy(), F1(), MacroF1(), Matthews(), EntityF1(), WordAccuracy()])
def test_metrics_of_classes_and_tags_are_refused_for_numbers(metric: Metric) -> None:
    with pytest.raises(UsageError, match=f"{metric.name} judges .*, not numbers; those that fit: pearson, spearman$"):
        Regression(metrics=(metric,))


@pytest.mark.parametrize("classes", [("a", "b", "c"), ("0", "1", "2", "3")])
def test_f1_of_one_class_is_refused_for_several(classes: tuple[str, ...]) -> None:
    task = Classification(metrics=(F1(),))
    assert task.resolved_for(SequenceClassification(labels=classes[:2])) == task
    with pytest.raises(UsageError, match=rf"f1 is of one class of two, and there are {len(classes)}; those that fit"):
        task.resolved_for(SequenceClassification(labels=classes))


@pytest.mark.parametrize(
    ("metric", "truth", "defined"),
    [
        (Accuracy(), [], False),
        (Accuracy(), [1, 1], True),
        (F1(), [0, 0], False),
        (F1(), [0, 1], True),
        (Matthews(), [1, 1], False),
        (Pearson(), [2.5, 2.5], False),
        (Spearman(), [2.5], False),
        (Spearman(), [2.5, 3], True),
    ],
)
def test_whether_a_metric_is_defined(metric: Metric, truth: list, defined: bool) -> None:
    assert metric.defined(np.array(truth)) == defined


@pytest.mark.parametrize(
    ("values", "kept"),
    [([0.5, 0.7, 0.6], 1), ([0.5, 0.7, 0.7], 2), ([0.0, 0.0], 1), ([-0.2, -0.3], 0), ([None, None, None], 2)],
)
def test_of_equal_evaluations_the_later_is_kept_and_of_undefined_ones_the_last(values: list, kept: int) -> None:
    layer, given = nn.Linear(1, 1), iter(values)
    best = BestCheckpoint(lambda _: {"f1": next(given), "accuracy": 1.0}, F1())
    for number, value in enumerate(values):
        nn.init.constant_(layer.weight, number)
        assert best(layer) == {name: one for name, one in (("f1", value), ("accuracy", 1.0)) if one is not None}  # type: ignore[arg-type]
    assert best.weights["weight"].item() == kept


def test_an_undefined_metric_is_said_and_reported(
    write_rows: Callable, tmp_path: Path, start: Start, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = write_rows(tmp_path / "train.jsonl", 40, 1)
    write_rows(tmp_path / "validation.jsonl", 8, 2, names=("animals", "animals"))
    write_rows(tmp_path / "test.jsonl", 20, 3)
    assert {row["label"] for row in rows} == {"animals", "tools"}
    task = Classification(metrics=(Matthews(), Accuracy()))
    report = finetune(start, task, Files.find(tmp_path), tmp_path / "out", seeds=(0, 1), run=run)
    assert "seed 0: matthews is undefined for the labels of the validation rows" in capfd.readouterr().err
    assert report.best.seed == 0
    assert report.best.metrics["validation"]["matthews"] is None
    assert report.summary()["validation"].keys() == {"accuracy"}
    assert report.summary()["test"].keys() == {"matthews", "accuracy"}
    (card,) = (tmp_path / "out" / "model").glob("README.md")
    assert "matthews undefined" in card.read_text()


def test_heads_answer_in_float32_whatever_the_precision(start: Start) -> None:
    from genus.objectives.supervised.sequence import SequenceRegression
    from genus.tasks.answer import outputs
    from genus.tasks.encode import encode

    tuned = start.fine_tuned(SequenceRegression(), start.recipe.finetuning)
    learner = start.build(tuned, 0)
    with torch.no_grad():
        learner.heads["sequence_regression"].classes.bias.fill_(100.0)  # bfloat16 has steps of a half here
    texts = [(" and ".join(np.random.default_rng(number).choice(["cat", "saw", "bird"], 5)),) for number in range(40)]
    encoded = encode(start.tokenizer, texts, np.zeros(40, np.float32), "sequence_regression", 32)
    found = {
        precision: outputs(learner, tuned.model, encoded, Inference(precision)).values
        for precision in ("float32", "bfloat16")
    }
    different = {precision: len(np.unique(values)) for precision, values in found.items()}
    assert different["bfloat16"] > different["float32"] / 2
