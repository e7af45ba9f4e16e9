"""What is found in each task, against scikit-learn, seqeval and counting by hand, on ordinary and on odd tables."""

from __future__ import annotations

import json
import random
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import seqeval.metrics
import sklearn.metrics
import torch
from seqeval.scheme import IOB2

from genus.analysis import analysis_for
from genus.analysis.analyze import analyze
from genus.analysis.examples import DOUBTFUL, FAR, SURE, WRONG
from genus.analysis.span_answers import question_word, words_of
from genus.errors import GenusError, UsageError
from genus.evaluate.tags import EntityF1
from genus.evaluate.written import AnswerF1, referenced
from genus.tasks.character_spans import CharacterSpans
from genus.tasks.choice import Choice
from genus.tasks.classification import Classification
from genus.tasks.completion import Completion
from genus.tasks.multi_label import MultiLabel
from genus.tasks.question_answering import QuestionAnswering
from genus.tasks.regression import Regression
from genus.tasks.tagging import RecurrentTagging, Tagging
from small import documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.analysis import Answered
    from genus.analysis.findings import Findings

TEXTS = documents(40)
CLASSES = ["left", "right", "up"]


def texts(labels: Callable[[random.Random], Any], count: int = 40, column: str = "label") -> list[dict[str, Any]]:
    """Return rows of texts of different lengths with labels that are drawn."""
    draw = random.Random(1)
    return [{"text": " ".join(text.split()[: draw.randint(1, 40)]), column: labels(draw)} for text in TEXTS[:count]]


def found(given: Answered, **choices: int) -> Findings:
    """Return the findings, which JSON can hold."""
    result = analyze(given, replace(analysis_for(given.task), **{"draws": 50, **choices}))
    json.dumps(result.to_json(), allow_nan=False)
    return result


def test_classes(asked: Callable[..., Any]) -> None:
    rows = texts(lambda draw: draw.choice(CLASSES))
    rows[3]["label"], rows[7]["label"], rows[9]["text"] = None, "", ""
    given = asked(Classification(), CLASSES, rows)
    result = found(given)
    known = [number for number, row in enumerate(rows) if row["label"]]
    truth, told = [rows[n]["label"] for n in known], [given.answers[n].predicted for n in known]
    assert (result.rows, result.unlabeled) == (40, 2)
    assert result.classes is not None
    assert result.classes.confusion is not None
    names = result.classes.confusion.classes
    assert names == sorted({*truth, *told})
    assert result.classes.confusion.counts == sklearn.metrics.confusion_matrix(truth, told, labels=names).tolist()
    accuracy = result.metrics["accuracy"]
    assert accuracy is not None
    assert accuracy.mean == pytest.approx(sklearn.metrics.accuracy_score(truth, told))
    assert accuracy.low is not None
    assert accuracy.low < accuracy.mean
    wrong = sorted(
        (n for n in known if rows[n]["label"] != given.answers[n].predicted),
        key=lambda n: -max(given.answers[n].scores.values()),  # type: ignore[union-attr]
    )
    assert [one.line - 1 for one in result.examples[WRONG]] == wrong[:20]
    for one in result.examples[WRONG]:
        chances = given.answers[one.line - 1].scores
        assert one.probability == pytest.approx(chances[one.predicted], abs=1e-6)
        assert one.truth == rows[one.line - 1]["label"] != one.predicted
        assert one.passages[0].text == rows[one.line - 1]["text"]
    sure = [one.probability for one in result.examples[DOUBTFUL]]
    assert len(sure) == 5
    assert sure == sorted(sure)  # type: ignore[type-var]
    check_lengths(given, result)


