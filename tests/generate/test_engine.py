"""The engine: what is generated depends on the request alone, and every way to end a text."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest

from generate.writers import PROMPTS, TEXTS, Writer, next_logits, writer
from genus.errors import GenusError, UsageError
from genus.generate import Decoding, Request
from genus.generate.beam import BeamSearch
from genus.generate.penalties import NoRepeatedNgrams, RepetitionPenalty
from genus.generate.sampling import Greedy, Sampling
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.embedding import Embedding
from genus.model.norm import Identity
from genus.model.position.learned import LearnedPosition
from genus.objectives import Learner
from genus.objectives.pretraining.masked_lm import MaskedLM
from toys.decoder import DECODER

LIKELY = 1e-9
"""Of log-probabilities in float64."""


@pytest.fixture(scope="module")
def one() -> Writer:
    return writer()


def slowly(one: Writer, prompt: list[int], tokens: int) -> tuple[list[int], list[float]]:
    """Return greedy ids and their log-probabilities, reading everything anew for each token."""
    ids, told = list(prompt), []
    ends = one.engine().prompts.ends
    while len(told) < tokens:
        chances = next_logits(one, ids).log_softmax(-1)
        ids.append(int(chances.argmax()))
        told.append(float(chances.max()))
        if ids[-1] in ends:
            break
    return ids[len(prompt) :], told


@pytest.mark.parametrize("slots", [1, 2, 32])
def test_greedy_equals_reading_everything_again(one: Writer, slots: int) -> None:
    """Token for token, prompts of different lengths, texts that join and leave a running batch."""
    engine = one.engine(slots=slots, log_probabilities=True)
    requests = [Request(prompt, max_tokens=5 + 3 * n) for n, prompt in enumerate(PROMPTS)]
    found = engine.generate(requests, Greedy())
    for request, [result] in zip(requests, found, strict=True):
        prompt, _ = engine.prompts.ids(request)
        ids, told = slowly(one, prompt, request.max_tokens)
        assert list(result.ids) == ids
        assert result.log_probabilities == pytest.approx(told, abs=LIKELY)
        assert result.reason in {"length", "end"}


def test_a_network_without_a_cache_generates_the_same(one: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [Request(prompt, max_tokens=8, samples=2) for prompt in PROMPTS]
    sampling = Sampling(temperature=0.8)
    expected = one.engine().generate(requests, sampling)
    monkeypatch.setattr(type(one.learner.network), "cache", lambda *given, **choices: None)
    assert one.engine(slots=3).generate(requests, sampling) == expected


@pytest.mark.parametrize("slots", [1, 3])
def test_what_else_is_in_the_batch_changes_no_sample(one: Writer, slots: int) -> None:
    """Draws are keyed by seed, request and sample; alone, together, in another number of slots: the same texts."""
    sampling = Sampling(temperature=0.9, top_p=0.95)
    requests = [Request(prompt, max_tokens=12, samples=3) for prompt in PROMPTS]
    together = one.engine(seed=5).generate(requests, sampling)
    assert one.engine(seed=5, slots=slots).generate(requests, sampling) == together
    assert one.engine(seed=5).generate(requests[:1], sampling) == together[:1]
    other = [requests[0], *[Request("mat", max_tokens=30)] * 7]
    assert one.engine(seed=5).generate(other, sampling)[:1] == together[:1]
    assert one.engine(seed=6).generate(requests, sampling) != together
    assert len({result.text for result in together[0]}) == 3


def test_pieces_are_the_text(one: Writer) -> None:
    """Streamed pieces hold whole characters, and make up the text."""
    requests = [Request(prompt, max_tokens=40) for prompt in PROMPTS]
    texts = dict.fromkeys(range(len(requests)), "")
    for piece in one.engine().stream(requests, Sampling(temperature=1.5)):
        texts[piece.request] += piece.text
        if piece.result is not None:
            assert piece.result.text == texts[piece.request]
            assert len(piece.result.ids) <= 40


@pytest.mark.parametrize("decoding", [Greedy(), BeamSearch(beams=2)])
def test_who_takes_the_pieces_can_learn_between_them(one: Writer, decoding: Decoding) -> None:
    for _ in one.engine().stream([Request(PROMPTS[0], max_tokens=3)], decoding):
        weight = next(one.learner.parameters())
        assert (weight * weight).requires_grad
    assert not any(tensor.is_inference() for tensor in one.learner.tensors().values())


def test_stop_strings_end_a_text_before_them() -> None:
    one = writer(vocab_size=320)  # whole words, else most of what is generated is no text
    request = Request("the cat", max_tokens=40, samples=60)
    texts = one.engine().generate([request], Sampling())[0]
    whole, stop = next((text, found[0]) for text in texts if (found := re.findall("(?<=..)[ -~]{2}(?=..)", text.text)))
    pieces = list(one.engine().stream([replace(request, stop=("nowhere", stop))], Sampling()))
    pieces = [piece for piece in pieces if piece.sample == whole.sample]
    result = pieces[-1].result
    assert result is not None
    assert result.reason == "stop"
    assert result.text == whole.text[: whole.text.index(stop)]
    assert "".join(piece.text for piece in pieces) == result.text
    assert len(result.ids) < len(whole.ids)


def test_the_end_token_ends_a_text_unless_it_may_not(one: Writer) -> None:
    engine = one.engine()
    sampling = Sampling(temperature=3.0)
    requests = [Request("the", max_tokens=60, samples=40)]
    ended = [result for result in engine.generate(requests, sampling)[0] if result.reason == "end"]
    assert ended
    assert all(result.ids[-1] in engine.prompts.ends for result in ended)
    through = engine.generate([replace(requests[0], ignore_end=True)], sampling)[0]
    assert {result.reason for result in through} == {"length"}
    assert not {*engine.prompts.ends} & {number for result in through for number in result.ids}


@pytest.mark.parametrize("answers", [(" cat", " dog", " door"), (" the", " the cat", " mat")], ids=["apart", "within"])
def test_a_closed_set_of_answers(one: Writer, answers: tuple[str, ...]) -> None:
    """All of them occur, and nothing else; of a set where one begins another, too."""
    request = Request("on", max_tokens=10, samples=60, answers=answers)
    found = one.engine().generate([request], Sampling(temperature=3.0))[0]
    assert {result.text for result in found} == {*answers}
    assert {result.reason for result in found} == {"answer"}


MANY = [((" the", " the cat", " dog"), 4), ((" dog",), 4), ((" dog", " xy"), 8)]


@pytest.mark.parametrize(("answers", "beams"), MANY)
def test_beams_find_each_of_a_closed_set_of_answers_once(one: Writer, answers: tuple[str, ...], beams: int) -> None:
    """And no other text, where there are more beams than answers."""
    request = Request("a", answers=answers, samples=beams, max_tokens=9)
    [found] = one.engine().generate([request], BeamSearch(beams=beams))
    assert sorted(result.text for result in found) == sorted(answers)


def test_more_beams_than_slots_have_room(one: Writer) -> None:
    request = Request(PROMPTS[0], max_tokens=4)
    found, wide = (one.engine(slots=slots).generate([request], BeamSearch(beams=4)) for slots in (2, 32))
    assert found == wide


def test_greedy_decoding_has_no_second_sample(one: Writer) -> None:
    with pytest.raises(UsageError, match="greedy decoding finds one text, got 3"):
        one.engine().generate([Request(PROMPTS[0], samples=3)], Greedy())


def test_a_seed_below_zero_is_refused(one: Writer) -> None:
    with pytest.raises(UsageError, match="seed: expected at least 0, got -1"):
        one.engine(seed=-1)


def test_penalties_change_what_is_chosen_and_not_what_is_told(one: Writer) -> None:
    plain = one.engine(log_probabilities=True).generate([Request("mat mat", max_tokens=20)], Greedy())[0][0]
    penalties = [RepetitionPenalty(value=2.0), NoRepeatedNgrams(size=2)]
    engine = one.engine(penalties=penalties, log_probabilities=True)
    [[found]] = engine.generate([Request("mat mat", max_tokens=20)], Greedy())
    assert found.ids != plain.ids
    ids = [*engine.prompts.ids(Request("mat mat"))[0], *found.ids]
    pairs = list(itertools.pairwise(ids))
    assert len(pairs) == len({*pairs})
    told = [
        float(next_logits(one, ids[: n + len(ids) - len(found.ids)]).log_softmax(-1)[i])
        for n, i in enumerate(found.ids)
    ]
    assert found.log_probabilities == pytest.approx(told, abs=LIKELY)


def short(length: int = 16) -> Writer:
    position = Embedding(segments=0, position=LearnedPosition(length=length), norm=Identity(), dropout=0.0)
    return writer(replace(DECODER, embedding=position))


def test_a_prompt_within_the_positions_leaves_fewer_tokens() -> None:
    one = short()
    [[found]] = one.engine().generate([Request([5] * 10, max_tokens=50, ignore_end=True)], Greedy())
    assert (len(found.ids), found.reason) == (6, "length")


def test_a_longer_prompt_is_refused_or_cut() -> None:
    one = short()
    with pytest.raises(UsageError, match="the prompt has 16 tokens, and the model 16 positions"):
        one.engine().generate([Request([5] * 16)], Greedy())
    ids = list(range(5, 25))
    [[cut]] = one.engine(cut_prompts=True).generate([Request(ids, max_tokens=6, ignore_end=True)], Greedy())
    [[alone]] = one.engine().generate([Request(ids[-10:], max_tokens=6, ignore_end=True)], Greedy())
    assert cut.ids == alone.ids


def test_an_empty_prompt_begins_with_the_token_that_separates(one: Writer) -> None:
    engine = one.engine()
    ids, _ = engine.prompts.ids(Request(""))
    assert len(ids) == 1
    assert engine.generate([Request("", max_tokens=4)], Greedy())[0][0].ids


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("a", max_tokens=0), "max_tokens: expected at least 1"),
        (Request("a", samples=0), "samples: expected at least 1"),
        (Request("a", stop=("x", "")), "stop: an empty string"),
        (Request("a", answers=("",)), "answers: '' has 0 tokens"),
        (Request("a", answers=("the cat sat on the mat",), max_tokens=1), "expected 1 to 1"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_generated(one: Writer, request_: Request, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        next(one.engine().stream([Request("fine"), request_], Greedy()))


def test_a_model_that_restores_tokens_does_not_generate() -> None:
    masked = replace(DECODER, attention=MultiHeadAttention(heads=4))
    made = writer()
    learner = Learner(masked.build(275), {"masked_lm": MaskedLM().build(masked, 275)})
    with pytest.raises(GenusError, match="does not predict the next token"):
        Writer(learner, masked, made.tokenizer).engine().generate([Request("a")], Greedy())


def test_no_slot_is_refused(one: Writer) -> None:
    with pytest.raises(UsageError, match="slots: expected at least 1"):
        one.engine(slots=0)


def test_all_text_decodes(one: Writer) -> None:
    """The tokenizer of these tests has characters of several bytes, else nothing of this is tested."""
    ids = one.tokenizer.encode(TEXTS[1:2])[0]
    assert len(ids) > len(TEXTS[1])
    assert one.tokenizer.decode(ids) == TEXTS[1]


def test_the_learner_is_called_for_every_token(one: Writer) -> None:
    """So that hooks on it run, as those of FSDP2: once for the prompt, and once for each token but the last."""
    calls: list[object] = []
    with one.learner.register_forward_hook(lambda *given: calls.append(given[2])):
        [[result]] = one.engine().generate([Request("the cat", max_tokens=5)], Greedy())
    assert len(calls) == len(result.ids) == 5
