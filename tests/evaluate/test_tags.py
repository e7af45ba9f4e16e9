"""Metrics of tags against their definition spelled out, scikit-learn, and seqeval where it is there."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genus.evaluate.metrics import Metric
from genus.evaluate.tags import EntityF1, EntityPrecision, EntityRecall, WordAccuracy, entities, of_names, scheme_of
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


def mended(tags: list[str]) -> list[str]:
    """Return tags in IOB2, in which `I-` never begins a name."""
    before = ["O", *tags]
    return [
        f"B-{tag[2:]}" if tag[0] == "I" and left[2:] != tag[2:] else tag
        for left, tag in zip(before, tags, strict=False)
    ]


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
    truth, predicted = tuple(map(mended, sides[0])), sides[1]
    expected = [every_span(side) for side in (truth, predicted)]
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


METRICS = (
    (EntityF1(), "f1_score"),
    (EntityPrecision(), "precision_score"),
    (EntityRecall(), "recall_score"),
)
STRICT = {"IOB2": ("BI", "IOB2"), "BIOES": ("BIES", "IOBES"), "BILOU": ("BILU", "BILOU")}
"""Marks of each scheme, and the name of its class in seqeval."""


@st.composite
def predictions(draw: st.DrawFn, scheme: str) -> tuple[list[list[str]], list[list[str]]]:
    """Return well-formed sentences in a scheme, with an entity of several words, and random tags beside them."""
    marks, _ = STRICT[scheme]
    of_one, last = ("B", "I") if scheme == "IOB2" else (marks[3], marks[2])
    truth = [[f"B-{KINDS[0]}", f"I-{KINDS[0]}", f"{last}-{KINDS[0]}"]]
    for _ in range(draw(st.integers(0, 4))):
        tags: list[str] = []
        for _ in range(draw(st.integers(1, 4))):
            kind, size = draw(st.sampled_from(KINDS)), draw(st.integers(0, 3))
            inner = [f"B-{kind}", *[f"I-{kind}"] * (size - 2), f"{last}-{kind}"]
            tags += ["O"] if size == 0 else [f"{of_one}-{kind}"] if size == 1 else inner
        truth.append(tags)
    every = ["O", *(f"{mark}-{kind}" for kind in KINDS for mark in marks)]
    return truth, [draw(st.lists(st.sampled_from(every), min_size=len(tags), max_size=len(tags))) for tags in truth]


@pytest.mark.parametrize("scheme", STRICT)
@given(data=st.data())
def test_entities_of_a_strict_scheme_equal_seqeval_s(scheme: str, data: st.DataObject) -> None:
    seqeval, schemes = pytest.importorskip("seqeval.metrics"), pytest.importorskip("seqeval.scheme")
    truth, predicted = data.draw(predictions(scheme))
    assert scheme_of(truth) == scheme
    for metric, oracle in METRICS:
        expected = getattr(seqeval, oracle)(
            truth, predicted, mode="strict", scheme=getattr(schemes, STRICT[scheme][1]), zero_division=0
        )
        assert metric(column(truth), column(predicted)) == pytest.approx(expected, abs=EXACT)


@given(sides)
def test_other_tags_are_read_as_seqeval_s_default_mode_reads_them(sides: tuple) -> None:
    """Such as those of IOB1, in which `I-` begins an entity."""
    seqeval = pytest.importorskip("seqeval.metrics")
    truth, predicted = ([*side, ["O", "I-LOC"]] for side in sides)
    assert scheme_of(truth) == "IOB1"
    for metric, oracle in METRICS:
        expected = getattr(seqeval, oracle)(truth, predicted, zero_division=0)
        assert metric(column(truth), column(predicted)) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize(
    ("sentence", "scheme", "expected"),
    [
        ("I-PER I-PER O I-LOC B-LOC", "IOB1", {(0, 2, "PER"), (3, 4, "LOC"), (4, 5, "LOC")}),
        ("I-PER I-LOC", "IOB1", {(0, 1, "PER"), (1, 2, "LOC")}),
        ("B-PER O I-PER", "IOB1", {(0, 1, "PER"), (2, 3, "PER")}),
        ("S-PER B-LOC I-LOC E-LOC O", "BIOES", {(0, 1, "PER"), (1, 4, "LOC")}),
        ("U-PER B-LOC L-LOC O", "BILOU", {(0, 1, "PER"), (1, 3, "LOC")}),
        ("S-PER B-LOC M-LOC E-LOC O", "BMES", {(0, 1, "PER"), (1, 4, "LOC")}),
        ("B-PER I-PER O", "IOB2", {(0, 2, "PER")}),
        ("O O", "IOB2", set()),
    ],
)
def test_schemes_counted_by_hand(sentence: str, scheme: str, expected: set) -> None:
    tags = sentence.split()
    assert scheme_of([tags]) == scheme
    assert entities(tags, scheme) == expected


def test_metrics_of_entities_are_undefined_where_there_are_none() -> None:
    for metric, _ in METRICS:
        assert not metric.defined(column([["O", "O"], ["O"]]))
        assert metric.defined(column([["O", "I-PER"]]))
        assert "mark none with B- or I-" in metric.misfit(("tags",), ("NN", "VB"))


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
    [
        (TAGS, True),
        (["B", "I"], True),
        (["B-X", "O"], True),
        (["O", "I-X"], True),
        (["B-X", "E-X", "S-X"], True),
        (["B-X", "L-X", "U-X", "O"], True),
        (["B-X", "L-X", "S-X"], False),
        (["S", "O"], False),
        (["NN", "VB", "O"], False),
    ],
)
def test_tags_of_names_are_told_from_others(tags: list[str], expected: bool) -> None:
    assert of_names(tags) == expected


def test_they_are_metrics_of_words() -> None:
    found = {part().name: part().judges for part in slots_of(Metric).values()}
    of_words = {"entity_f1", "entity_precision", "entity_recall", "word_accuracy"}
    assert {name for name, per in found.items() if per == "tags"} == of_words
