"""Objectives of encoder-decoders: a text comes back, lengths are known before, rows are filled to the last token."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genus.examples import Example, Sequence
from genus.objectives.noise.tokens import SpanNoise, TokenNoise
from genus.objectives.pretraining.text_to_text import Denoising, Deshuffling, PrefixLM, TextToText
from genus.recipe import Recipe
from genus.tokens.vocabulary import Vocabulary
from toys.denoiser import ROW, SPECIALS

EXTRA = 40
WORDS = Vocabulary(
    size=500,
    roles={"pad": 0, "bos": 1, "eos": 2},
    special=np.arange(500) < 3 + EXTRA,
    word_start=np.ones(500, dtype=np.bool_),
    single=((None, 0, 0), (2, None, 0)),
    pair=((None, 0, 0), (None, 1, 0), (2, None, 0)),
    target=((1, None, 0), (None, 0, 0), (2, None, 0)),
    extra={f"<extra_id_{number}>": 3 + number for number in range(EXTRA)},
)
RATES = st.floats(0.05, 0.9)
NOISES = st.one_of(st.builds(SpanNoise, rate=RATES, span=st.floats(1, 5)), st.builds(TokenNoise, rate=RATES))
SHOWN, WRITTEN = ("sentinel", "mask", "mask or random", "nothing"), ("spans", "hidden", "text")
DENOISING = st.builds(Denoising, noise=NOISES, inputs=st.sampled_from(SHOWN), outputs=st.sampled_from(WRITTEN))
OBJECTIVES = st.one_of(DENOISING, st.just(PrefixLM()), st.just(Deshuffling()))


def made_of(objective: TextToText, length: int, seed: int = 0) -> tuple[list[int], list[int], list[int]]:
    """Return a text of different tokens, the source without its end token, and the target without its frame."""
    rng = np.random.default_rng(seed)
    text = 3 + EXTRA + rng.permutation(500 - 3 - EXTRA)[:length]
    raw = Example({"tokens": Sequence(*WORDS.frame(text))}, {})
    example = objective.prepare_example(raw, WORDS, rng)
    source, tokens = (example.streams[name].ids for name in ("source", "tokens"))
    assert source[-1] == tokens[-1] == 2
    assert tokens[0] == 1
    index, label = example.targets[objective.target]
    assert (tokens[index + 1] == label).all()
    assert len(index) == len(tokens) - 1
    return text.tolist(), source[:-1].tolist(), tokens[1:-1].tolist()


def is_sentinel(token: int) -> bool:
    return 3 <= token < 3 + EXTRA


@given(objective=OBJECTIVES, length=st.integers(0, 60), seed=st.integers(0, 9))
def test_lengths_were_known(objective: TextToText, length: int, seed: int) -> None:
    _, source, target = made_of(objective, length, seed)
    told = objective.lengths({"tokens": np.array([length + 1])}, WORDS)
    assert len(source) + 1 <= told["source"][0]
    assert len(target) + 2 <= told["tokens"][0]
    if isinstance(objective, Denoising) and isinstance(objective.noise, SpanNoise):
        assert (len(source) + 1, len(target) + 2) == (told["source"][0], told["tokens"][0])


@given(noise=NOISES, length=st.integers(0, 60), seed=st.integers(0, 9))
def test_spans_come_back(noise: SpanNoise | TokenNoise, length: int, seed: int) -> None:
    """In order, each after its own sentinel, of which the source has one in its place."""
    text, source, target = made_of(Denoising(noise=noise), length, seed)
    spans: dict[int, list[int]] = {}
    for token in target:
        if is_sentinel(token):
            spans[token] = []
        else:
            spans[list(spans)[-1]].append(token)
    assert [piece for token in source for piece in spans.get(token, [token])] == text
    assert all(spans.values())
    assert [*spans] == [token for token in source if is_sentinel(token)] == WORDS.sentinels[: len(spans)].tolist()


@given(noise=NOISES, length=st.integers(2, 60), seed=st.integers(0, 9))
def test_what_the_encoder_sees_of_hidden_tokens(noise: SpanNoise | TokenNoise, length: int, seed: int) -> None:
    hidden = int(noise.hidden(np.array([length]))[0])
    text, source, target = made_of(Denoising(noise=noise, inputs="nothing", outputs="hidden"), length, seed)
    assert sorted(source + target) == sorted(text)
    assert len(target) == hidden
    assert [token for token in text if token in set(target)] == target
    text, source, target = made_of(Denoising(noise=noise, inputs="mask", outputs="text"), length, seed)
    assert target == text
    assert [token for token in source if token != 3] == [t for t, s in zip(text, source, strict=True) if s != 3]
    assert source.count(3) == hidden


def test_shares_of_random_tokens() -> None:
    """T5's BERT-style objective: 10 % of the hidden tokens are random ones, 90 % the first sentinel."""
    objective = Denoising(noise=TokenNoise(rate=0.5), inputs="mask or random", outputs="text")
    masked = random = 0
    for seed in range(200):
        text, source, _ = made_of(objective, 100, seed)
        masked += source.count(3)
        random += sum(1 for was, now in zip(text, source, strict=True) if now not in (was, 3))
    assert masked + random == pytest.approx(50 * 200, abs=20)  # a random token may be the one that was there
    assert random / (masked + random) == pytest.approx(0.1, abs=0.01)