def check_lengths(given: Answered, result: Findings) -> None:
    """Groups are of the lengths that the tokenizer gives, cut at the longest."""
    lengths = [
        min(len(given.model.tokenizer.encode([row.texts[0]], specials=False)[0]) + 2, given.encoded.max_length)
        for row in given.rows
    ]
    (grouping,) = result.groupings
    assert sum(one.rows for one in grouping.groups) == len(lengths)
    for one in grouping.groups:
        low, _, high = one.name.partition(" to ")
        assert one.rows == sum(int(low) <= length <= int(high or low) for length in lengths)
    full = [len(given.model.tokenizer.encode([row.texts[0]], specials=False)[0]) + 2 for row in given.rows]
    assert result.cut == sum(length > given.encoded.max_length for length in full) > 0


@pytest.mark.parametrize("labels", [["left"], ["left", "right"], [None, "up"]])
def test_few_rows(labels: list[str | None], asked: Callable[..., Any]) -> None:
    rows = [{"text": TEXTS[number], "label": label} for number, label in enumerate(labels)]
    result = found(asked(Classification(), CLASSES, rows))
    accuracy = result.metrics["accuracy"]
    assert accuracy is not None
    assert (accuracy.low is None) == (sum(label is not None for label in labels) == 1)
    assert result.calibration is not None
    assert 0 <= result.calibration.ece <= 1


def test_no_labels(asked: Callable[..., Any]) -> None:
    rows = [{"text": text} for text in TEXTS[:8]]
    result = found(asked(Classification(), CLASSES, rows), mistakes=3)
    assert not result.metrics
    assert result.classes is result.calibration is None
    assert "no row has a label" in result.notes[-1]
    assert len(result.examples[SURE]) == 3
    assert not any(one.truth for one in result.examples[SURE])
    assert all(not group.labeled and not group.scores for group in result.groupings[0].groups)


def test_ties_and_certainty(asked: Callable[..., Any]) -> None:
    """Equal logits: the first class is told. Logits far apart: the probability is 1, and is right or wrong."""
    rows = texts(lambda draw: draw.choice(CLASSES), 12)
    given = asked(Classification(), CLASSES, rows)
    even = replace(given, outputs=replace(given.outputs, values=np.zeros_like(given.outputs.values)))
    result = found(even)
    assert result.calibration is not None
    assert result.calibration.nll == pytest.approx(np.log(3))
    assert [one.predicted for one in result.examples[WRONG]] == ["left"] * len(result.examples[WRONG])
    lines = [one.line for one in result.examples[WRONG]]
    assert lines == sorted(lines)
    sure = replace(given, outputs=replace(given.outputs, values=np.tile(np.float32([0, 1e4, 0]), (12, 1))))
    result = found(sure)
    assert result.calibration is not None
    wrong = sum(row["label"] != "right" for row in rows)
    assert result.calibration.ece == pytest.approx(wrong / 12)
    assert result.calibration.nll == pytest.approx(1e4 * wrong / 12)
    assert {one.probability for one in result.examples[WRONG]} == {1.0}
    assert result.classes is not None
    assert {one.name: one.recall for one in result.classes.report.classes}["right"] == 1.0


def test_a_class_that_training_lacks(asked: Callable[..., Any]) -> None:
    with pytest.raises(GenusError, match=r"table.jsonl, line 1: label 'down' does not occur in training"):
        asked(Classification(), CLASSES, [{"text": "x", "label": "down"}, {"text": "y", "label": "up"}])


def test_a_task_that_writes_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"there is none of Completion, only of CharacterSpans, Choice, Classification"
    ):
        analysis_for(Completion())


def test_pairs_that_are_read_in_both_orders(asked: Callable[..., Any]) -> None:
    rows = [{"one": a, "two": b, "label": label} for a, b, label in zip(TEXTS, TEXTS[1:], CLASSES * 3, strict=False)]
    result = found(asked(Classification(texts=("one", "two"), symmetric=True), CLASSES, rows))
    shown = [one for several in result.examples.values() for one in several]
    assert shown
    assert all(len(one.passages) == 2 for one in shown)


