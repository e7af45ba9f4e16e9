"""Parts: written, read back, overridden, laid over, compared, hashed; and the ways in which users get them wrong."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import pickle
import re
from abc import ABC, abstractmethod
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genus.errors import ChoiceError, UsageError, near
from genus.part import Count, Part, Positive, diff, slots_of


class Shape(Part, ABC):
    @abstractmethod
    def corners(self) -> int: ...


class Circle(Shape):
    radius: float = 1.0
    fill: str = "none"

    def corners(self) -> int:
        return 0


class Square(Shape):
    side: int
    fill: str = "none"

    def corners(self) -> int:
        return 4


class Frame(Part):
    width: int
    tilt: float | None = None
    open: bool = False
    side: Literal["left", "right"] = "left"
    shape: Shape = Circle()
    spare: Shape | None = None
    corners: tuple[Shape, ...] = (Circle(), Square(side=2))
    range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.width < 0:
            raise ValueError("a width is not negative")


class Picture(Part):
    title: str
    frame: Frame


PICTURE = Picture(title="A", frame=Frame(width=3))

numbers = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(-(2**63) + 1, 2**63 - 1)
shapes = st.builds(Circle, radius=numbers, fill=st.text()) | st.builds(Square, side=integers, fill=st.text())
frames = st.builds(
    Frame,
    width=st.integers(0, 2**63 - 1),
    tilt=st.none() | numbers,
    open=st.booleans(),
    side=st.sampled_from(["left", "right"]),
    shape=shapes,
    spare=st.none() | shapes,
    corners=st.lists(shapes, max_size=3).map(tuple),
    range=st.tuples(numbers, numbers),
)
pictures = st.builds(Picture, title=st.text(), frame=frames)


def test_a_part_is_a_frozen_keyword_only_dataclass() -> None:
    assert [field.name for field in fields(Circle)] == ["radius", "fill"]  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        PICTURE.title = "B"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Square(2)  # type: ignore[call-arg, misc]


def test_json_names_the_kinds() -> None:
    written = PICTURE.to_json()
    assert written["kind"] == "Picture"
    assert written["frame"]["corners"] == [
        {"kind": "Circle", "radius": 1.0, "fill": "none"},
        {"kind": "Square", "side": 2, "fill": "none"},
    ]


@given(pictures)
def test_the_round_trip_through_json_text_is_the_identity(picture: Picture) -> None:
    again = Picture.from_json(json.loads(json.dumps(picture.to_json())))
    assert again == picture
    assert again.hash() == picture.hash()
    assert diff(again, picture) == []


@given(pictures, pictures)
def test_equal_hashes_mean_no_difference(left: Picture, right: Picture) -> None:
    assert (left.hash() == right.hash()) == (left.to_json() == right.to_json())
    assert (diff(left, right) == []) == (left.to_json() == right.to_json())


@given(pictures, pictures)
def test_diff_is_antisymmetric(left: Picture, right: Picture) -> None:
    assert diff(left, right) == [(path, b, a) for path, a, b in diff(right, left)]


def test_the_hash_is_that_of_the_sorted_json() -> None:
    text = '{"fill":"none","kind":"Circle","radius":1.0}'
    assert Circle().hash() == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_whole_and_decimal_numbers_are_one_value() -> None:
    assert Circle(radius=2).hash() == Circle(radius=2.0).hash()
    assert Frame(width=1, tilt=1, range=(0, 1)).hash() == Frame(width=1, tilt=1.0, range=(0.0, 1.0)).hash()


def test_slots_hold_the_concrete_parts_by_kind() -> None:
    assert slots_of(Shape) == {"Circle": Circle, "Square": Square}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("title", "B", Picture(title="B", frame=PICTURE.frame)),
        ("title", '"6"', Picture(title="6", frame=PICTURE.frame)),
        ("frame.width", "6", replace(PICTURE, frame=Frame(width=6))),
        ("frame.width", 6, replace(PICTURE, frame=Frame(width=6))),
        ("frame.tilt", "0.5", replace(PICTURE, frame=Frame(width=3, tilt=0.5))),
        ("frame.tilt", "1e-4", replace(PICTURE, frame=Frame(width=3, tilt=1e-4))),
        ("frame.tilt", "2", replace(PICTURE, frame=Frame(width=3, tilt=2.0))),
        ("frame.open", "true", replace(PICTURE, frame=Frame(width=3, open=True))),
        ("frame.range", "[2, 3]", replace(PICTURE, frame=Frame(width=3, range=(2.0, 3.0)))),
        ("frame.range.1", "9", replace(PICTURE, frame=Frame(width=3, range=(0.0, 9.0)))),
        ("frame.spare", "Circle", replace(PICTURE, frame=Frame(width=3, spare=Circle()))),
        ("frame.corners", "[]", replace(PICTURE, frame=Frame(width=3, corners=()))),
        ("frame.corners", '["Circle"]', replace(PICTURE, frame=Frame(width=3, corners=(Circle(),)))),
        ("frame.corners.1.side", "5", replace(PICTURE, frame=Frame(width=3, corners=(Circle(), Square(side=5))))),
        ("frame.shape", '{kind = "Square", side = 2}', replace(PICTURE, frame=Frame(width=3, shape=Square(side=2)))),
    ],
)
def test_override(path: str, value: object, expected: Picture) -> None:
    assert PICTURE.override(path, value) == expected


def test_null_takes_an_optional_choice_away() -> None:
    tilted = replace(PICTURE, frame=Frame(width=3, tilt=0.5, spare=Circle()))
    assert tilted.override("frame.tilt", "null").override("frame.spare", "null") == PICTURE


def test_a_new_kind_keeps_the_choices_it_shares() -> None:
    red = replace(PICTURE, frame=Frame(width=3, shape=Circle(radius=4.0, fill="red")))
    changed = red.overlay({"frame": {"shape": {"kind": "Square", "side": 1}}})
    assert changed.frame.shape == Square(side=1, fill="red")


def test_an_overlay_changes_what_it_names() -> None:
    changed = PICTURE.overlay({"title": "B", "frame": {"width": 9, "corners": {"1": {"side": 7}}}})
    assert diff(PICTURE, changed) == [("frame.corners.1.side", 2, 7), ("frame.width", 3, 9), ("title", "A", "B")]


@given(pictures)
def test_overlaying_a_picture_with_itself_changes_nothing(picture: Picture) -> None:
    assert picture.overlay(picture.to_json()) == picture


def test_diff_names_missing_choices_as_none() -> None:
    squared = PICTURE.override("frame.spare", {"kind": "Square", "side": 1})
    assert diff(PICTURE, squared) == [
        ("frame.spare.fill", None, "none"),
        ("frame.spare.kind", None, "Square"),
        ("frame.spare.side", None, 1),
    ]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("frame.width", "6.5", "frame.width: expected int, got 6.5"),
        ("frame.width", "true", "frame.width: expected int, got True"),
        ("frame.width", "six", "frame.width: expected int, got 'six'"),
        ("frame.width", "-1", "frame: a width is not negative"),
        ("frame.width.x", "1", "frame.width: expected int, got {'x': 1}"),
        ("frame.tilt", "true", "frame.tilt: expected float, got True"),
        ("frame.open", "1", "frame.open: expected bool, got 1"),
        ("frame.side", "up", "frame.side: expected one of 'left', 'right', got 'up'"),
        ("title", "6", "title: expected str, got 6"),
        ("frmae.width", "1", "Picture has no choice 'frmae'. Did you mean 'frame'?"),
        ("frame.withd", "1", "frame: Frame has no choice 'withd'. Did you mean 'width'?"),
        (
            "frame.zzz",
            "1",
            "frame: Frame has no choice 'zzz'. Valid: corners, open, range, shape, side, spare, tilt, width.",
        ),
        ("frame.shape", "Circel", "frame.shape: there is no Shape 'Circel'. Did you mean 'Circle'?"),
        ("frame.shape", "Square", "frame.shape: Square needs the choice 'side'"),
        ("frame.shape", "null", "frame.shape: expected a table of Shape, got None"),
        ("frame.shape", "[1]", "frame.shape: expected a table of Shape, got [1]"),
        ("frame.spare.fill", "red", "frame.spare: name the kind of Shape. Valid: Circle, Square."),
        ("frame.corners", "Circle", "frame.corners: expected a list, or a position in it, got 'Circle'"),
        ("frame.corners.2.fill", "red", "frame.corners: '2' is not a position in a list of 2"),
        ("frame.corners.0.fil", "red", "frame.corners.0: Circle has no choice 'fil'. Did you mean 'fill'?"),
        ("frame.range", "[1]", "frame.range: expected 2 values, got [1]"),
        ("frame", "3", "frame: expected a table of Frame, got 3"),
    ],
)
def test_a_wrong_override_is_one_line(path: str, value: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        PICTURE.override(path, value)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "expected a table of Picture, got []"),
        ({"kind": "Pictrue"}, "there is no Picture 'Pictrue'. Did you mean 'Picture'?"),
        ({"title": "A"}, "Picture needs the choice 'frame'"),
        ({"title": "A", "frame": {}}, "frame: Frame needs the choice 'width'"),
        ({"title": 1, "frame": {"width": "3"}}, "title: expected str, got 1; frame.width: expected int, got '3'"),
    ],
)
def test_a_wrong_file_is_one_line(value: object, message: str) -> None:
    with pytest.raises(UsageError) as error:
        Picture.from_json(value)
    assert str(error.value) == message


def test_near_names_at_most_three_or_lists_all() -> None:
    assert near("berd", ["bert", "bard", "herd", "berg", "x"]).count("'") == 6
    assert near("qqq", ["b", "a"]) == " Valid: a, b."


class Curve(Part, ABC):
    @abstractmethod
    def at(self, share: float) -> float: ...


class Map(Part, ABC):
    @abstractmethod
    def size(self) -> int: ...


def _two_kinds_of_one_name() -> tuple[type[Curve], type[Map]]:
    """Return a curve and a map that are both called `Linear`."""

    class Linear(Curve):
        slope: Positive = 1.0
        bias: bool = False

        def at(self, share: float) -> float:
            return self.slope * share

    curve: type[Curve] = Linear

    class Linear(Map):  # type: ignore[no-redef]
        inputs: Count = 2
        bias: bool = True

        def size(self) -> int:
            return self.inputs

    return curve, Linear


LinearCurve, LinearMap = _two_kinds_of_one_name()


class Power(Curve):
    exponent: float = 2.0
    bias: bool = False

    def at(self, share: float) -> float:
        return float(share**self.exponent)


class Both(Part):
    curve: Curve
    map: Map
    more: tuple[Map, ...] = ()


class TestTwoSlotsWithAKindOfOneName:
    BOTH = Both(curve=LinearCurve(), map=LinearMap(), more=(LinearMap(),))

    def test_each_slot_finds_its_own(self) -> None:
        assert slots_of(Curve) == {"Linear": LinearCurve, "Power": Power}
        assert slots_of(Map) == {"Linear": LinearMap}

    def test_the_round_trip(self) -> None:
        again = Both.from_json(json.loads(json.dumps(self.BOTH.to_json())))
        assert again == self.BOTH
        assert type(again.curve) is LinearCurve
        assert type(again.map) is type(again.more[0]) is LinearMap

    def test_overrides_know_in_which_slot_they_are(self) -> None:
        changed = self.BOTH.overrides({"curve.slope": "2", "map.inputs": "3", "more.0.inputs": "4"})
        assert changed.to_json()["curve"] == {"kind": "Linear", "slope": 2.0, "bias": False}
        assert changed.to_json()["map"] == {"kind": "Linear", "inputs": 3, "bias": True}
        assert changed.to_json()["more"] == [{"kind": "Linear", "inputs": 4, "bias": True}]

    def test_a_new_kind_shares_with_the_old_one_of_its_own_slot(self) -> None:
        powered = replace(self.BOTH, curve=Power(bias=True))
        assert powered.override("curve", "Linear").curve == LinearCurve(bias=True)  # type: ignore[call-arg]

    def test_neither_slot_takes_what_the_other_knows(self) -> None:
        with pytest.raises(UsageError, match=r"^map: Linear has no choice 'slope'\. Valid: bias, inputs\.$"):
            self.BOTH.override("map.slope", "1")
        with pytest.raises(ChoiceError, match=r"^Both\.map: expected Map, got "):
            replace(self.BOTH, map=LinearCurve())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": -1}, "a width is not negative"),
        ({"width": 6.5}, "Frame.width: expected int, got 6.5"),
        ({"width": True}, "Frame.width: expected int, got True"),
        ({"width": 1, "tilt": float("nan")}, "Frame.tilt: expected a finite number, got nan"),
        ({"width": 1, "side": "up"}, "Frame.side: expected one of 'left', 'right', got 'up'"),
        ({"width": 1, "shape": None}, "Frame.shape: expected Shape, got None"),
        ({"width": 1, "shape": "Circle"}, "Frame.shape: expected Shape, got 'Circle'"),
        ({"width": 1, "corners": [Circle()]}, "Frame.corners: expected a tuple, got [Circle(radius=1.0, fill='none')]"),
        ({"width": 1, "corners": (Circle(), 3)}, "Frame.corners.1: expected Shape, got 3"),
        ({"width": 1, "range": (0.0,)}, "Frame.range: expected 2 values, got [0.0]"),
        ({"width": 1, "range": (0.0, "1")}, "Frame.range.1: expected float, got '1'"),
        ({"width": 1, "tild": 1.0}, "Frame has no choice 'tild'. Did you mean 'tilt' or 'side'?"),
        ({}, "Frame needs the choice 'width'"),
    ],
)
def test_a_wrong_value_given_in_python_is_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Frame(**values)


def test_replacing_a_choice_checks_it_too() -> None:
    with pytest.raises(ChoiceError, match=r"^Square\.side: expected int, got '2'$"):
        replace(Square(side=1), side="2")  # type: ignore[arg-type]


def test_a_part_says_its_choices_as_its_signature() -> None:
    assert str(inspect.signature(Square)) == "(*, side: 'int', fill: 'str' = 'none')"
    assert repr(Square(side=2)) == "Square(side=2, fill='none')"


def test_reading_a_part_leaves_its_fields_as_they_were_annotated() -> None:
    before = {field.name: field.type for field in fields(Frame)}  # type: ignore[arg-type]
    Frame.from_json({"width": 3})
    assert {field.name: field.type for field in fields(Frame)} == before  # type: ignore[arg-type]
    assert before["width"] == "int"


def test_parts_are_pickled_and_copied() -> None:
    for again in (pickle.loads(pickle.dumps(PICTURE)), copy.deepcopy(PICTURE), copy.copy(PICTURE)):
        assert again == PICTURE
        assert hash(again) == hash(PICTURE)
    assert Frame(width=3) != PICTURE