def test_spans_have_their_mean_length_and_begin_after_a_seen_token() -> None:
    """Released code: 568 tokens at 15 % in spans of 3 are 85 hidden ones in 28 spans, seen and hidden ones in turn."""
    noise = SpanNoise(rate=0.15, span=3.0)
    for seed in range(20):
        taken = noise.draw(568, np.random.default_rng(seed))
        begins = taken & ~np.concatenate([[False], taken[:-1]])
        assert (taken.sum(), begins.sum()) == (85, 28)
        assert not taken[0]
        assert taken[-1]


def test_every_division_is_as_likely() -> None:
    """Of 6 tokens with 3 hidden ones in 2 spans there are 2 x 2 divisions."""
    noise = SpanNoise(rate=0.5, span=1.5)
    draws = [tuple(noise.draw(6, np.random.default_rng(seed)).tolist()) for seed in range(2000)]
    counts = sorted(draws.count(draw) for draw in set(draws))
    assert len(counts) == 4
    assert min(counts) > 420  # of 500; four standard deviations are 78


def test_tokens_are_hidden_alike_everywhere() -> None:
    noise = TokenNoise(rate=0.25)
    drawn = np.stack([noise.draw(8, np.random.default_rng(seed)) for seed in range(4000)])
    assert (drawn.sum(1) == 2).all()
    np.testing.assert_allclose(drawn.mean(0), 0.25, atol=0.03)


def test_a_prefix_is_as_long_as_any_other() -> None:
    cuts = [len(made_of(PrefixLM(), 5, seed)[1]) for seed in range(2000)]
    assert set(cuts) == {1, 2, 3, 4}
    assert min(cuts.count(cut) for cut in range(1, 5)) > 420
    text, source, target = made_of(PrefixLM(), 30)
    assert source + target == text


def test_deshuffling_shows_all_tokens_in_another_order() -> None:
    text, source, target = made_of(Deshuffling(), 30)
    assert target == text
    assert sorted(source) == sorted(text)
    assert source != text


@given(objective=OBJECTIVES, source=st.integers(8, 80), tokens=st.integers(8, 80))
def test_the_longest_text_whose_streams_fit(objective: TextToText, source: int, tokens: int) -> None:
    """No shorter one is too long, and one token more is, where there is an end at all."""
    limits = {"source": source, "tokens": tokens}
    raw = objective.raw_limits(limits, WORDS)["tokens"]
    made = objective.lengths({"tokens": np.arange(1, raw + 2)}, WORDS)
    fits = np.logical_and.reduce([made[name] <= limit for name, limit in limits.items()])
    assert fits.tolist() == [True] * raw + [False]