def test_several_labels(asked: Callable[..., Any]) -> None:
    rows = texts(lambda draw: [one for one in CLASSES if draw.random() < 0.4], column="labels")
    rows[2]["labels"], rows[3]["labels"] = None, []
    given = asked(MultiLabel(), CLASSES, rows, thresholds=(0.3, 0.5, 0.9))
    result = found(given)
    known = [number for number, row in enumerate(rows) if row["labels"] is not None]
    truth = np.array([[one in rows[n]["labels"] for one in CLASSES] for n in known])
    told = np.array([[one in given.answers[n].predicted for one in CLASSES] for n in known])
    assert result.classes is not None
    counts = [[[one.neither, one.wrong], [one.missed, one.right]] for one in result.classes.labels]
    assert counts == sklearn.metrics.multilabel_confusion_matrix(truth, told).tolist()
    assert result.calibration is not None
    chances = np.array([[given.answers[n].scores[one] for one in CLASSES] for n in known]).ravel()
    assert result.calibration.decisions == truth.size
    assert result.calibration.brier == pytest.approx(sklearn.metrics.brier_score_loss(truth.ravel(), chances))
    assert result.calibration.nll == pytest.approx(sklearn.metrics.log_loss(truth.ravel(), chances))
    shares = [(one.confidence * one.count, one.accuracy * one.count) for one in result.calibration.bins]
    assert np.array(shares).sum(0) == pytest.approx([chances.sum(), truth.sum()])
    for one in result.examples[WRONG]:
        label, _, told_so = one.predicted.partition(": ")
        chance = given.answers[one.line - 1].scores[label]
        assert (told_so == "yes") != (label in rows[one.line - 1]["labels"])
        assert one.probability == pytest.approx(chance if told_so == "yes" else 1 - chance)


def test_numbers(asked: Callable[..., Any]) -> None:
    rows = texts(lambda draw: round(draw.gauss(3, 2), 3))
    rows[5]["label"] = None
    given = asked(Regression(), [str(row["label"]) for row in rows if row["label"] is not None], rows)
    result = found(given)
    known = [n for n in range(len(rows)) if n != 5]
    truth, told = np.array([rows[n]["label"] for n in known]), np.array([given.answers[n].predicted for n in known])
    assert result.numbers is not None
    assert result.numbers.truth == pytest.approx(truth.tolist(), abs=1e-6)  # they are standardized in float32
    assert result.numbers.mean_absolute_error == pytest.approx(
        sklearn.metrics.mean_absolute_error(truth, told), rel=1e-5
    )
    squared = sklearn.metrics.mean_squared_error(truth, told)
    assert result.numbers.root_mean_squared_error == pytest.approx(squared**0.5, rel=1e-5)
    assert result.numbers.explained == pytest.approx(sklearn.metrics.r2_score(truth, told), rel=1e-4)
    assert result.numbers.mean_error == pytest.approx((told - truth).mean(), abs=1e-6)
    assert result.calibration is None
    far = np.argsort(-np.abs(told - truth), kind="stable")[:20]
    assert [one.line - 1 for one in result.examples[FAR]] == [known[place] for place in far]
    assert not found(asked(Regression(), ["1", "2"], [{"text": "x"}])).examples


