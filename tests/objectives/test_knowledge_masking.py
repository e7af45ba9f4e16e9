"""Chunks by rule, and masking that takes each as a whole."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats

from genus.examples import Sequence
from genus.objectives.masking.knowledge import Chunker, KnowledgeMasking, RuleChunker
from genus.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence as Several

UNLIKELY = 1e-4
"""Probability under the law below which a (fixed, seeded) sample is taken to break it."""
SENTENCE = "In 1903 Marie Sklodowska Curie won the Nobel Prize , and the small wooden shed became famous . It was cold"
TEXT = SENTENCE.replace("Sklodowska", "Sk ##lo ##dow ##ska")
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(TEXT.split())]
WORDS = Vocabulary(
    size=len(PIECES), roles={"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4},
    special=np.arange(len(PIECES)) < 5,
    word_start=np.array([not piece.startswith("##") for piece in PIECES]),
    single=((2, None, 0), (None, 0, 0), (3, None, 0)),
    pair=((2, None, 0), (None, 0, 0), (3, None, 0), (None, 1, 1), (3, None, 1)),
    texts=tuple("" if piece.startswith("[") else piece.removeprefix("##") for piece in PIECES),
)  # fmt: skip


def grouped(text: str, chunker: Chunker) -> list[str]:
    words = text.split()
    return [" ".join(words[first:past]) for first, past in chunker.chunks(words)]


def test_entities_and_phrases() -> None:
    both = ["1903 Marie Sklodowska Curie", "Nobel Prize", "small wooden shed became"]
    assert grouped(SENTENCE, RuleChunker()) == both
    assert grouped(SENTENCE, RuleChunker(kinds=("entity",))) == both[:2]
    assert grouped(SENTENCE, RuleChunker(kinds=("phrase",))) == both[2:]
    assert grouped(SENTENCE, RuleChunker(kinds=())) == []


def test_without_capitals_phrases_remain() -> None:
    assert grouped("she met marie curie in paris", RuleChunker()) == ["met marie curie"]


def test_longer_runs_are_cut() -> None:
    assert grouped("one two three four five six seven", RuleChunker(longest=3)) == ["one two three", "four five six"]


def test_punctuation_bounds_whether_it_is_a_word_or_stuck_to_one() -> None:
    assert grouped("old river, narrow bridge", RuleChunker()) == ["old river,", "narrow bridge"]
    assert grouped("old river , narrow bridge", RuleChunker()) == ["old river", "narrow bridge"]
    assert grouped("old (quiet river", RuleChunker()) == ["(quiet river"]


def test_stop_words_of_another_language() -> None:
    assert grouped("der alte fluss und die brücke", RuleChunker(stop_words=("der", "und", "die"))) == ["alte fluss"]


def framed(repeats: int = 1) -> Sequence:
    numbers = {piece: number for number, piece in enumerate(PIECES)}
    return Sequence(*WORDS.frame(np.array([numbers[piece] for piece in TEXT.split() * repeats])))


UNITS = [{2, 3, 4, 5, 6, 7, 8}, {11, 12}, {16, 17, 18, 19}]
"""Positions of the chunks with the frame's first token at 0; the name's pieces count singly."""


def test_chunks_are_masked_whole() -> None:
    original = framed()
    taken = set()
    for seed in range(300):
        chosen, ids = KnowledgeMasking(rate=0.4).corrupt(original, WORDS, np.random.default_rng(seed))
        assert len(chosen) <= round(0.4 * len(original.ids))
        for unit in UNITS:
            assert unit <= set(chosen.tolist()) or not unit & set(chosen.tolist())
            if unit <= set(chosen.tolist()):
                taken.add(min(unit))
                assert len({ids[place] == WORDS.mask for place in unit}) == 1
        ids[chosen] = original.ids[chosen]
        np.testing.assert_array_equal(ids, original.ids)
    assert taken == {min(unit) for unit in UNITS}


def test_every_unit_that_fits_is_as_likely() -> None:
    original = framed()
    hits = np.zeros(len(original.ids), dtype=int)
    for seed in range(4000):
        hits[KnowledgeMasking(rate=0.04).choose(original, WORDS, np.random.default_rng(seed))] += 1
    alone = [place for place in range(1, len(hits) - 1) if not any(place in unit for unit in UNITS)]
    assert hits.sum() == hits[alone].sum()  # with room for one token, chunks are passed over
    assert stats.chisquare(hits[alone]).pvalue > UNLIKELY


def test_fifteen_percent_in_total() -> None:
    original = framed(20)
    shares = [
        len(KnowledgeMasking().choose(original, WORDS, np.random.default_rng(seed))) / len(original.ids)
        for seed in range(50)
    ]
    assert np.mean(shares) == pytest.approx(0.15, abs=0.002)


def test_no_chunk_crosses_the_frame() -> None:
    """What stands before a separator and what stands after it are stretches of their own."""
    numbers = {piece: number for number, piece in enumerate(PIECES)}
    halves = [np.array([numbers[piece] for piece in text.split()]) for text in ("the Nobel", "Prize became famous")]
    original = Sequence(*WORDS.frame(*halves))
    masking = KnowledgeMasking(rate=0.3)
    taken = {tuple(masking.choose(original, WORDS, np.random.default_rng(seed)).tolist()) for seed in range(200)}
    assert any(2 in one and 4 not in one for one in taken)
    assert all((5 in one) == (6 in one) for one in taken)


def test_a_chunker_of_one_s_own() -> None:
    class EveryTwo(Chunker):
        def chunks(self, words: Several[str]) -> list[tuple[int, int]]:
            return list(pairwise(range(0, len(words) + 1, 2)))

    original = Sequence(*WORDS.frame(np.array([5, 6, 7, 8, 12, 13])))
    for seed in range(50):
        chosen = KnowledgeMasking(chunker=EveryTwo(), rate=0.5).choose(original, WORDS, np.random.default_rng(seed))
        assert len(chosen) in {2, 3, 4}
