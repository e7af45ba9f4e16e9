"""Generation from a source: the encoder's states are read once, kept by slot, and nothing else in the batch matters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch import nn

from genus import pipeline
from genus.batch import Batch
from genus.errors import UsageError
from genus.export.folder import save
from genus.generate import Request
from genus.generate.beam import BeamSearch
from genus.generate.engine import Engine
from genus.generate.sampling import Greedy, Sampling
from genus.recipes import byt5, t5
from genus.tokens.algorithms.byt5 import ByT5Bytes
from hand import equal_rows
from small import documents

if TYPE_CHECKING:
    from pathlib import Path

    from genus.objectives import Learner
    from genus.recipe import Recipe
    from genus.tokens.tokenizer import Tokenizer

SOURCES = [
    "The old river carries the long letter.",
    "Seven stones",
    "",
    "a narrow bridge in winter " * 4,
    "Our neighbor answers.",
]
ROWS = [t5.TINY, t5.SMALL, byt5.TINY]


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: row.name)
def writer(request: pytest.FixtureRequest) -> tuple[Recipe, Learner, Tokenizer]:
    """Return a small model of random weights in float64, with its tokenizer."""
    small = {"layers": 2, "hidden": 32}
    pieces = 384 if isinstance(request.param.tokens, ByT5Bytes) else 300
    changes = {"tokens": {"vocab_size": pieces}, "model": {"encoder": small, "decoder": small}}
    recipe = request.param.overlay(changes)
    tokenizer = recipe.tokens.train(documents())
    torch.manual_seed(0)
    recipe, learner = pipeline.new_learner(recipe, tokenizer)
    return recipe, learner.double().eval(), tokenizer


def engine(writer: tuple[Recipe, Learner, Tokenizer], **choices: Any) -> Engine:
    recipe, learner, tokenizer = writer
    return Engine(learner, recipe.model, tokenizer, **choices)


def slowly(writer: tuple[Recipe, Learner, Tokenizer], source: list[int], tokens: int) -> list[int]:
    """Return greedy ids, reading source and tokens anew for each."""
    _, learner, tokenizer = writer
    ids = [*tokenizer.vocabulary.target_begins]
    head = cast("nn.Module", learner.heads["denoising"].lm_head)
    while len(ids) <= tokens and ids[-1] != tokenizer.vocabulary.end:
        streams = {"tokens": equal_rows(torch.tensor([ids])), "source": equal_rows(torch.tensor([source]))}
        with torch.no_grad():
            states = learner.network(Batch(streams, {}))["tokens"]
            ids.append(int(head(states[-1:])[0, : tokenizer.vocabulary.size].argmax()))
    return ids[1:]


@pytest.mark.parametrize("slots", [1, 2, 8])
@pytest.mark.parametrize("cached", [True, False])
def test_greedy_equals_reading_everything_again(
    writer: tuple[Recipe, Learner, Tokenizer], slots: int, cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token for token; sources of different lengths, one that is empty, texts that join and leave in mid-run."""
    if not cached:
        monkeypatch.setattr(type(writer[1].network), "cache", lambda *_, **__: None)
    one = engine(writer, slots=slots)
    requests = [Request(source, max_tokens=4 + 3 * number) for number, source in enumerate(SOURCES)]
    for request, [result] in zip(requests, one.generate(requests, Greedy()), strict=True):
        assert list(result.ids) == slowly(writer, one.prompts.source(request), request.max_tokens)


def test_what_else_is_in_the_batch_changes_nothing(writer: tuple[Recipe, Learner, Tokenizer]) -> None:
    requests = [Request(source, max_tokens=8, samples=2, key=number) for number, source in enumerate(SOURCES)]
    together = engine(writer, slots=3).generate(requests, Sampling(temperature=2.0))
    alone = [engine(writer).generate([request], Sampling(temperature=2.0))[0] for request in requests]
    assert [[one.ids for one in results] for results in together] == [[one.ids for one in found] for found in alone]


@pytest.mark.parametrize("beams", [1, 4])
def test_generation_equals_transformers(writer: tuple[Recipe, Learner, Tokenizer], beams: int, tmp_path: Path) -> None:
    """Greedy and beam 4, token for token, in float64."""
    transformers = pytest.importorskip("transformers")
    recipe, learner, tokenizer = writer
    save(tmp_path / "model", recipe, learner, tokenizer)
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "model").double().eval()
    decoding = Greedy() if beams == 1 else BeamSearch(beams=beams)
    words = [word for text in documents(40) for word in text.split()]
    sources = [" ".join(words[first : first + 6]) for first in range(0, 240, 6)]
    one = engine(writer)
    requests = [Request(source, max_tokens=12) for source in sources]
    for request, [result] in zip(requests, one.generate(requests, decoding), strict=True):
        ids = torch.tensor([one.prompts.source(request)])
        found = theirs.generate(ids, max_new_tokens=12, num_beams=beams, do_sample=False)[0, 1:].tolist()
        assert list(result.ids) == found[: len(result.ids)]
        assert not any(found[len(result.ids) :])


@pytest.mark.parametrize("cached", [True, False])
def test_beams_share_a_source(
    writer: tuple[Recipe, Learner, Tokenizer], cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several searches at once give what each gives alone; a source is kept once for all of its beams."""
    if not cached:
        monkeypatch.setattr(type(writer[1].network), "cache", lambda *_, **__: None)
    search = BeamSearch(beams=3)
    requests = [Request(source, max_tokens=4 + number, samples=3) for number, source in enumerate(SOURCES)]
    readers: list[Any] = []
    original = Engine.reader
    monkeypatch.setattr(
        Engine, "reader", lambda *given, **named: readers.append(original(*given, **named)) or readers[-1]
    )
    one = engine(writer, slots=100)
    together = one.generate(requests, search)
    if cached:
        assert readers[0].source_cache.entries == sum(len(one.prompts.source(request)) for request in requests)
    alone = [engine(writer).generate([request], search)[0] for request in requests]
    assert [[one.ids for one in results] for results in together] == [[one.ids for one in found] for found in alone]


def test_many_sources_are_read_some_at_a_time(
    writer: tuple[Recipe, Learner, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row of the encoder is longer than the longest source or the limit; the texts are those of a whole row."""
    sources = [engine(writer).prompts.source(Request(source)) for source in SOURCES]
    requests = [Request(source, max_tokens=6) for source in SOURCES]
    whole = engine(writer).generate(requests, Greedy())
    read: list[int] = []
    encoder = cast("nn.Module", writer[1].network.encoder)
    hook = encoder.register_forward_pre_hook(lambda _, given: read.append(given[0].streams["tokens"].row_length))
    monkeypatch.setattr("genus.model.encoder_decoder.MATH_LENGTH", 16)
    found = engine(writer).generate(requests, Greedy())
    hook.remove()
    assert len(read) > 1
    assert max(read) <= max(16, *map(len, sources))
    assert [[one.ids for one in results] for results in found] == [[one.ids for one in results] for results in whole]


def test_a_source_past_the_encoders_positions(writer: tuple[Recipe, Learner, Tokenizer]) -> None:
    """Refused, or cut at its right end; the end token stays."""
    one = engine(writer)
    request = Request("a narrow bridge " * 20)
    whole = one.prompts.source(request)
    one.prompts.source_length = 10
    with pytest.raises(UsageError, match="the encoder 10 positions; shorten it"):
        one.prompts.check(request)
    one.prompts.cut = True
    assert one.prompts.source(request) == [*whole[:9], whole[-1]]
