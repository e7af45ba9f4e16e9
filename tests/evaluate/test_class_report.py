"""Scores by class, label and type of entity are those of scikit-learn and seqeval."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import seqeval.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.scheme import IOB2, IOBES
from sklearn.metrics import classification_report

from genus.evaluate.class_report import ClassReport
from genus.evaluate.interval import bootstrap, of_chosen
from genus.evaluate.metrics import Accuracy, Metric, confusion
from genus.evaluate.tags import EntityF1, EntityPrecision, WordAccuracy
from genus.evaluate.written import AnswerExactMatch, AnswerF1, ExactMatch, referenced

NAMES = ("a", "b", "c", "d")


def plain(report: ClassReport) -> dict[str, list[float]]:
    """Return the report by name, with scikit-learn's names of averages."""
    averages = {one.name.replace("average", "avg"): one for one in report.averages}
    every = {one.name: one for one in report.classes} | averages
    return {name: [one.precision, one.recall, one.f1, one.support] for name, one in every.items()}


def expected(found: dict[str, dict[str, float]]) -> dict[str, list[float]]:
    return {
        name: [one["precision"], one["recall"], one["f1-score"], one["support"]]
        for name, one in found.items()
        if isinstance(one, dict)
    }


def agree(one: dict[str, list[float]], other: dict[str, list[float]]) -> None:
    assert one.keys() == other.keys()
    for name, values in other.items():
        assert one[name] == pytest.approx(values, abs=1e-12), name


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_classes(pairs: list[tuple[int, int]]) -> None:
    truth, told = (np.array(side) for side in zip(*pairs, strict=True))
    found = plain(ClassReport.of_confusion(NAMES, confusion(truth, told)))
    names = [NAMES[number] for number in truth], [NAMES[number] for number in told]
    known = classification_report(*names, output_dict=True, zero_division=0)
    accuracy = known.pop("accuracy")
    assert found.pop("micro avg")[:3] == pytest.approx([accuracy] * 3)
    agree(found, expected(known))


THREE = st.lists(st.booleans(), min_size=3, max_size=3)


@given(st.lists(st.tuples(THREE, THREE), min_size=1))
def test_labels(pairs: list[tuple[list[bool], list[bool]]]) -> None:
    truth, told = (np.array(side) for side in zip(*pairs, strict=True))
    found = plain(ClassReport.of_labels(NAMES[:3], truth, told))
    occurs = np.flatnonzero((truth | told).any(0)).tolist()
    if not occurs:
        assert not found
        return
    known = classification_report(
        truth.astype(int), told.astype(int), labels=occurs, target_names=[NAMES[place] for place in occurs],
        output_dict=True, zero_division=0,
    )  # fmt: skip
    agree(found, expected(known))


TAGS = {"IOB2": (IOB2, ["O", "B-X", "I-X", "B-Y", "I-Y"]), "BIOES": (IOBES, ["O", "B-X", "I-X", "E-X", "S-X", "S-Y"])}


@settings(max_examples=60)
@given(st.data(), st.sampled_from(sorted(TAGS)))
def test_entities(data: st.DataObject, scheme: str) -> None:
    """The truth is well-formed, so that its scheme is known; what is told need not be."""
    theirs, tags = TAGS[scheme]
    of_two = [["O"], ["B-X", "I-X"], ["B-Y"]]
    chunks = of_two if scheme == "IOB2" else [["O"], ["B-X", "E-X"], ["S-Y"], ["B-X", "I-X", "E-X"]]
    sentences = data.draw(st.lists(st.lists(st.sampled_from(chunks), min_size=1, max_size=4), min_size=1, max_size=4))
    always = [chunks[1], chunks[2]] if scheme == "IOB2" else chunks[1:]
    truth = [[tag for chunk in chunks for tag in chunk] for chunks in [*sentences, always]]
    told = [data.draw(st.lists(st.sampled_from(tags), min_size=len(one), max_size=len(one))) for one in truth]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = seqeval.metrics.classification_report(
            truth, told, mode="strict", scheme=theirs, output_dict=True, zero_division=0
        )
    agree(plain(ClassReport.of_entities(truth, told)), expected(known))


def test_nothing_is_no_report() -> None:
    assert ClassReport.of_entities([["O"]], [["O"]]) == ClassReport([], [])


def objects(values: list[object]) -> np.ndarray:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


SENTENCES = [("B-X", "I-X", "O"), ("O", "B-Y"), ("B-X",), ("O", "O", "B-Y", "I-Y")]
GUESSES = [["B-X", "O", "O"], ["O", "B-Y"], ["B-Y"], ["B-X", "O", "B-Y", "I-Y"]]
ANSWERS, WRITTEN = [("the cat", "cat"), ("",), ("red wine",), ("x",)], ["Cat", "", "white wine", "y"]


@pytest.mark.parametrize(
    ("metric", "truth", "told"),
    [
        (EntityF1(), objects(SENTENCES), objects(GUESSES)),
        (EntityPrecision(), objects(SENTENCES), objects(GUESSES)),
        (WordAccuracy(), objects(SENTENCES), objects(GUESSES)),
        (AnswerF1(), referenced(ANSWERS), objects(WRITTEN)),
        (AnswerExactMatch(), referenced(ANSWERS), objects(WRITTEN)),
        (ExactMatch(), referenced(ANSWERS), objects(WRITTEN)),
        (Accuracy(), np.array([0, 1, 1, 0]), np.array([0, 1, 0, 1])),
    ],
)
def test_a_metric_of_chosen_rows_is_that_of_these_rows(metric: Metric, truth: np.ndarray, told: np.ndarray) -> None:
    """By its sums, where it has such, which a bootstrap of many draws needs."""
    statistic = of_chosen(metric, truth, told)
    for chosen in ([0, 1, 2, 3], [3, 3, 1], [2], [0, 0, 1, 2, 2]):
        assert statistic(np.array(chosen)) == pytest.approx(metric(truth[chosen], told[chosen]))
    whole = bootstrap(statistic, 4, draws=50)
    assert whole.mean == metric(truth, told)
    assert whole.low is not None
    assert whole.high is not None
    assert whole.low <= whole.mean <= whole.high
