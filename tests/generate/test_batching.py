"""Continuous batching: whoever asks from whichever thread and whenever gets the text of `Engine.generate` alone."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from generate.writers import PROMPTS, TEXTS, Writer, writer
from genus import catalog, pipeline
from genus.errors import GenusError, UsageError
from genus.generate import Penalty, Request
from genus.generate.batching import ClosedError, ContinuousBatching, DeadlineError, Load, Stream
from genus.generate.beam import BeamSearch
from genus.generate.engine import Engine
from genus.generate.penalties import NoRepeatedNgrams, RepetitionPenalty
from genus.generate.reader import Reader
from genus.generate.sampling import Greedy, Sampling
from genus.model.attention.multi_head import MultiHeadAttention
from genus.objectives import Learner
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.tokens.algorithms.byte_bpe import ByteBPE
from small import documents, shrunk
from toys.decoder import DECODER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from genus.generate import Decoding, Result
    from genus.recipe import Recipe

SMALL = {"layers": 2, "hidden": 32}
ROWS: dict[str, dict[str, Any]] = {
    "gpt2/tiny": {"tokens": ByteBPE(vocab_size=300).to_json(), "model": {"initialization": {"std": 0.3}}},
    "llama/tiny": {"tokens": ByteBPE(vocab_size=300).to_json(), "model": {"initialization": {"std": 0.3}}},
    "reformer/enwik8": {"tokens": ByteBPE(vocab_size=300).to_json(), "model": {"initialization": {"std": 0.3}}},
    "t5/tiny": {"tokens": {"vocab_size": 300}, "model": {"encoder": SMALL, "decoder": SMALL}},
}
"""Rows, and what is changed of them so that texts differ. Reformer's has no cache, T5's reads a source."""
DIGITS = 8
"""Of log-probabilities in float64; ids are equal."""
MOMENT = 0.02
"""Seconds that pass at most before a thread asks."""
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


ASKED = [
    Asked(Request(PROMPTS[0], max_tokens=20), Greedy()),
    Asked(Request(PROMPTS[1], max_tokens=9), Sampling(temperature=0.9, top_p=0.9), seed=3),
    Asked(Request(PROMPTS[2], max_tokens=16, samples=3), Sampling(top_k=20), seed=4, log_probabilities=True),
    Asked(Request(PROMPTS[3], max_tokens=30, ignore_end=True), Greedy(), (NoRepeatedNgrams(size=2),)),
    Asked(Request(PROMPTS[4], max_tokens=12), Sampling(temperature=1.5), (RepetitionPenalty(value=1.5),), seed=9),
    Asked(Request("on", max_tokens=10, samples=2, answers=(" cat", " dog", " the cat")), Sampling(temperature=3.0)),
    Asked(Request(PROMPTS[5], max_tokens=10, samples=2), BeamSearch(beams=3, length_penalty=0.6)),
    Asked(Request(PROMPTS[0], max_tokens=11, stop=("a", "e"), key=7), Sampling(temperature=1.2), seed=1),
    Asked(Request(PROMPTS[2], max_tokens=7), BeamSearch(beams=2), (RepetitionPenalty(value=2.0),)),
    Asked(Request(PROMPTS[1], max_tokens=1), Greedy(), log_probabilities=True),
]
"""Texts of every kind."""


@pytest.fixture(scope="module")
def one() -> Writer:
    return writer()


@pytest.fixture(scope="module", params=ROWS)
def row(request: pytest.FixtureRequest) -> Writer:
    """A row of the catalog in float64, of random weights."""
    recipe: Recipe = catalog.load(request.param)
    recipe = (shrunk(recipe) if request.param == "reformer/enwik8" else recipe).overlay(ROWS[request.param])
    tokenizer = recipe.tokens.train([*TEXTS, *documents()])
    torch.manual_seed(0)
    recipe, learner = pipeline.new_learner(recipe, tokenizer)
    return Writer(learner.double().eval(), recipe.model, tokenizer)  # type: ignore[arg-type]


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


def together(batching: ContinuousBatching, asked: Sequence[Asked], threads: int, seed: int) -> list[list[Result]]:
    """Return the texts of requests that several threads ask for at random moments, some others of which they leave."""
    found: list[list[Result]] = [[] for _ in asked]
    queue, errors = list(range(len(asked))), list[BaseException]()
    random.Random(seed).shuffle(queue)

    def ask(rng: random.Random) -> None:
        try:
            while queue:
                number = queue.pop()
                time.sleep(rng.uniform(0, MOMENT))
                if rng.random() < 0.5:  # somebody leaves, waiting or in mid-text
                    with rng.choice(asked).submit(batching) as left:
                        for _ in range(rng.randrange(3)):
                            next(left, None)
                found[number] = results(asked[number].submit(batching))
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=ask, args=(random.Random(f"{seed} {n}"),)) for n in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(SOON)
    assert not errors
    assert not any(thread.is_alive() for thread in running)
    return found


def test_texts_are_those_of_each_alone_whoever_comes_and_goes(row: Writer) -> None:
    """All kinds of decoding, three slots, a cache in which few texts have room, and threads that leave."""
    engine = row.engine(slots=3)
    expected = [asked.alone(engine) for asked in ASKED]
    assert len({result.ids for found in expected for result in found}) > len(ASKED)
    with ContinuousBatching(engine, tokens=130, source_tokens=90) as batching:
        for seed in range(2):
            for found, alone in zip(together(batching, ASKED, 5, seed), expected, strict=True):
                assert rounded(found) == rounded(alone)
        assert idle(batching) == Load(0, 0, 0, 0)


def idle(batching: ContinuousBatching) -> Load:
    """Return the load, once nothing is generated any more."""
    end = time.monotonic() + SOON
    while (load := batching.load()) != Load(0, 0, 0, 0) and time.monotonic() < end:
        time.sleep(0.001)
    return load


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
    with counted, ContinuousBatching(one.engine(slots=3), lock=lock) as batching:
        with lock:
            streams = [each.submit(batching) for each in [*asked, asked[0]]]
            assert batching.load() == Load(0, 4, 0, 0)
        found = [results(stream) for stream in streams]
        assert idle(batching) == Load(0, 0, 0, 0)
    assert [text for [text] in found] == [each.alone(one.engine())[0] for each in [*asked, asked[0]]]
    assert len(passes) == 4 + 9  # the fourth joins when the third has ended


def test_the_load_is_counted_and_the_cache_is_as_large_as_was_said(one: Writer) -> None:
    lock = threading.Lock()
    ids = [5] * 10
    with ContinuousBatching(one.engine(slots=4), tokens=50, lock=lock) as batching:
        streams = [batching.submit(Request(ids, max_tokens=10, ignore_end=True), Greedy()) for _ in range(3)]
        for stream in streams[:2]:
            next(stream)
        with lock:
            assert batching.load() in {Load(2, 1, 2, 40), Load(1, 1, 1, 20), Load(1, 0, 1, 20), Load(0, 0, 0, 0)}
        for stream in streams:
            assert len(results_after_first(stream)) == 1
        assert batching._slots.reader.cache is not None
        assert batching._slots.reader.cache.entries == 50


def results_after_first(stream: Stream) -> list[Result]:
    return [piece.result for piece in stream if piece.result is not None]


def test_the_lock_is_held_in_forward_passes_and_the_model_is_untouched_between(one: Writer) -> None:
    lock = threading.Lock()
    kinds = [type(module) for module in one.learner.modules()]
    held: list[bool] = []
    between = 0
    request = Request(PROMPTS[0], max_tokens=40, ignore_end=True)
    hook = one.learner.register_forward_hook(lambda *_: held.append(lock.locked() and not one.learner.training))
    one.learner.train()
    try:
        with hook, ContinuousBatching(one.engine(), lock=lock) as batching:
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
    with ContinuousBatching(one.engine(slots=2), lock=lock) as batching:
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
    with ContinuousBatching(one.engine(slots=1), lock=lock) as batching:
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
    with ContinuousBatching(one.engine(slots=1), tokens=4500, lock=lock) as batching:
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


def test_what_can_never_be_answered_is_refused_at_once(row: Writer) -> None:
    reads_source = row.engine().prompts.reads_source
    with ContinuousBatching(row.engine(), tokens=40, source_tokens=20) as batching:
        with pytest.raises(UsageError, match=r"max_tokens 41 are 4\d, and the cache has room for 40; ask for fewer"):
            batching.submit(Request([5] if not reads_source else "a", max_tokens=41), Greedy())
        with pytest.raises(UsageError, match=r"4 times .* and the cache has room for 40"):
            batching.submit(Request("a", max_tokens=10), BeamSearch(beams=4))
        if reads_source:
            with pytest.raises(UsageError, match="the source has 21 tokens, and the cache has room for 20"):
                batching.submit(Request([5] * 21, max_tokens=3), Greedy())
        with pytest.raises(UsageError, match="greedy decoding finds one text"):
            batching.submit(Request("a", samples=2), Greedy())
        with pytest.raises(UsageError, match="stop: an empty string"):
            batching.submit(Request("a", stop=("",)), Greedy())
        with pytest.raises(UsageError, match="answers: '' has 0 tokens"):
            batching.submit(Request("a", max_tokens=3, answers=("",)), BeamSearch(beams=2))
        with pytest.raises(UsageError, match="seed: expected at least 0"):
            batching.submit(Request("a"), Sampling(), seed=-1)
        assert batching.load() == Load(0, 0, 0, 0)


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


@pytest.mark.parametrize("row", ["t5/tiny"], indirect=True)
def test_a_source_is_read_once(row: Writer) -> None:
    calls: list[object] = []
    encoder = row.learner.get_submodule("network.encoder")
    with (
        encoder.register_forward_hook(lambda *given: calls.append(given)),
        ContinuousBatching(row.engine()) as batching,
    ):
        [found] = results(batching.submit(Request("a bridge", max_tokens=9, ignore_end=True), Greedy()))
    assert (len(calls), len(found.ids)) == (1, 9)