def test_tags(asked: Callable[..., Any]) -> None:
    draw = random.Random(2)
    rows: list[dict[str, Any]] = []
    for text in TEXTS[:25]:
        words = text.split()[: draw.randint(1, 60)]
        tags = ["B-X" if draw.random() < 0.3 else "O" for _ in words]
        tags = ["I-X" if tag == "O" and place and tags[place - 1] == "B-X" and draw.random() < 0.5 else tag
                for place, tag in enumerate(tags)]  # fmt: skip
        rows.append({"tokens": words, "ner_tags": tags})
    rows[1]["tokens"][0], rows[4]["ner_tags"] = "\u200b", None
    given = asked(Tagging(), ["O", "B-X", "I-X"], rows)
    result = found(given)
    known = [n for n, row in enumerate(rows) if row["ner_tags"]]
    truth, told = [rows[n]["ner_tags"] for n in known], [given.answers[n].predicted for n in known]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = seqeval.metrics.classification_report(
            truth, told, mode="strict", scheme=IOB2, output_dict=True, zero_division=0
        )
    assert result.classes is not None
    assert result.classes.confusion is not None
    (entity,) = result.classes.report.classes
    scores = expected["X"]
    assert [entity.precision, entity.recall, entity.f1, entity.support] == pytest.approx([*scores.values()])
    flat = [[tag for tags in side for tag in tags] for side in (truth, told)]
    names = result.classes.confusion.classes
    assert result.classes.confusion.counts == sklearn.metrics.confusion_matrix(*flat, labels=names).tolist()
    assert result.calibration is not None
    assert result.calibration.decisions == sum(map(len, truth)) - 1
    assert sum(group.rows for group in result.groupings[0].groups) == 25
    for one in result.examples[WRONG]:
        passage, row = one.passages[0], rows[one.line - 1]
        assert passage.text == " ".join(row["tokens"])
        ((start, end),) = passage.marks
        place = passage.text[:start].count(" ")
        assert passage.text[start:end] == row["tokens"][place]
        assert (one.truth, one.predicted) == (row["ner_tags"][place], given.answers[one.line - 1].predicted[place])
        assert one.probability == pytest.approx(given.answers[one.line - 1].scores[place], abs=1e-6)


@pytest.mark.parametrize("crf", [False, True])
def test_tags_of_an_lstm(crf: bool, asked: Callable[..., Any]) -> None:
    """Those of a random field are of the best path, their probabilities marginal."""
    draw = random.Random(5)
    rows = [
        {"tokens": text.split()[:9], "ner_tags": [draw.choice(["O", "B-X"]) for _ in range(9)]} for text in TEXTS[:8]
    ]
    given = asked(RecurrentTagging(layers=1, size=16, crf=crf), ["O", "B-X"], rows)
    result = found(given)
    scores = np.array([score for answer in given.answers for score in answer.scores])
    right = [tag == told for row, answer in zip(rows, given.answers, strict=True)
             for tag, told in zip(row["ner_tags"], answer.predicted, strict=True)]  # fmt: skip
    assert result.calibration is not None
    shares = np.array([(one.confidence * one.count, one.accuracy * one.count) for one in result.calibration.bins])
    assert shares.sum(0) == pytest.approx([scores.sum(), sum(right)], rel=1e-5)
    wrong = sorted((score for score, hit in zip(scores.tolist(), right, strict=True) if not hit), reverse=True)
    assert [one.probability for one in result.examples[WRONG]] == pytest.approx(wrong[:20], abs=1e-6)


def test_spans_of_characters(asked: Callable[..., Any]) -> None:
    rows: list[dict[str, Any]] = []
    for number, text in enumerate(TEXTS[:12]):
        word = text.split()[number % 3]
        start = text.index(word)
        rows.append({"text": text, "spans": [{"start": start, "end": start + len(word), "label": "AB"[number % 2]}]})
    rows[2]["spans"], rows[3]["spans"] = None, []
    given = asked(CharacterSpans(), ["A", "B"], rows)
    result = found(given)
    truth, told = given.sides(EntityF1())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = seqeval.metrics.classification_report(
            truth.tolist(), told.tolist(), mode="strict", scheme=IOB2, output_dict=True, zero_division=0
        )
    assert result.classes is not None
    for one in result.classes.report.classes:
        assert [one.precision, one.recall, one.f1, one.support] == pytest.approx([*expected[one.name].values()])
    assert result.calibration is not None
    known = [n for n in range(12) if n != 2]
    assert result.calibration.decisions == sum(len(given.encoded.places[n]) for n in known)
    for one in result.examples[WRONG]:
        ((start, end),) = one.passages[0].marks
        inside = [span["label"] for span in rows[one.line - 1]["spans"] if span["start"] < end and start < span["end"]]
        assert one.truth.removeprefix("B-").removeprefix("I-") == (inside[0] if inside else "O")


