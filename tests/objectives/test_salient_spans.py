"""Named entities and dates by rule, and noise that hides one of them: the law, the lengths, and what is read of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from genus import pipeline
from genus.examples import Example, Sequence
from genus.examples.blocks import cut
from genus.examples.formats.single_sentences import SingleSentences
from genus.objectives.masking.entities import EntitiesAndDates
from genus.objectives.masking.knowledge import Chunker
from genus.objectives.noise.salient import SalientSpans
from genus.objectives.pretraining.text_to_text import Denoising
from genus.recipes import byt5, t5
from genus.tokens.store import prepare
from genus.tokens.vocabulary import Vocabulary
from small import shrunk

if TYPE_CHECKING:
    from collections.abc import Sequence as Several
    from pathlib import Path

    from genus.recipe import Recipe

UNLIKELY = 1e-4
"""Probability under the law below which a (fixed, seeded) sample is taken to break it."""
SENTENCE = "In July|1969|, Neil Arm|strong| of the United Kingdom| saw Apollo ; it was cold in Par|is|."
"""Words by spaces, further pieces of a word after bars."""
PIECES = ["<pad>", "</s>", "<x>", *dict.fromkeys(SENTENCE.replace("|", " ").split())]
STARTS = {word.split("|")[0] for word in SENTENCE.split()}
WORDS = Vocabulary(
    size=len(PIECES),
    roles={"pad": 0, "eos": 1},
    special=np.arange(len(PIECES)) < 3,
    word_start=np.array([number < 3 or piece in STARTS for number, piece in enumerate(PIECES)]),
    single=((None, 0, 0), (1, None, 0)),
    pair=((None, 0, 0), (None, 1, 0), (1, None, 0)),
    target=((0, None, 0), (None, 0, 0), (1, None, 0)),
    texts=tuple("" if piece.startswith("<") else piece for piece in PIECES),
    extra={"<x>": 2},
)
IDS = np.array([PIECES.index(piece) for piece in SENTENCE.replace("|", " ").split()])
SPANS = {("July", "1969"), ("Neil", "Arm", "strong"), ("United", "Kingdom"), ("Apollo",), ("Par", "is")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The United Kingdom signed it on July 4, 1969 in Paris", ["United Kingdom", "July 4, 1969", "Paris"]),
        ("Yesterday it rained. Nobody came", []),
        ("Marie Curie came. Later Paris burned", ["Marie Curie", "Later Paris"]),
        ("in 1066 and on 3rd May and the 12 of May", ["1066", "3rd May"]),
        ("we march in May with 12 people of NATO, Berlin and (Ohio)", ["NATO,", "Berlin", "(Ohio)"]),
        ("I met I and the A Team", ["Team"]),
        ("so he said: \u201cParis is burning.\u201d Now it is", ["\u201cParis"]),
        ("A B C D E F G H is more than six, B C D E F G is six", ["B C D E F G"]),
        ("on July 4 , 1969 , Paris , Texas , burned", ["July 4 , 1969", "Paris", "Texas"]),
        ("", []),
    ],
)
def test_entities_and_dates(text: str, expected: list[str]) -> None:
    words = text.split()
    assert [" ".join(words[first:past]) for first, past in EntitiesAndDates().chunks(words)] == expected


def test_words_of_another_language() -> None:
    german = EntitiesAndDates(months=("m\u00e4rz",), stop_words=("am", "in"))
    words = ["es", "war", "am", "3", "März", "in", "May"]
    assert [" ".join(words[first:past]) for first, past in german.chunks(words)] == ["3 M\u00e4rz", "May"]


def hidden(noise: SalientSpans, ids: np.ndarray, seed: int) -> tuple[str, ...]:
    """Return the hidden pieces, which are neighbors."""
    taken = noise.taken(ids, WORDS, np.random.default_rng(seed))
    places = np.flatnonzero(taken)
    assert (np.diff(places) == 1).all()
    return tuple(PIECES[number] for number in ids[places])


def test_one_span_is_hidden_each_as_likely() -> None:
    """Whole, and without the punctuation at its ends."""
    drawn = [hidden(SalientSpans(), IDS, seed) for seed in range(2000)]
    assert set(drawn) == SPANS
    assert stats.chisquare([drawn.count(span) for span in SPANS]).pvalue > UNLIKELY


def test_longer_spans_are_never_hidden() -> None:
    drawn = {hidden(SalientSpans(longest=2), IDS, seed) for seed in range(300)}
    assert drawn == {span for span in SPANS if len(span) <= 2}


def test_without_a_salient_span_it_is_a_word() -> None:
    """Each as likely, punctuation never."""
    plain = np.array([PIECES.index(piece) for piece in ("it", "was", "cold", ";", "saw")])
    drawn = [hidden(SalientSpans(), plain, seed) for seed in range(1000)]
    words = {("it",), ("was",), ("cold",), ("saw",)}
    assert set(drawn) == words
    assert stats.chisquare([drawn.count(word) for word in words]).pvalue > UNLIKELY
    assert hidden(SalientSpans(), plain[:1], 0) == ()


def test_no_span_crosses_a_special_token() -> None:
    """What lies on both sides of an end token is read apart."""
    ids = np.array([PIECES.index(piece) for piece in ("saw", "United", "</s>", "Kingdom", "saw")])
    assert {hidden(SalientSpans(), ids, seed) for seed in range(50)} == {("United",)}


def test_a_finder_of_ones_own() -> None:
    class Colds(Chunker):
        def chunks(self, words: Several[str]) -> list[tuple[int, int]]:
            return [(place, place + 1) for place, word in enumerate(words) if word == "cold"]

    assert {hidden(SalientSpans(chunker=Colds()), IDS, seed) for seed in range(20)} == {("cold",)}


@given(length=st.integers(0, len(IDS)), seed=st.integers(0, 20), longest=st.integers(1, 9))
def test_lengths_are_bounds(length: int, seed: int, longest: int) -> None:
    """Source and target of an objective, and the text comes back."""
    objective = Denoising(noise=SalientSpans(longest=longest))
    raw = Example({"tokens": Sequence(*WORDS.frame(IDS[:length]))}, {})
    made = objective.prepare_example(raw, WORDS, np.random.default_rng(seed))
    told = objective.lengths({"tokens": np.array([length + 1])}, WORDS)
    source, target = made.streams["source"].ids, made.tokens.ids
    assert len(source) <= told["source"][0]
    assert len(target) <= told["tokens"][0]
    span = target[2:-1].tolist() if 2 in target else []
    assert [one for token in source[:-1].tolist() for one in (span if token == 2 else [token])] == IDS[:length].tolist()
    assert 2 in target or length < 2 or not span


def small(row: Recipe) -> Recipe:
    """Return a row that hides one salient span of each sentence, as the documentation says, made small."""
    changed = row.overrides({"examples": "SingleSentences", "objectives.0.noise": "SalientSpans"})
    return shrunk(changed.override("objectives.0.noise.longest", 20))


@pytest.mark.parametrize("row", [t5.MINI, byt5.MINI], ids=lambda row: row.name)
def test_rows_learn_it(row: Recipe, tmp_path: Path) -> None:
    """Pieces and bytes: the target is a sentinel and a name or a date of the sentence that is its source."""
    corpus = tmp_path / "corpus.txt"
    sentences = [
        f"So it was in {name} on May {day}, {1900 + day}." for day in range(1, 29) for name in ("Oslo", "Rome")
    ]
    corpus.write_text("\n\n".join(" ".join(sentences[n : n + 4]) for n in range(0, 56, 4)), encoding="utf-8")
    recipe = small(row)
    tokenizer = recipe.tokens.train(sentences)
    recipe = replace(recipe, tokens=tokenizer.tokens)
    store = prepare([corpus], tokenizer, tmp_path / "store", workers=1)
    batch = pipeline.training_feed(recipe, store, tokenizer, stage=0)[0]
    found = set()
    for start, end in batch.tokens.spans():
        ids = batch.tokens.ids[start:end].tolist()
        assert ids[1] == tokenizer.vocabulary.sentinels[0]
        found.add(tokenizer.decode([one for one in ids[2:] if one not in tokenizer.vocabulary.sentinels]).strip())
    assert found & {"Oslo", "Rome"}
    assert any(one.startswith("May") for one in found)
    assert not {one for one in found if one not in {"Oslo", "Rome"} and not one.startswith("May")}


def test_every_sentence_is_an_example(corpus: Path, tmp_path: Path) -> None:
    """None is lost; those that are too long are cut."""
    recipe = small(t5.MINI)
    tokenizer = recipe.tokens.train(corpus.read_text(encoding="utf-8").splitlines())
    store, words = prepare([corpus], tokenizer, tmp_path / "store", workers=1), tokenizer.vocabulary
    (documents,) = cut(store)
    for room in (100, 6):
        plan = SingleSentences().plan(documents, store, words, {"tokens": room}, seed=0, epoch=0)
        texts = [SingleSentences().read(plan, index, store, words).tokens.ids[:-1] for index in range(len(plan))]
        assert np.concatenate(texts).tolist() == store.ids[:].astype(np.int64).tolist()
        assert max(map(len, texts)) <= room - 1
        assert [len(text) + 1 for text in texts] == plan.lengths["tokens"].tolist()
        if room == 100:
            assert len(plan) == len(store.sentences) - 1
