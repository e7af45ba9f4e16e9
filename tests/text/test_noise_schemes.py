"""Each scheme of noise: its law, what it changes and what it leaves, and that it is a function of its draws."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import pytest

from genus.errors import UsageError
from genus.part import slots_of
from genus.text.noise import TextNoise, parsed
from genus.text.noise.schemes import AddDropMutate, Antspeak, Drop, RandomCase, Repetitions, Uppercase

TEXT = "The quick brown Fox jumps over 13 lazy dogs, naïve façades — 東京 and Ångström. " * 120
KINDS = [Drop, AddDropMutate, Repetitions, Antspeak, Uppercase, RandomCase]
SIGMAS = 4.5
"""Standard errors that a right law does not exceed; draws are keyed, so the outcome is always the same."""


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def near(found: int, number: int, share: float) -> bool:
    """Return whether a count of so many trials is as probable as is expected."""
    return abs(found - number * share) <= SIGMAS * (number * share * (1 - share)) ** 0.5


def test_the_six_schemes_have_the_rates_of_the_paper() -> None:
    assert {part: part().rate for part in slots_of(TextNoise).values()} == {  # type: ignore[type-abstract]
        Drop: 0.1, AddDropMutate: 0.1, Repetitions: 0.2, Antspeak: 1.0, Uppercase: 1.0, RandomCase: 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_a_function_of_its_draws(kind: type[TextNoise]) -> None:
    noise = kind(rate=0.4)
    assert noise.noised(TEXT, rng(3)) == noise.noised(TEXT, rng(3)) != noise.noised(TEXT, rng(4))
    assert kind(rate=0.0).noised(TEXT, rng()) == TEXT
    assert noise.noised("", rng()) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_what_keeps_places_does_and_what_does_not_moves(kind: type[TextNoise]) -> None:
    text = "groß İstanbul ﬁn ŉ ǰ" * 40
    found = kind(rate=0.5).noised(text, rng())
    if kind.keeps_places:
        assert len(found) == len(text)
        assert all(one == other or one.casefold() == other.casefold() or one.lower() == other.lower()
                   for one, other in zip(found, text, strict=True))  # fmt: skip
    else:
        assert len(found) != len(text)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_drop_leaves_out_the_share_and_keeps_the_order(rate: float) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 5000)))  # all different
    found = Drop(rate=rate).noised(text, rng())
    assert near(len(text) - len(found), len(text), rate)
    assert list(found) == sorted(found)


def test_add_drop_mutate_does_each_a_third_of_the_time() -> None:
    number, rate = 9000, 0.3
    text = "".join(map(chr, range(0x4E00, 0x4E00 + number)))  # all different
    found = AddDropMutate(rate=rate).noised(text, rng())
    assert set(found) <= set(text)
    added_less_dropped = len(found) - number  # each of the two is a third of the chosen ones
    assert abs(added_less_dropped) <= SIGMAS * (2 * number * rate / 3) ** 0.5
    gone = 2 / 3 * rate  # dropped or mutated; as many new characters are drawn, which bring some of them back
    assert near(number - len(set(found)), number, gone * math.exp(-gone))


def test_repetitions_are_one_to_three_more_with_equal_probability() -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 9000)))
    counts = Counter(Repetitions().noised(text, rng()))
    more = Counter(number - 1 for number in counts.values())
    assert set(more) == {0, 1, 2, 3}
    assert near(len(text) - more[0], len(text), 0.2)
    assert all(near(more[number], len(text), 0.2 / 3) for number in (1, 2, 3))


def test_antspeak_is_that_of_the_paper() -> None:
    assert Antspeak().noised("an owl", rng()) == " A N   O W L "
    assert Antspeak().noised("groß", rng()) == " G R O SS "
    found = Antspeak(rate=0.3).noised("a" * 5000, rng())
    assert near(found.count("A"), 5000, 0.3)
    assert re.fullmatch("a*(?: (?:A )+a+)*(?: (?:A )+)?", found)  # one space between capitals, and around each run


def test_uppercase_and_random_case_change_the_share() -> None:
    text = "abcdefghij" * 500
    assert Uppercase().noised(TEXT, rng()) == "".join(one.upper() if len(one.upper()) == 1 else one for one in TEXT)
    assert near(sum(map(str.isupper, Uppercase(rate=0.3).noised(text, rng()))), len(text), 0.3)
    assert near(sum(map(str.isupper, RandomCase().noised(text, rng()))), len(text), 0.5)
    assert near(sum(map(str.isupper, RandomCase(rate=0.4).noised(text, rng()))), len(text), 0.2)
    assert near(sum(map(str.islower, RandomCase().noised(text.upper(), rng()))), len(text), 0.5)
    assert RandomCase().noised("東京 13", rng()) == "東京 13"


@pytest.mark.parametrize(
    ("told", "noise"),
    [
        ("drop", Drop()), ("random-case:0.1", RandomCase(rate=0.1)), ("antspeak:1:7", Antspeak(seed=7)),
        ("add-drop-mutate:0", AddDropMutate(rate=0.0)),
    ],
)  # fmt: skip
def test_noise_is_named_with_its_rate_and_seed(told: str, noise: TextNoise) -> None:
    assert parsed(told) == noise == parsed(noise.told)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("dorp", "there is no 'dorp'. Did you mean 'drop'"),
        ("drop:often", "expected KIND, KIND:RATE"),
        ("drop:0.1:0:1", "expected KIND, KIND:RATE"),
        ("drop:1.5", "a share from 0 to 1"),
        ("drop:nan", "expected a finite number"),
    ],
)
def test_what_is_no_noise_is_one_line(told: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parsed(told)
