"""A temperature changes probabilities and no answer, here and in the folder as transformers reads it."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from genus.analysis import analysis_for
from genus.analysis.analyze import answered, calibration
from genus.analysis.temperature import Scaling
from genus.errors import GenusError, UsageError
from genus.export.folder import load
from genus.tasks.choice import Choice
from genus.tasks.classification import Classification
from genus.tasks.dataset import read
from genus.tasks.multi_label import MultiLabel
from genus.tasks.predict import predict
from genus.tasks.question_answering import QuestionAnswering
from genus.tasks.regression import Regression
from genus.tasks.spans import Span
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


def test_what_is_no_class_is_refused(asked: Callable[..., Any]) -> None:
    given = asked(Regression(), ["1", "2"], [{"text": "the old river", "label": 1}])
    with pytest.raises(UsageError, match="tells no classes whose probabilities a temperature changes"):
        Scaling(given, analysis_for(given.task))
    with pytest.raises(UsageError, match="tells no classes"):
        given.objective.tempered(given.model.learner.heads[given.objective.name], 2.0)


def best_of(loss: Callable[[float], float]) -> float:
    """Return the temperature with the least loss, by another library."""
    found = minimize_scalar(lambda log: loss(np.exp(log)), bounds=(-6, 6), method="bounded", options={"xatol": 1e-9})
    return float(np.exp(found.x))


def test_paths_of_a_random_field(asked: Callable[..., Any], tmp_path: Path) -> None:
    """Against all paths, one by one."""
    task, labels = RecurrentTagging(layers=1, size=16, crf=True), ["O", "B-X", "I-X"]
    rows = [{"tokens": text.split()[:4], "ner_tags": ["O"] * len(text.split()[:4])} for text in TEXTS[:30]]
    first, draw = asked(task, labels, rows), np.random.default_rng(0)
    names, head = first.objective.classes, first.model.learner.heads[first.objective.name]
    with torch.no_grad():  # as random ones are all near 0
        for parameter in head.crf.parameters():
            parameter.normal_(std=2.0, generator=torch.Generator().manual_seed(1))
    first = answered(first.model, first.task, first.rows, first.path)

    def paths(given: Answered) -> list[tuple[list[tuple[int, ...]], np.ndarray]]:
        """Return all paths of each row, and their scores."""
        field = given.model.learner.heads[given.objective.name].crf
        begin, follow, end = (one.detach().double().numpy() for one in (field.begin, field.follow, field.end))
        found, at = [], 0
        for row in given.rows:
            own = given.outputs.values[at : at + len(row.texts), 3:6].astype(float)
            at += len(row.texts)
            several = [*itertools.product(range(3), repeat=len(own))]
            scores = [begin[y[0]] + sum(own[range(len(y)), y]) + sum(follow[a, b] for a, b in pairwise(y)) + end[y[-1]]
                      for y in several]  # fmt: skip
            found.append((several, np.array(scores)))
        return found

    for row, (several, scores) in zip(rows, paths(first), strict=True):
        hot = np.exp((scores - scores.max()) / HOT)
        row["ner_tags"] = [names[tag] for tag in several[draw.choice(len(several), p=hot / hot.sum())]]
    given = asked_again(first, rows, tmp_path / "drawn.jsonl")
    truth = [[names.index(tag) for tag in row["ner_tags"]] for row in rows]

    def loss(temperature: float) -> float:
        return sum(np.logaddexp.reduce(scores / temperature) - scores[several.index(tuple(own))] / temperature
                   for own, (several, scores) in zip(truth, paths(given), strict=True))  # fmt: skip

    before, told = paths(given), [answer.predicted for answer in given.answers]
    analysis = analysis_for(given.task)
    scaling = Scaling(given, analysis)
    assert scaling.temperature == pytest.approx(best_of(loss), rel=1e-4)
    assert scaling.temperature == pytest.approx(HOT, rel=0.4)
    found = scaling.applied(given, tmp_path / "model")
    again = answered(load(tmp_path / "model"), given.task, given.rows, given.path)
    assert [answer.predicted for answer in again.answers] == told
    at = 0
    for several, scores in before:
        hot = np.exp((scores - scores.max()) / scaling.temperature)
        for word in range(len(several[0])):
            chances = [hot[[y[word] == tag for y in several]].sum() / hot.sum() for tag in range(3)]
            assert np.exp(again.outputs.values[at, :3]) == pytest.approx(chances, abs=ROUNDING)
            at += 1
    assert Scaling(again, analysis).temperature == pytest.approx(1, abs=1e-3)
    assert found.after.ece == pytest.approx(calibration(analysis, again).ece, abs=1e-4)  # type: ignore[union-attr]


@pytest.mark.parametrize("changes", [{}, {"null_threshold": 0.1}], ids=["answers", "answers or none"])
def test_answers_in_a_context(changes: dict[str, float], asked: Callable[..., Any], tmp_path: Path) -> None:
    """Against the probability of each answer with spans whose scores are divided one by one."""
    rows: list[dict[str, Any]] = [
        {"question": "what is it", "context": text, "answers": {"text": [text[:3]], "answer_start": [0]}}
        for text in (" ".join(text.split()[:14]) for text in TEXTS)
    ]
    first, draw = asked(QuestionAnswering(), ["x"], rows, **changes), np.random.default_rng(0)
    with torch.no_grad():
        first.model.learner.heads[first.objective.name].classes.weight.mul_(20)  # as random ones are all alike
    first = answered(first.model, first.task, first.rows, first.path)
    threshold = changes.get("null_threshold")
    for row, best in zip(rows, first.encoded.best(first.objective, first.outputs), strict=True):
        scores, _ = best.candidates(threshold)
        hot = np.exp((np.array(scores) - max(scores)) / HOT)
        chosen = int(draw.choice(len(scores), p=hot / hot.sum()))
        start, stop, _ = best.spans[chosen] if chosen < len(best.spans) else (0, 0, 0)
        row["answers"] = {"text": [row["context"][start:stop]], "answer_start": [start]} if stop else {
            "text": [], "answer_start": []
        }
    given = asked_again(first, rows, tmp_path / "drawn.jsonl")
    found, analysis = given.encoded.best(given.objective, given.outputs), analysis_for(given.task)
    right = analysis.decisions(given).right_U
    assert 0 < right.sum() < len(right)

    def chances(temperature: float) -> np.ndarray:
        several = [
            replace(best, null=best.null / temperature, spans=tuple(
                Span(one.start, one.stop, one.score / temperature) for one in best.spans
            )).answered(None if threshold is None else threshold / temperature)[1]["probability"]
            for best in found
        ]  # fmt: skip
        return np.array(several)

    def loss(temperature: float) -> float:
        one = np.clip(chances(temperature), 1e-12, 1 - 1e-12)
        return float(-np.where(right, np.log(one), np.log1p(-one)).mean())

    told = [answer.predicted for answer in given.answers]
    scaling = Scaling(given, analysis)
    assert scaling.temperature == pytest.approx(best_of(loss), rel=1e-3)
    expected = chances(scaling.temperature)
    after = scaling.applied(given, tmp_path / "model").after
    model = load(tmp_path / "model")
    again = answered(model, given.task.resolved_for(model.recipe.objectives[0]), given.rows, given.path)
    assert [answer.predicted for answer in again.answers] == told
    assert analysis.decisions(again).confidence_U == pytest.approx(expected, abs=ROUNDING)
    assert after.ece == pytest.approx(calibration(analysis, again).ece, abs=1e-4)  # type: ignore[union-attr]
    rows = [row | {"answers": {"text": [one], "answer_start": [row["context"].index(one)] if one else []}}
            for row, one in zip(rows, told, strict=True) if one]  # fmt: skip
    with pytest.raises(GenusError, match="no temperature is best"):
        Scaling(asked_again(first, rows, tmp_path / "right.jsonl"), analysis)


def asked_again(first: Answered, rows: list[dict[str, Any]], path: Path) -> Answered:
    """Return a table with the answers of a model that answered another one."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return answered(first.model, first.task, read(path, first.task, labeled=True), path)