def test_lengths_are_those_of_the_paper() -> None:
    """568 tokens of text fill a source of 512 and a target of 114 (released code, random_spans_helper).

    The target's beginning, which theirs has not, is one more.
    """
    t5 = Denoising()
    made = t5.lengths({"tokens": np.array([569])}, WORDS)
    assert {name: int(length[0]) for name, length in made.items()} == {"source": 512, "tokens": 115}
    assert t5.raw_limits({"source": 512, "tokens": 115}, WORDS) == {"tokens": 569}


def refused(match: str, **changes: object) -> None:
    with pytest.raises(ValueError, match=match) as error:
        replace(ROW, **changes)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def staged(**changes: object) -> tuple[object, ...]:
    return (replace(ROW.stages[0], **changes),)  # type: ignore[arg-type]


def test_streams_and_row_lengths_that_do_not_fit_are_refused() -> None:
    from genus.catalog import load
    from genus.examples.formats.sentences import DocSentences
    from genus.model.position.learned import LearnedPosition
    from genus.objectives.pretraining.causal_lm import CausalLM

    bert = load("bert/tiny")
    short = replace(
        ROW.model.encoder, embedding=replace(ROW.model.encoder.embedding, position=LearnedPosition(length=40))
    )  # type: ignore[attr-defined]
    refused("reads the stream source; say its row length, source_length", stages=staged(source_length=None))
    refused("source_length 48 is past the model's 40 positions", model=replace(ROW.model, encoder=short))  # type: ignore[call-arg]
    refused("reads the stream source, which none of DocSentences, CausalLM gives", objectives=(CausalLM(),))
    refused("rows of 36 tokens and 1 source leave no text", stages=staged(source_length=1))
    refused("need 10 sentinels, and the vocabulary has 8", stages=staged(source_length=80, max_length=80))
    with pytest.raises(ValueError, match="Transformer reads no stream source; leave source_length out"):
        replace(bert, stages=(replace(bert.stages[0], source_length=32, share=1.0),))
    with pytest.raises(ValueError, match="Denoising give the stream source, which the model does not read"):
        Recipe(
            **{name: getattr(ROW, name) for name in ("name", "published", "tokens", "optimizer", "schedule", "budget")},
            examples=DocSentences(),
            model=ROW.model.decoder.overlay({"cross": None}),  # type: ignore[attr-defined]
            objectives=(Denoising(),),
            stages=(replace(ROW.stages[0], source_length=None),),
            finetuning=ROW.finetuning,
        )


class TooLong(Denoising):
    """An objective that promises shorter examples than it makes."""

    def raw_limits(self, limits, frames):  # type: ignore[no-untyped-def]
        return {"tokens": super().raw_limits(limits, frames)["tokens"] + 9}


def test_an_objective_that_makes_longer_rows_than_there_are_is_refused() -> None:
    refused(r"TooLong make \d+ source and \d+ tokens, but a row holds 36 tokens and 48 source", objectives=(TooLong(),))


def test_attention_that_cannot_cross_is_refused() -> None:
    from genus.model.attention.linformer import LinformerAttention

    with pytest.raises(ValueError, match="cross: LinformerAttention cannot attend to another stream"):
        replace(ROW.model.decoder, cross=LinformerAttention(heads=4, rank=4))  # type: ignore[attr-defined]


def test_frames_of_choices_are_those_of_the_trained_vocabulary(corpus: object) -> None:
    from genus.text import Corpus

    tokenizer = ROW.tokens.train(Corpus([corpus]))  # type: ignore[list-item]
    vocabulary = tokenizer.vocabulary
    assert [vocabulary.framing(n) for n in (1, 2)] == [SPECIALS.framing(n) for n in (1, 2)] == [1, 2]
    assert vocabulary.target_framing == SPECIALS.target_framing == 2
    assert list(vocabulary.extra) == list(SPECIALS.extra)
    assert [tokenizer.pieces[number] for number in vocabulary.extra.values()] == list(SPECIALS.extra)
    assert all(vocabulary.special[number] for number in vocabulary.extra.values())
