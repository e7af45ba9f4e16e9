"""BPE dropout: algorithm 1 of its paper on strings, and the tokenizers library's own in the mean."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend

from genus.errors import GenusError
from genus.tokens.algorithms.byte_bpe import ByteBPE
from genus.tokens.algorithms.end_of_word_byte_bpe import EndOfWordByteBPE
from genus.tokens.merges import Merges
from small import documents

if TYPE_CHECKING:
    from genus.tokens.tokenizer import Tokenizer

TEXTS = documents(40)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return EndOfWordByteBPE(vocab_size=900).train(documents())


def slow(word: list[str], merges: list[tuple[str, str]], share: float, rng: np.random.Generator) -> list[str]:
    """Return the pieces of a word by algorithm 1 of Provilkov et al. 2019, with the same draws in the same order."""
    while True:
        possible = [(merges.index(pair), at) for at, pair in enumerate(pairwise(word)) if pair in merges]
        kept = [one for one, draw in zip(possible, rng.random(len(possible)), strict=True) if draw >= share]
        if not kept:
            return word
        _, at = min(kept)
        word = [*word[:at], word[at] + word[at + 1], *word[at + 2 :]]


def test_without_dropout_it_is_the_tokenizer(tokenizer: Tokenizer) -> None:
    merges = Merges.of(tokenizer.backend)
    for text, ids in zip(TEXTS, tokenizer.encode(TEXTS), strict=True):
        assert merges.dropped(ids, 0.0, np.random.default_rng(0)).tolist() == ids, text


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999999])
def test_it_is_the_algorithm_of_the_paper(tokenizer: Tokenizer, share: float) -> None:
    merges = Merges.of(tokenizer.backend)
    model = json.loads(tokenizer.backend.to_str())["model"]
    pairs = [(left, right) for left, right in model["merges"]]
    for number, ids in enumerate(tokenizer.encode(TEXTS[:10])):
        rng = np.random.default_rng(number)
        words = [[tokenizer.pieces[one] for one in word] for word in merges.words(ids)]
        expected = [piece for word in words for piece in slow(word, pairs, share, rng)]
        found = merges.dropped(ids, share, np.random.default_rng(number))
        assert [tokenizer.pieces[one] for one in found] == expected
        assert tokenizer.decode(found.tolist()) == tokenizer.decode(ids)


def test_it_makes_as_many_pieces_as_the_library(tokenizer: Tokenizer) -> None:
    """Its draws cannot be seeded: over some 20,000 pieces both means agree."""
    state = json.loads(tokenizer.backend.to_str())
    state["model"]["dropout"] = 0.1
    theirs = Backend.from_str(json.dumps(state))
    merges, rng = Merges.of(tokenizer.backend), np.random.default_rng(0)
    texts = documents() * 4
    whole = tokenizer.encode(texts)
    own = sum(len(merges.dropped(ids, 0.1, rng)) for ids in whole)
    other = sum(len(one.ids) for one in theirs.encode_batch(texts, add_special_tokens=False))
    assert own > 1.05 * sum(map(len, whole))
    assert own == pytest.approx(other, rel=0.02)


def test_pieces_must_tell_where_words_end() -> None:
    with pytest.raises(GenusError, match="set bpe_dropout=0"):
        Merges.of(ByteBPE(vocab_size=400).train(documents(20)).backend)
