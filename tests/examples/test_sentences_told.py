"""Formats that say which sentence each token is of say what the token store knows."""

from __future__ import annotations

import numpy as np
import pytest
from corpora import SEP, SPECIALS, corpus, plan_whole, vocabulary
from hypothesis import given
from hypothesis import strategies as st

from genus.catalog import load
from genus.errors import UsageError
from genus.examples import Example, ExampleFormat, Sequence
from genus.examples.feed.pack import pack
from genus.examples.formats.contiguous import Contiguous
from genus.examples.formats.sentences import DocSentences, FullSentences

FORMATS = [FullSentences(), FullSentences(separate=False), DocSentences()]
CORPORA = st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=8), min_size=1, max_size=8)


@given(documents=CORPORA, room=st.integers(1, 20), examples=st.sampled_from(FORMATS))
def test_every_token_is_of_its_sentence(documents: list[list[int]], room: int, examples: ExampleFormat) -> None:
    """Also where a sentence is cut; a separator is of the sentence before it, and the frame of none."""
    store = corpus(documents)
    words, plan = vocabulary(store), plan_whole(examples, store, vocabulary(store), room + 2)
    owner = np.repeat(np.arange(len(store.sentences) - 1), np.diff(store.sentences))
    for index in range(len(plan)):
        tokens = examples.read(plan, index, store, words).tokens
        assert tokens.sentences is not None
        numbers = tokens.sentences()
        assert numbers[[0, -1]].tolist() == [-1, -1]
        before = -1
        for token, number in zip(tokens.ids[1:-1].tolist(), numbers[1:-1].tolist(), strict=True):
            before = before if token == SEP else int(owner[token - SPECIALS])
            assert number == before


def test_who_needs_sentences_is_refused_a_format_that_does_not_tell_them() -> None:
    row = load("bart/tiny")
    assert Contiguous.tells_sentences is False
    with pytest.raises(UsageError, match="DenoisingAutoencoder needs to know where sentences end, which Repeated does"):
        row.overlay({"examples": {"kind": "Repeated"}})
    without = row.overlay(
        {"objectives": [{"kind": "DenoisingAutoencoder", "corruptions": [{"kind": "TextInfilling"}]}]}
    )
    assert without.overlay({"examples": {"kind": "Repeated"}}).examples.to_json()["kind"] == "Repeated"


def test_positions_that_a_sequence_says_are_those_of_the_batch() -> None:
    """Beside sequences that say none, and padding."""
    ids = np.arange(3) + 7
    plain, placed = (Sequence(ids, 0 * ids, np.zeros(3, np.bool_)) for _ in range(2))
    placed.positions = np.array([4, 5, 9])
    rows = [[Example({"tokens": placed}, {}), Example({"tokens": plain}, {})], [Example({"tokens": plain}, {})]]
    packed = pack(rows, 8, 0).tokens
    assert packed.positions.view(2, 8)[:, :6].tolist() == [[4, 5, 9, 0, 1, 2], [0, 1, 2, 0, 1, 2]]
    assert pack([rows[1]], 8, 0).tokens.positions.tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
