"""The toy objective: spans go out and come back, lengths are known before, and rows are filled to the last token."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genus.examples import Example, Sequence
from genus.recipe import Recipe
from genus.tokens.vocabulary import Vocabulary
from toys.denoiser import ROW, SPECIALS
from toys.denoising import Denoising

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
OBJECTIVES = st.builds(Denoising, rate=st.floats(0.05, 0.9), span=st.integers(1, 5))


def corrupted(objective: Denoising, length: int, seed: int = 0) -> tuple[np.ndarray, Example]:
    rng = np.random.default_rng(seed)
    text = rng.integers(3 + EXTRA, 500, length)
    raw = Example({"tokens": Sequence(*WORDS.frame(text))}, {})
    return text, objective.prepare_example(raw, WORDS, rng)


@given(objective=OBJECTIVES, length=st.integers(0, 60), seed=st.integers(0, 9))
def test_spans_come_back_and_lengths_were_known(objective: Denoising, length: int, seed: int) -> None:
    text, example = corrupted(objective, length, seed)
    source, tokens = (example.streams[name].ids for name in ("source", "tokens"))
    told = objective.lengths({"tokens": np.array([length + 1])}, WORDS)
    assert {name: int(lengths[0]) for name, lengths in told.items()} == {"source": len(source), "tokens": len(tokens)}
    spans: dict[int, list[int]] = {}
    for token in tokens[1:-1].tolist():
        if token < 3 + EXTRA:
            spans[token] = []
        else:
            spans[list(spans)[-1]].append(token)
    back = [piece for token in source[:-1].tolist() for piece in spans.get(token, [token])]
    assert back == text.tolist()
    assert all(spans.values())
    index, label = example.targets["denoising"]
    assert (tokens[index + 1] == label).all()
    assert len(index) == len(tokens) - 1


@given(objective=OBJECTIVES, source=st.integers(8, 80), tokens=st.integers(8, 80))
def test_the_longest_text_whose_streams_fit(objective: Denoising, source: int, tokens: int) -> None:
    """No shorter one is too long, and one token more is."""
    limits = {"source": source, "tokens": tokens}
    raw = objective.raw_limits(limits, WORDS)["tokens"]
    made = objective.lengths({"tokens": np.arange(1, raw + 2)}, WORDS)
    fits = np.logical_and.reduce([made[name] <= limit for name, limit in limits.items()])
    assert fits.tolist() == [True] * raw + [False]


def test_lengths_are_those_of_the_paper() -> None:
    """568 tokens of text fill a source of 512 and a target of 114 (released code, random_spans_helper).

    The target's beginning, which theirs has not, is one more.
    """
    t5 = Denoising(rate=0.15, span=3)
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
    refused("need 10 further special tokens", stages=staged(source_length=80, max_length=80))
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
