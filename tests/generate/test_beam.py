"""Beam search beside a slow one, and its ways to stop."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from generate.writers import PROMPTS, Writer, next_logits, writer
from genus.errors import UsageError
from genus.generate import Request
from genus.generate.beam import BeamSearch
from genus.generate.sampling import Greedy

CLOSE = 1e-9
"""Of scores in float64, but for sums that are kept in float32."""
SUMS = 1e-4


@pytest.fixture(scope="module")
def one() -> Writer:
    return writer()


def test_one_beam_is_greedy_decoding(one: Writer) -> None:
    requests = [Request(prompt, max_tokens=9) for prompt in PROMPTS]
    greedy = one.engine().generate(requests, Greedy())
    beam = one.engine().generate(requests, BeamSearch(beams=1, early_stopping="yes"))
    assert [result.ids for [result] in beam] == [result.ids for [result] in greedy]


def exhaustive(one: Writer, prompt: list[int], tokens: int) -> list[tuple[float, tuple[int, ...]]]:
    """Return the most probable texts of so many tokens, by looking at all of them that a wide beam could hold."""
    kept: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for _ in range(tokens):
        grown = []
        for total, ids in kept:
            chances = next_logits(one, [*prompt, *ids]).log_softmax(-1)
            best = chances.topk(40)
            grown += [(total + float(v), (*ids, int(i))) for v, i in zip(*best, strict=True)]
        kept = sorted(grown, reverse=True)[:60]
    return kept


def test_many_beams_find_the_most_probable_text(one: Writer) -> None:
    engine = one.engine(slots=60, log_probabilities=True)
    prompt, _ = engine.prompts.ids(Request("the cat"))
    request = Request("the cat", max_tokens=3, samples=5, ignore_end=True)
    found = engine.generate([request], BeamSearch(beams=60, length_penalty=0.0))[0]
    expected = exhaustive(one, prompt, 3)[:5]
    assert [result.ids for result in found] == [ids for _, ids in expected]
    assert [result.score for result in found] == pytest.approx([total for total, _ in expected], abs=SUMS)
    for result in found:
        assert sum(result.log_probabilities) == pytest.approx(result.score, abs=SUMS)


@pytest.mark.parametrize("slots", [4, 8, 32])
def test_searches_side_by_side_are_each_alone(one: Writer, slots: int) -> None:
    requests = [Request(prompt, max_tokens=7, samples=2) for prompt in PROMPTS]
    search = BeamSearch(beams=4, length_penalty=0.7)
    alone = [one.engine().generate([request], search)[0] for request in requests]
    together = one.engine(slots=slots).generate(requests, search)
    told = [[[(result.ids, result.text, result.reason) for result in results] for results in found]
            for found in (alone, together)]  # fmt: skip
    assert told[0] == told[1]


def test_more_samples_than_beams_are_refused(one: Writer) -> None:
    with pytest.raises(UsageError, match="samples: expected at most 2"):
        one.engine().generate([Request("a", samples=3)], BeamSearch(beams=2))


CHOICES = [
    {"beams": beams, "length_penalty": penalty, "early_stopping": stopping}
    for beams, penalty, stopping in itertools.product([2, 4], [0.0, 1.0, 2.0], ["no", "yes", "never"])
]


@pytest.mark.parametrize("choices", CHOICES, ids=lambda choices: "-".join(map(str, choices.values())))
def test_a_search_ends_with_as_many_texts_as_asked(one: Writer, choices: dict[str, Any]) -> None:
    request = Request("the", max_tokens=12, samples=2)
    found = one.engine().generate([request], BeamSearch(**choices))[0]
    assert len(found) == 2
    assert found[0].score >= found[1].score  # type: ignore[operator]
