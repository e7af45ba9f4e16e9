"""Continuous batching: whoever asks from whichever thread and whenever gets the text of `Engine.generate` alone."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch

from generate.asked import SOON, Asked, idle, results, rounded
from generate.writers import PROMPTS, TEXTS, Writer
from genus import catalog, pipeline
from genus.errors import UsageError
from genus.generate import Request
from genus.generate.batching import ContinuousBatching, Load
from genus.generate.beam import BeamSearch
from genus.generate.penalties import NoRepeatedNgrams, RepetitionPenalty
from genus.generate.sampling import Greedy, Sampling
from genus.tokens.algorithms.byte_bpe import ByteBPE
from small import documents, shrunk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genus.generate import Result
    from genus.recipe import Recipe

SMALL = {"layers": 2, "hidden": 32}
ROWS: dict[str, dict[str, Any]] = {
    "gpt2/tiny": {"tokens": ByteBPE(vocab_size=300).to_json(), "model": {"initialization": {"std": 0.3}}},
    "llama/tiny": {"tokens": ByteBPE(vocab_size=300).to_json(), "model": {"initialization": {"std": 0.3}}},
    "reformer/enwik8": {"tokens": ByteBPE(vocab_size=300).to_json(), "model": {"initialization": {"std": 0.3}}},
    "t5/tiny": {"tokens": {"vocab_size": 300}, "model": {"encoder": SMALL, "decoder": SMALL}},
}
"""Rows, and what is changed of them so that texts differ. Reformer's has no cache, T5's reads a source."""
MOMENT = 0.02
"""Seconds that pass at most before a thread asks."""


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


@pytest.fixture(scope="module", params=ROWS)
def row(request: pytest.FixtureRequest) -> Writer:
    """A row of the catalog in float64, of random weights."""
    recipe: Recipe = catalog.load(request.param)
    recipe = (shrunk(recipe) if request.param == "reformer/enwik8" else recipe).overlay(ROWS[request.param])
    tokenizer = recipe.tokens.train([*TEXTS, *documents()])
    torch.manual_seed(0)
    recipe, learner = pipeline.new_learner(recipe, tokenizer)
    return Writer(learner.double().eval(), recipe.model, tokenizer)  # type: ignore[arg-type]


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
