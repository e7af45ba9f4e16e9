"""A temperature changes probabilities and no answer, here and in the folder as transformers reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch

from genus.analysis import analysis_for
from genus.analysis.analyze import answered, calibration
from genus.analysis.temperature import Scaling
from genus.errors import GenusError, UsageError
from genus.export.folder import load
from genus.tasks.choice import Choice
from genus.tasks.classification import Classification
from genus.tasks.multi_label import MultiLabel
from genus.tasks.predict import predict
from genus.tasks.question_answering import QuestionAnswering
from genus.tasks.regression import Regression
from genus.tasks.tagging import RecurrentTagging, Tagging
from small import documents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from genus.analysis import Answered

CLASSES, TEXTS = ["a", "b", "c"], documents(60)
ROUNDING = 1e-5
"""Of float32 logits of a few units, which the weights that are divided give anew."""


HOT = 2.0
"""The temperature at which labels are drawn from what a model with random weights tells."""


def tables() -> dict[str, tuple[Any, list[str], list[dict[str, Any]], dict[str, Any]]]:
    """Return tasks with their labels, their rows and the choices of their objective."""
    words = [text.split()[:12] for text in TEXTS]
    several = [{"question": text, "choices": TEXTS[n : n + 2 + n % 3], "label": 0} for n, text in enumerate(TEXTS[:40])]
    return {
        "classes": (Classification(), CLASSES, [{"text": text, "label": "a"} for text in TEXTS], {}),
        "labels": (
            MultiLabel(), CLASSES, [{"text": text, "labels": ["a"]} for text in TEXTS], {"thresholds": (0.2, 0.5, 0.7)},
        ),
        "tags": (
            Tagging(), ["O", "B-X"], [{"tokens": each, "ner_tags": ["O"] * len(each)} for each in words], {},
        ),
        "tags of an LSTM": (
            RecurrentTagging(layers=1, size=16), ["O", "B-X"],
            [{"tokens": each, "ner_tags": ["O"] * len(each)} for each in words], {},
        ),
        "choices": (Choice(), [], several, {}),
    }  # fmt: skip


@pytest.fixture
def given_of(asked: Callable[..., Any]) -> Callable[[str], Answered]:
    """Return a function from a kind to a table whose labels the model tells as often as its probabilities at `HOT`."""

    def make(kind: str) -> Answered:
        task, labels, rows, changes = tables()[kind]
        first, draw = asked(task, labels, rows, **changes), np.random.default_rng(0)
        hot = np.exp(logits(first) / HOT)
        drawn = iter([int(draw.choice(len(row), p=row / row.sum())) for row in hot])
        for row in rows:
            match kind:
                case "classes":
                    row["label"] = CLASSES[next(drawn)]
                case "labels":
                    row["labels"] = [name for name in CLASSES if next(drawn)]
                case "tags" | "tags of an LSTM":
                    row["ner_tags"] = [first.objective.classes[next(drawn)] for _ in row["tokens"]]
                case "choices":
                    row["label"] = next(drawn)
        return cast("Answered", asked(task, labels, rows, **changes))

    return make


def logits(given: Answered) -> np.ndarray:
    found = analysis_for(given.task).likelihoods(given)
    assert found is not None
    return found.logits_UC


@pytest.mark.parametrize("kind", ["classes", "labels", "tags", "tags of an LSTM", "choices"])
def test_probabilities_change_and_answers_do_not(
    kind: str, given_of: Callable[[str], Answered], tmp_path: Path
) -> None:
    given = given_of(kind)
    analysis = analysis_for(given.task)
    before, told = logits(given), [answer.predicted for answer in given.answers]
    scaling = Scaling(given, analysis)
    assert abs(scaling.temperature - 1) > 0.2
    found = scaling.applied(given, tmp_path / "model", "Fine-tuned by hand.")
    model = load(tmp_path / "model")
    objective = model.recipe.objectives[0]
    again = answered(model, given.task.resolved_for(objective), given.rows, given.path)
    finite = np.isfinite(before)
    assert logits(again)[finite] == pytest.approx(before[finite] / scaling.temperature, abs=ROUNDING)
    assert [answer.predicted for answer in again.answers] == told
    measured = calibration(analysis, again)
    first = calibration(analysis, given)
    assert measured is not None
    assert first is not None
    assert measured.ece == pytest.approx(found.after.ece, abs=1e-4)
    assert measured.nll is not None
    assert first.nll is not None
    assert measured.nll < first.nll
    assert Scaling(again, analysis).temperature == pytest.approx(1, abs=1e-3)
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "Fine-tuned by hand." in card
    assert f"temperature {scaling.temperature:.4g}" in card


def test_transformers_gives_the_calibrated_probabilities(given_of: Callable[[str], Answered], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    given = given_of("classes")
    before = logits(given)
    scaling = Scaling(given, analysis_for(given.task))
    scaling.applied(given, tmp_path / "model")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    for number in range(5):
        inputs = tokenizer(given.rows[number].texts[0], return_tensors="pt", truncation=True, max_length=32)
        with torch.no_grad():
            chances = theirs(**inputs).logits[0].double().softmax(0).numpy()
        expected = np.exp(before[number] / scaling.temperature)
        assert chances == pytest.approx(expected / expected.sum(), abs=ROUNDING)
        (answer,) = predict(load(tmp_path / "model"), [(given.rows[number].texts[0],)])
        assert [*answer.scores.values()] == pytest.approx(chances.tolist(), abs=ROUNDING)  # type: ignore[union-attr]


def test_thresholds_become_what_their_probabilities_become(given_of: Callable[[str], Answered], tmp_path: Path) -> None:
    given = given_of("labels")
    scaling = Scaling(given, analysis_for(given.task))
    scaling.applied(given, tmp_path / "model")
    found = load(tmp_path / "model").recipe.objectives[0].thresholds  # type: ignore[attr-defined]
    odds = [(p / (1 - p)) ** (1 / scaling.temperature) for p in (0.2, 0.5, 0.7)]
    assert found == pytest.approx([one / (1 + one) for one in odds])


def test_rows_without_labels_are_refused(asked: Callable[..., Any], tmp_path: Path) -> None:
    rows = [{"text": text} for text in TEXTS[:4]]
    given = asked(Classification(), CLASSES, rows)
    with pytest.raises(GenusError, match=r"calibration: .*table.jsonl: no row has a label"):
        Scaling(given, analysis_for(given.task))


@pytest.mark.parametrize(
    ("task", "labels", "row"),
    [
        (Regression(), ["1", "2"], {"text": "the old river", "label": 1}),
        (
            QuestionAnswering(), ["x"],
            {"question": "what", "context": "the old river", "answers": {"text": ["river"], "answer_start": [8]}},
        ),
    ],
)  # fmt: skip
def test_what_is_no_class_is_refused(
    task: Any, labels: list[str], row: dict[str, Any], asked: Callable[..., Any]
) -> None:
    given = asked(task, labels, [row])
    with pytest.raises(UsageError, match="tells no classes whose probabilities a temperature changes"):
        Scaling(given, analysis_for(given.task))
    with pytest.raises(UsageError, match="tells no classes"):
        given.objective.tempered(given.model.learner.heads[given.objective.name], 2.0)


def test_a_random_field_is_refused(asked: Callable[..., Any]) -> None:
    rows = [{"tokens": ["the", "old"], "ner_tags": ["O", "B-X"]}]
    given = asked(RecurrentTagging(layers=1, size=16, crf=True), ["O", "B-X"], rows)
    with pytest.raises(UsageError, match="random field tells tags together"):
        given.objective.tempered(given.model.learner.heads[given.objective.name], 2.0)
