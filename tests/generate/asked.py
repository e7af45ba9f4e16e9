"""Requests with all that is said of how they are answered, for the tests of continuous batching."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from genus.generate.batching import ContinuousBatching, Load, Stream
from genus.generate.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genus.generate import Decoding, Penalty, Request, Result

DIGITS = 8
"""Of log-probabilities in float64; ids are equal."""
SOON = 60
"""Seconds after which a thread that has not ended never will."""


@dataclass(frozen=True)
class Asked:
    """A request, and how it is asked."""

    request: Request
    decoding: Decoding
    penalties: tuple[Penalty, ...] = ()
    seed: int = 0
    log_probabilities: bool = False

    def alone(self, engine: Engine) -> list[Result]:
        """Return its texts, as an engine of the same model generates them that is made for it."""
        own = Engine(
            engine.learner,
            engine.model,
            engine.tokenizer,
            penalties=self.penalties,
            seed=self.seed,
            log_probabilities=self.log_probabilities,
        )
        [found] = own.generate([self.request], self.decoding)
        return found

    def submit(self, batching: ContinuousBatching) -> Stream:
        return batching.submit(
            self.request,
            self.decoding,
            penalties=self.penalties,
            seed=self.seed,
            log_probabilities=self.log_probabilities,
        )


def rounded(results: list[Result]) -> list[Result]:
    """Return results whose sums of other sizes in another order are equal in all digits that are kept."""
    return [
        replace(
            one,
            log_probabilities=tuple(round(number, DIGITS) for number in one.log_probabilities),
            score=None if one.score is None else round(one.score, DIGITS),
        )
        for one in results
    ]


def results(stream: Iterator[Any]) -> list[Result]:
    """Return the texts of a stream, whose pieces make them up."""
    found: dict[int, Result] = {}
    texts: dict[int, str] = {}
    for piece in stream:
        assert piece.request == 0
        assert piece.text or piece.result is not None
        texts[piece.sample] = texts.get(piece.sample, "") + piece.text
        if piece.result is not None:
            found[piece.sample] = piece.result
    assert texts == {sample: result.text for sample, result in found.items()}
    return [found[sample] for sample in sorted(found)]


def idle(batching: ContinuousBatching) -> Load:
    """Return the load, once nothing is generated any more."""
    end = time.monotonic() + SOON
    while (load := batching.load()) != Load(0, 0, 0, 0) and time.monotonic() < end:
        time.sleep(0.001)
    return load
