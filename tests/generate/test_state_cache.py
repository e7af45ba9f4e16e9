"""A recurrent network writes with one state per text: its texts are those that it writes when it reads all anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from generate.writers import PROMPTS, Writer, writer
from genus.generate import Request
from genus.generate.beam import BeamSearch
from genus.generate.sampling import Greedy, Sampling
from genus.model.lstm import LSTM

if TYPE_CHECKING:
    from genus.generate import Decoding


@pytest.fixture(scope="module")
def one() -> Writer:
    return writer(cast("Any", LSTM(layers=2, hidden=16, size=24, residual=True)))


@pytest.mark.parametrize(
    "decoding", [Greedy(), Sampling(temperature=1.3), BeamSearch(beams=3)], ids=lambda it: type(it).__name__
)
def test_texts_are_those_without_a_cache(one: Writer, decoding: Decoding, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of different lengths, more than there are slots, so that they join and leave."""
    requests = [Request(prompt, max_tokens=4 + number) for number, prompt in enumerate(PROMPTS)]

    def texts() -> list[list[tuple[int, ...]]]:
        return [[result.ids for result in found] for found in one.engine(slots=6).generate(requests, decoding)]

    with_states = texts()
    monkeypatch.setattr(type(one.learner.network), "cache", lambda *_, **__: None)
    assert with_states == texts()
    assert len({ids for [ids] in with_states}) > 1
