"""Continuous batching: who joins when, what is held meanwhile, and every way in which a request leaves."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from generate.asked import SOON, Asked, idle, results
from generate.writers import PROMPTS, Writer, writer
from genus import catalog
from genus.errors import GenusError, UsageError
from genus.generate import Penalty, Request
from genus.generate.batching import ClosedError, ContinuousBatching, DeadlineError, Load
from genus.generate.beam import BeamSearch
from genus.generate.penalties import RepetitionPenalty
from genus.generate.reader import Reader
from genus.generate.sampling import Greedy, Sampling
from genus.model.attention.multi_head import MultiHeadAttention
from genus.objectives import Learner
from genus.objectives.pretraining.masked_lm import MaskedLM
from toys.decoder import DECODER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from genus.generate import Decoding


def in_turn(lock: threading.Lock) -> Callable[[Callable[[], Any]], Any]:
    """Return what calls functions while it holds a lock."""

    def held(compute: Callable[[], Any]) -> Any:
        with lock:
            return compute()

    return held


@pytest.fixture(scope="module")
def one() -> Writer:
    return writer()


def test_requests_of_all_decodings_share_forward_passes(one: Writer) -> None:
    """As many as the longest text has tokens; in the order of arrival, where there are slots."""
    lock = threading.Lock()
    passes: list[object] = []
    asked = [
        Asked(Request(PROMPTS[0], max_tokens=9, ignore_end=True), Greedy()),
        Asked(Request(PROMPTS[1], max_tokens=12, ignore_end=True), Sampling(temperature=0.7), seed=1),
        Asked(Request(PROMPTS[2], max_tokens=4, ignore_end=True), Greedy(), (RepetitionPenalty(),)),
    ]
    counted = one.learner.register_forward_hook(lambda *given: passes.append(given))
    with counted, ContinuousBatching(one.engine(slots=3), passes=in_turn(lock)) as batching:
        with lock:
            streams = [each.submit(batching) for each in [*asked, asked[0]]]
            assert batching.load() == Load(0, 4, 0, 0)
        found = [results(stream) for stream in streams]
        assert idle(batching) == Load(0, 0, 0, 0)
    assert [text for [text] in found] == [each.alone(one.engine())[0] for each in [*asked, asked[0]]]
    assert len(passes) == 4 + 9  # the fourth joins when the third has ended


def test_the_load_is_counted_and_the_cache_is_as_large_as_was_said(one: Writer) -> None:
    """Two of three have room; the third joins when both have ended, though there was a slot before."""
    lock, loads = threading.Lock(), list[Load]()
    request = Request([5] * 10, max_tokens=10, ignore_end=True)
    with ContinuousBatching(one.engine(slots=4), tokens=50, passes=in_turn(lock)) as batching:
        with one.learner.register_forward_hook(lambda *_: loads.append(batching.load())):
            with lock:
                streams = [batching.submit(request, Greedy()) for _ in range(3)]
            assert [len(results(stream)) for stream in streams] == [1, 1, 1]
        cache = batching._slots.reader.cache
    assert cache is not None
    assert cache.entries == 50
    two, third = [Load(0, 3, 2, 40), *[Load(2, 1, 2, 40)] * 9], [Load(0, 1, 1, 20), *[Load(1, 0, 1, 20)] * 9]
    assert loads == two + third


def test_forward_passes_are_made_in_turn_and_the_model_is_untouched_between(one: Writer) -> None:
    lock = threading.Lock()
    kinds = [type(module) for module in one.learner.modules()]
    held: list[bool] = []
    between = 0
    request = Request(PROMPTS[0], max_tokens=40, ignore_end=True)
    hook = one.learner.register_forward_hook(lambda *_: held.append(lock.locked() and not one.learner.training))
    one.learner.train()
    try:
        with hook, ContinuousBatching(one.engine(), passes=in_turn(lock)) as batching:
            streams = [batching.submit(request, decoding) for decoding in (Greedy(), BeamSearch(beams=2))]
            while any(stream in batching._open for stream in streams):
                with lock:
                    assert [type(module) for module in one.learner.modules()] == kinds
                    assert all(module.training for module in one.learner.modules())
                    between += 1
    finally:
        one.learner.eval()
    assert all(held)
    assert len(held) == 80
    assert between > 1


class Failing(Penalty):
    """A penalty that fails once a text has so many tokens."""

    tokens: int = 0

    def __call__(self, logits_SV: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """Raise an error, if a text is long enough."""
        if max(map(len, texts)) >= self.tokens:
            raise ArithmeticError("it fails")
        return logits_SV


@pytest.mark.parametrize("decoding", [Greedy(), BeamSearch(beams=2)], ids=["greedy", "beams"])
def test_an_error_ends_the_requests_of_its_forward_pass_and_no_other(one: Writer, decoding: Decoding) -> None:
    """All slots are free afterwards; a search has a pass of its own."""
    lock = threading.Lock()
    request = Request([5] * 10, max_tokens=20, ignore_end=True)
    with ContinuousBatching(one.engine(slots=2), passes=in_turn(lock)) as batching:
        with lock:
            beside = batching.submit(request, Greedy())
            failing = batching.submit(request, decoding, penalties=[Failing(tokens=15)])
            after = batching.submit(request, Greedy())
        with pytest.raises(ArithmeticError, match="it fails"):
            list(failing)
        assert list(failing) == []
        if decoding == Greedy():
            with pytest.raises(ArithmeticError, match="it fails"):
                list(beside)
        else:
            assert results(beside) == Asked(request, Greedy()).alone(one.engine())
        assert results(after) == Asked(request, Greedy()).alone(one.engine())
        assert idle(batching) == Load(0, 0, 0, 0)
        assert sorted(batching._slots.free) == [0, 1]
        assert not batching._slots.reader.cache.slots  # type: ignore[union-attr]
        assert not batching._of


def test_a_failing_forward_pass_leaves_what_waits(one: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = threading.Lock()
    asked = Asked(Request(PROMPTS[0], max_tokens=5), Greedy())
    read, calls = Reader.read, list[int]()

    def fails_at_first(self: Reader, new: Any) -> Tensor:
        calls.append(len(new))
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return read(self, new)

    expected = asked.alone(one.engine())
    monkeypatch.setattr(Reader, "read", fails_at_first)
    with ContinuousBatching(one.engine(slots=1), passes=in_turn(lock)) as batching:
        with lock:
            first, second = asked.submit(batching), asked.submit(batching)
        with pytest.raises(RuntimeError, match="out of memory"):
            next(first)
        assert results(second) == expected


@pytest.mark.parametrize("decoding", [Greedy(), BeamSearch(beams=2)], ids=["greedy", "beams"])
def test_a_request_whose_time_is_over_leaves_running_or_waiting(one: Writer, decoding: Decoding) -> None:
    lock = threading.Lock()
    long = Request([5] * 10, max_tokens=2000, ignore_end=True)
    asked = Asked(replace(long, max_tokens=30), Greedy())
    with ContinuousBatching(one.engine(slots=1), tokens=4500, passes=in_turn(lock)) as batching:
        with lock:
            running, late = (batching.submit(long, decoding, timeout=0.3) for _ in range(2))
            after = asked.submit(batching)
        for stream in (running, late):
            with pytest.raises(DeadlineError, match="the time of the request was over"):
                list(stream)
        assert results(after) == asked.alone(one.engine())
        assert idle(batching) == Load(0, 0, 0, 0)


@pytest.mark.parametrize("decoding", [Greedy(), BeamSearch(beams=2)], ids=["greedy", "beams"])
def test_what_is_cancelled_ends_at_once_for_whoever_waits_for_it(one: Writer, decoding: Decoding) -> None:
    request = Request([5] * 10, max_tokens=20000, ignore_end=True)
    with ContinuousBatching(one.engine(slots=1), tokens=50000) as batching:
        running, waiting = batching.submit(request, decoding), batching.submit(request, decoding)
        taken: list[list[Any]] = []
        thread = threading.Thread(target=lambda: taken.append(list(waiting)))
        thread.start()
        for stream in (waiting, running):
            stream.cancel()
            stream.cancel()
        thread.join(SOON)
        assert taken == [[]]
        assert idle(batching) == Load(0, 0, 0, 0)
        assert list(running) == []


def test_closing_waits_for_what_was_asked_for_unless_it_may_not(one: Writer) -> None:
    asked = Asked(Request(PROMPTS[0], max_tokens=25, ignore_end=True), Greedy())
    batching = ContinuousBatching(one.engine(slots=1))
    streams = [asked.submit(batching) for _ in range(3)]
    batching.close()
    assert [results(stream) for stream in streams] == [asked.alone(one.engine())] * 3
    with pytest.raises(ClosedError, match="generation was closed, and takes no more"):
        asked.submit(batching)
    batching.close()

    batching = ContinuousBatching(one.engine(slots=1), tokens=50000)
    long = replace(asked.request, max_tokens=20000)
    streams = [batching.submit(long, decoding) for decoding in (Greedy(), Greedy(), BeamSearch(beams=2))]
    next(streams[0])
    batching.close(drain=False)
    for stream in streams:
        with pytest.raises(ClosedError, match="generation was closed before"):
            list(stream)
    assert batching.load() == Load(0, 0, 0, 0) or not batching._open


def test_the_cache_has_room_for_the_longest_text_and_a_usual_one_in_each_slot(one: Writer) -> None:
    gpt2 = catalog.load("gpt2/tiny").model
    with ContinuousBatching(one.engine(slots=3)) as batching:  # rotary positions never end
        assert (batching.tokens, batching.source_tokens) == (4096, 4096)
    engine = one.engine(slots=3)
    engine.prompts.max_length = gpt2.max_length_of("tokens")
    with ContinuousBatching(engine) as batching:
        assert batching.tokens == 3 * 1024 == 3 * (engine.prompts.max_length or 0)
    with pytest.raises(UsageError, match="tokens: expected at least 1, got 0"):
        ContinuousBatching(one.engine(), tokens=0)


def test_a_model_that_restores_tokens_cannot_be_asked() -> None:
    masked = replace(DECODER, attention=MultiHeadAttention(heads=4))
    learner = Learner(masked.build(275), {"masked_lm": MaskedLM().build(masked, 275)})
    with pytest.raises(GenusError, match="does not predict the next token"):
        ContinuousBatching(Writer(learner, masked, writer().tokenizer).engine())
