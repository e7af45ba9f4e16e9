"""Metrics of tags against their definition spelled out, scikit-learn, and seqeval where it is there."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genus.evaluate.metrics import Metric
from genus.evaluate.tags import EntityF1, EntityPrecision, EntityRecall, WordAccuracy, entities, of_names
from genus.part import slots_of

sklearn = pytest.importorskip("sklearn.metrics")

EXACT = 1e-12
"""Both sides compute ratios of small integers in float64."""
KINDS = ("PER", "LOC")
TAGS = ("O", *(f"{mark}-{kind}" for kind in KINDS for mark in "BI"))

lengths = st.lists(st.integers(1, 8), min_size=1, max_size=6)
sides = lengths.flatmap(
    lambda sizes: st.tuples(
        *[st.tuples(*[st.lists(st.sampled_from(TAGS), min_size=n, max_size=n) for n in sizes]) for _ in range(2)]
    )
)


def column(sentences: object) -> np.ndarray:
    """Return sentences as metrics take them."""
    return np.fromiter(sentences, object)


def begun_and_whole(tags: list[str], first: int, after: int, kind: str) -> bool:
    """Say whether words [first, after) are a name: it begins, goes on with its own kind, and goes on no further."""
    whole = tags[first] == f"B-{kind}" and all(tag == f"I-{kind}" for tag in tags[first + 1 : after])
    return whole and tags[after : after + 1] != [f"I-{kind}"]


def every_span(sentences: tuple[list[str], ...]) -> list[bool]:
    """Return, for every stretch of words and every kind, whether it is a name."""
    return [
        begun_and_whole(tags, first, after, kind)
        for tags in sentences
        for first, after in itertools.combinations(range(len(tags) + 1), 2)
        for kind in KINDS
    ]


@given(sides)
def test_names_are_precision_and_recall_of_all_stretches_of_words(sides: tuple) -> None:
    truth, predicted = sides
    expected = [every_span(side) for side in sides]
    for metric, oracle in (
        (EntityF1(), sklearn.f1_score),
        (EntityPrecision(), sklearn.precision_score),
        (EntityRecall(), sklearn.recall_score),
    ):
        found = metric(column(truth), column(predicted))
        assert found == pytest.approx(oracle(*expected, zero_division=0), abs=EXACT)


@given(sides)
def test_word_accuracy_is_that_of_all_words(sides: tuple) -> None:
    truth, predicted = sides
    flat = [list(itertools.chain(*side)) for side in sides]
    assert WordAccuracy()(column(truth), column(predicted)) == pytest.approx(sklearn.accuracy_score(*flat), abs=EXACT)


@given(sides)
def test_names_equal_seqeval_s(sides: tuple) -> None:
    seqeval = pytest.importorskip("seqeval.metrics")
    from seqeval.scheme import IOB2

    truth, predicted = (list(side) for side in sides)
    for metric, oracle in (
        (EntityF1(), seqeval.f1_score),
        (EntityPrecision(), seqeval.precision_score),
        (EntityRecall(), seqeval.recall_score),
    ):
        expected = oracle(truth, predicted, mode="strict", scheme=IOB2, zero_division=0)
        assert metric(column(truth), column(predicted)) == pytest.approx(expected, abs=EXACT)


def test_names_counted_by_hand() -> None:
    tags = ["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "I-LOC", "I-PER", "O", "I-LOC", "B-PER"]
    assert entities(tags) == {(0, 2, "PER"), (3, 4, "LOC"), (4, 6, "LOC"), (9, 10, "PER")}
    assert entities(["B", "I", "O", "B"]) == {(0, 2, ""), (3, 4, "")}
    truth = column([["B-PER", "I-PER", "O"], ["B-LOC", "O"]])
    predicted = column([["B-PER", "O", "B-LOC"], ["B-LOC", "O"]])
    assert EntityPrecision()(truth, predicted) == 1 / 3
    assert EntityRecall()(truth, predicted) == 1 / 2
    assert EntityF1()(truth, predicted) == 2 / 5
    assert WordAccuracy()(truth, predicted) == 3 / 5


def test_nothing_to_find_is_zero() -> None:
    nothing = column([["O", "O"]])
    assert [metric(nothing, nothing) for metric in (EntityF1(), EntityPrecision(), EntityRecall())] == [0, 0, 0]
    assert WordAccuracy()(column([]), column([])) == 0


@pytest.mark.parametrize(
    ("tags", "expected"),
    [(TAGS, True), (["B", "I"], True), (["B-X", "O"], True), (["O", "I-X"], False), (["NN", "VB", "O"], False)],
)
def test_tags_of_names_are_told_from_others(tags: list[str], expected: bool) -> None:
    assert of_names(tags) == expected


def test_they_are_metrics_of_words() -> None:
    found = {part().name: part().level for part in slots_of(Metric).values()}
    of_words = {"entity_f1", "entity_precision", "entity_recall", "word_accuracy"}
    assert {name for name, per in found.items() if per == "word"} == of_words