def test_choices(asked: Callable[..., Any]) -> None:
    draw = random.Random(3)
    rows = [
        {"question": text.partition(".")[0], "choices": TEXTS[n : n + draw.randint(2, 4)], "label": draw.randrange(2)}
        for n, text in enumerate(TEXTS[:20])
    ]
    given = asked(Choice(), [], rows)
    result = found(given)
    assert result.classes is not None
    assert result.classes.confusion is not None
    truth, told = [str(row["label"]) for row in rows], [one.predicted for one in given.answers]
    names = result.classes.confusion.classes
    assert result.classes.confusion.counts == sklearn.metrics.confusion_matrix(truth, told, labels=names).tolist()
    for one in (one for several in result.examples.values() for one in several):
        row = rows[one.line - 1]
        assert [passage.text for passage in one.passages] == [row["question"], *row["choices"]]
        assert one.probability == pytest.approx(given.answers[one.line - 1].scores[one.predicted], abs=1e-6)


def test_answers(asked: Callable[..., Any]) -> None:
    asks, rows = ["What is it", "and where, I ask", "whose", "มีอะไร", "How many"], []
    for number, text in enumerate(TEXTS[:20]):
        words = text.split()
        answer = " ".join(words[1 : 1 + number % 4]) if number % 4 else ""
        answers = (
            {"text": [answer], "answer_start": [text.index(answer)]} if answer else {"text": [], "answer_start": []}
        )
        rows.append({"id": f"q{number}", "question": asks[number % 5], "context": text, "answers": answers})
    rows[6]["answers"] = None
    given = asked(QuestionAnswering(), [""], rows, null_threshold=0.0, stride=10)
    result = found(given)
    by = {one.by: one for one in result.groupings}
    assert {one.name for one in by["question word"].groups} == {"what", "where", "whose", "other", "how"}
    assert [one.name for one in by["words of the first reference"].groups] == ["none", "1", "2", "3 to 4"]
    for one in by["question word"].groups:
        inside = [n for n, row in enumerate(rows) if question_word(row["question"]) == one.name and n != 6]
        references = [tuple(rows[n]["answers"]["text"]) or ("",) for n in inside]
        told = np.array([given.answers[n].predicted for n in inside], object)
        score = one.scores["answer_f1"]
        assert score is not None
        assert score.mean == pytest.approx(AnswerF1()(referenced(references), told))
        assert one.rows == len(inside)
    assert result.calibration is not None
    assert result.calibration.nll is None
    for one in result.examples[WRONG]:
        answer = given.answers[one.line - 1]
        assert one.id == f"q{one.line - 1}"
        assert one.probability == pytest.approx(answer.scores["probability"])
        for start, end in one.passages[1].marks:
            assert one.passages[1].text[start:end] == answer.predicted


@pytest.mark.parametrize(
    ("reference", "group"),
    [
        ("", "none"),
        ("The", "none"),
        ("a cat", "1"),
        ("x y", "2"),
        ("x y z", "3 to 4"),
        ("x " * 9, "5 to 9"),
        ("x " * 30, "10 or more"),
    ],
)
def test_groups_of_references(reference: str, group: str) -> None:
    assert words_of(reference) == group


def test_the_model_is_as_it_was(asked: Callable[..., Any]) -> None:
    given = asked(Classification(), CLASSES, texts(lambda draw: draw.choice(CLASSES), 6))
    learner = given.model.learner.train()
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    found(given)
    assert learner.training
    assert all(torch.equal(before[name], tensor) for name, tensor in learner.state_dict().items())
    assert not any(module._forward_hooks for module in learner.modules())
