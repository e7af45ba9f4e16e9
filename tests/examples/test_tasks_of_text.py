"""Formats that make labels of text: every label is checked against the corpus itself, and their laws against chance."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from corpora import SEP, SPECIALS, corpus, document_of, natural, plan_whole, planner, vocabulary
from scipy import stats

from genus.errors import GenusError
from genus.examples.formats.ernie import DistantSentences, DocumentSegments, ShuffledSegments, distinct, rank
from genus.examples.formats.relations import ConnectedSentences, TitledParagraphs

if TYPE_CHECKING:
    from genus.examples import Example, ExampleFormat
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary

UNLIKELY = 1e-4
"""Probability under the law below which a (fixed, seeded) sample is taken to break it."""
STORE = natural(200)
LENGTH = 64


def made(examples: ExampleFormat, store: Store = STORE, epoch: int = 0) -> list[Example]:
    words = vocabulary(store)
    plan = plan_whole(examples, store, words, LENGTH, 3, epoch)
    found = [examples.read(plan, index, store, words) for index in range(len(plan))]
    assert [len(example.tokens.ids) for example in found] == plan.lengths["tokens"].tolist()
    assert max(plan.lengths["tokens"]) <= LENGTH
    return found


def label(example: Example) -> int:
    ((index, labels),) = example.targets.values()
    assert index.tolist() == [0]
    return int(labels[0])


def texts(example: Example) -> list[np.ndarray]:
    """Return the tokens of each segment, as numbers of the store; the corpus numbers its tokens in order."""
    ids = example.tokens.ids
    parts = [part[part >= SPECIALS] - SPECIALS for part in np.split(ids, np.flatnonzero(ids == SEP))]
    return [part for part in parts if len(part)]


def sentence_of(token: int, store: Store = STORE) -> int:
    return int(np.searchsorted(store.sentences, token, side="right")) - 1


class TestShuffledSegments:
    def test_the_label_tells_the_order(self) -> None:
        """Sorted by their first tokens, the segments are the text again; the label is found by counting orders."""
        classes = [order for n in range(1, 4) for order in permutations(range(n))]
        for example in made(ShuffledSegments()):
            shown = texts(example)
            places = np.argsort(np.argsort([part[0] for part in shown]))
            assert classes[label(example)] == tuple(places)
            text = np.concatenate(sorted(shown, key=lambda part: int(part[0])))
            np.testing.assert_array_equal(text, np.arange(text[0], text[-1] + 1))
            assert document_of(STORE, int(text[0])) == document_of(STORE, int(text[-1]))
            cuts = [int(part[0]) for part in sorted(shown, key=lambda part: int(part[0]))[1:]]
            assert np.isin(cuts, STORE.sentences).all()

    def test_all_text_is_there_once(self) -> None:
        seen = np.sort(np.concatenate([part for example in made(ShuffledSegments()) for part in texts(example)]))
        np.testing.assert_array_equal(seen, np.arange(len(STORE.ids)))

    def test_orders_of_one_number_of_segments_are_as_likely(self) -> None:
        store = corpus([[5] * 8] * 3000)
        counts = Counter(label(example) for example in made(ShuffledSegments(), store))
        three = [counts[kind] for kind in range(3, 9)]
        assert stats.chisquare([counts[0], counts[1] + counts[2], sum(three)]).pvalue > UNLIKELY
        assert stats.chisquare(three).pvalue > UNLIKELY

    def test_cuts_are_as_likely_anywhere(self) -> None:
        store = corpus([[5] * 8] * 4000)
        cuts: Counter[tuple[int, ...]] = Counter()
        for example in made(ShuffledSegments(), store):
            if len(shown := texts(example)) == 3:
                cuts[tuple(sorted(int(part[0]) % 40 for part in shown)[1:])] += 1
        assert len(cuts) == math.comb(7, 2)
        assert stats.chisquare(list(cuts.values())).pvalue > UNLIKELY

    def test_other_numbers(self) -> None:
        assert [ShuffledSegments(most=most).classes for most in (2, 3, 4)] == [3, 9, 33]
        assert max(label(example) for example in made(ShuffledSegments(most=4))) > 8
        with pytest.raises(ValueError, match="2 to 4 segments"):
            ShuffledSegments(most=5)

    def test_another_epoch_is_another_shuffle(self) -> None:
        first, second = made(ShuffledSegments()), made(ShuffledSegments(), epoch=1)
        assert [label(one) for one in first] != [label(one) for one in second]


def test_ranks_and_subsets() -> None:
    for n in (1, 2, 3, 4):
        orders = np.array(list(permutations(range(n))))
        np.testing.assert_array_equal(rank(orders), np.arange(math.factorial(n)))
    drawn = distinct(np.full(6000, 5), 2, np.random.default_rng(0))
    assert stats.chisquare(list(Counter(map(tuple, drawn.tolist())).values())).pvalue > UNLIKELY
    assert len(np.unique(drawn, axis=0)) == 10
    assert (distinct(np.array([3, 4]), 3, np.random.default_rng(1))[0] == [0, 1, 2]).all()


class TestDistantSentences:
    def test_labels_are_true(self) -> None:
        found = Counter[int]()
        for example in made(DistantSentences()):
            one, other = (int(part[0]) for part in texts(example))
            same = document_of(STORE, one) == document_of(STORE, other)
            apart = sentence_of(other) - sentence_of(one)
            kind = label(example)
            assert same == (kind < 2)
            assert (apart == 1) == (kind == 0) or not same
            assert abs(apart) > 1 or kind != 1
            found[kind] += 1
        assert found.total() == len(STORE.sentences) - 1

    def test_labels_are_as_likely_where_all_are_possible(self) -> None:
        store = corpus([[4] * 6] * 1500)
        kinds, others = Counter[int](), Counter[int]()
        for example in made(DistantSentences(), store):
            one, other = (sentence_of(int(part[0]), store) for part in texts(example))
            if one % 6 == 2:
                kinds[label(example)] += 1
                if label(example) == 1:
                    others[other % 6] += 1
        assert stats.chisquare([kinds[kind] for kind in range(3)]).pvalue > UNLIKELY
        assert others.keys() == {0, 4, 5}
        assert stats.chisquare(list(others.values())).pvalue > UNLIKELY

    def test_a_corpus_of_one_document_is_refused(self) -> None:
        with pytest.raises(GenusError, match="one document"):
            made(DistantSentences(), corpus([[5, 5, 5]]))


class TestTitledParagraphs:
    def test_labels_are_true(self) -> None:
        titles = STORE.documents[:, 0]
        long = np.diff(STORE.documents).ravel() > 1
        found = made(TitledParagraphs())
        assert len(found) == long.sum()
        for example in found:
            one, other = (int(part[0]) for part in texts(example))
            title, answer = sentence_of(one), sentence_of(other)
            assert title in titles
            same = document_of(STORE, one) == document_of(STORE, other)
            assert label(example) == (2 if not same else 0 if answer == title + 1 else 1)
            assert answer > title or not same

    def test_a_paragraph_is_whole_sentences_until_the_row_or_the_document_ends(self) -> None:
        """Where one sentence alone fits beside the title."""
        ended, filled = 0, 0
        for example in made(TitledParagraphs()):
            title, paragraph = texts(example)
            begin, end = int(paragraph[0]), int(paragraph[-1]) + 1
            following = sentence_of(end) if end < len(STORE.ids) else len(STORE.sentences) - 1
            if end == STORE.sentences[following] and begin in STORE.sentences:
                last = int(STORE.documents[document_of(STORE, begin), 1])
                room = LENGTH - 3 - len(title)
                ended += following == last
                filled += following < last
                assert following == last or STORE.sentences[following + 1] - begin > room
            else:
                assert len(example.tokens.ids) == LENGTH
                assert sentence_of(end - 1) == sentence_of(begin)
        assert min(ended, filled) > 10

    def test_queries_of_a_user(self) -> None:
        """A query, what was clicked, what was shown: written as a document of three lines."""
        store = corpus([[3, 7, 7]] * 900)
        found = made(TitledParagraphs(sentences=1), store)
        kinds = Counter((label(example), int(texts(example)[1][0]) % 17 // 7) for example in found)
        assert kinds.keys() >= {(0, 0), (1, 1)}
        assert not {(0, 1), (1, 0)} & kinds.keys()
        totals = Counter[int]()
        for (kind, _), count in kinds.items():
            totals[kind] += count
        assert stats.chisquare([totals[kind] for kind in range(3)]).pvalue > UNLIKELY

    def test_a_paragraph_of_nothing(self) -> None:
        with pytest.raises(ValueError, match="sentences: expected at least 1, got 0"):
            TitledParagraphs(sentences=0)

    def test_documents_of_one_sentence_make_no_pair(self) -> None:
        with pytest.raises(GenusError, match="no text of which TitledParagraphs can make a pair"):
            planner(TitledParagraphs(), corpus([[5], [5]]))


class TestDocumentSegments:
    def test_labels_are_true(self) -> None:
        rng = np.random.default_rng(0)
        store = replace(STORE, ids=rng.integers(SPECIALS, SPECIALS + 400, len(STORE.ids)).astype(np.uint32))
        words = vocabulary(STORE)
        plan = plan_whole(DocumentSegments(), store, words, LENGTH)
        share = []
        for index in range(len(plan)):
            example = DocumentSegments().read(plan, index, store, words)
            where, labels = example.targets["token_document"]
            first, stop = int(plan.start[2 * index]), int(plan.stop[2 * index])
            begin, end = store.sentences[store.documents[document_of(store, first)]].tolist()
            others = {*store.ids[begin:first].tolist(), *store.ids[stop:end].tolist()}
            np.testing.assert_array_equal(example.tokens.ids[where], store.ids[first:stop])
            assert labels.tolist() == [int(token) in others for token in store.ids[first:stop].tolist()]
            share.append(labels.mean())
        assert 0.2 < np.mean(share) < 0.9

    def test_every_token_is_in_one_segment_and_short_documents_are_halved(self) -> None:
        store = corpus([[4, 4, 4, 4], [6], [30, 30, 30], [9, 2]])
        seen = [part for example in made(DocumentSegments(), store) for part in texts(example)]
        tokens = np.sort(np.concatenate(seen))
        np.testing.assert_array_equal(tokens, np.setdiff1d(np.arange(len(store.ids)), np.arange(16, 22)))
        assert {len(part) for part in seen if part[0] < 16} == {8}

    def test_a_corpus_without_two_segments_is_refused(self) -> None:
        with pytest.raises(GenusError, match="no document has two segments"):
            planner(DocumentSegments(), corpus([[5], [7]]))


class TestConnectedSentences:
    PIECES = (
        "", "", "", "", "", "It", "rained", "However", ",", "for", "For", "example", "##ish", "so", "on", "hand", "the",
        "other",
    )  # fmt: skip
    LIST = ("however", "for example", "so", "on", "on the other hand")

    def text(self, *sentences: str) -> tuple[Store, Vocabulary]:
        """Return one document, beside one that only takes room."""
        numbers = {piece: number for number, piece in enumerate(self.PIECES)}
        ids = [[numbers[piece] for piece in sentence.split()] for sentence in sentences]
        store = corpus([[len(sentence) for sentence in ids], [2]])
        text = np.array([number for sentence in ids for number in sentence] + [5, 6], dtype=np.uint32)
        store = replace(store, ids=text)
        starts = np.array([not piece.startswith("##") for piece in self.PIECES])
        special = np.arange(len(self.PIECES)) < 5
        read = tuple(piece.removeprefix("##") for piece in self.PIECES)
        return store, replace(vocabulary(store), size=len(read), special=special, word_start=starts, texts=read)

    def labels(self, *sentences: str) -> list[tuple[str, str, int]]:
        """Return (first, second, label) of the pairs of a document."""
        store, words = self.text(*sentences)
        read = words.texts
        examples = ConnectedSentences(connectives=self.LIST)
        plan = plan_whole(examples, store, words, LENGTH)
        found = [examples.read(plan, index, store, words) for index in range(len(plan))]
        parts = [[p[p >= 5] for p in np.split(one.tokens.ids, np.flatnonzero(one.tokens.ids == SEP))] for one in found]
        return [
            (" ".join(read[i] for i in a), " ".join(read[i] for i in b), label(one))
            for one, (a, b, *_) in zip(found, parts, strict=True)
        ]

    def test_a_connective_and_its_comma_go(self) -> None:
        found = self.labels("It rained", "However , It rained", "so It", "It rained")
        assert found == [("It rained", "It rained", 0), ("However , It rained", "It", 2)]

    def test_the_longest_one_is_taken(self) -> None:
        found = self.labels("It", "For example , It", "on the other hand It", "on the other It", "on It")
        assert [(second, kind) for _, second, kind in found] == [("It", 1), ("It", 4), ("the other It", 3), ("It", 3)]

    def test_what_only_begins_alike_is_none(self) -> None:
        assert self.labels("so It", "so ##ish It", "for It", "so It") == [("for It", "It", 2)]

    def test_nothing_left_is_no_pair(self) -> None:
        with pytest.raises(GenusError, match="no text of which ConnectedSentences can make a pair"):
            planner(ConnectedSentences(connectives=self.LIST), *self.text("It", "However ,", "so"))

    @pytest.mark.parametrize("wrong", [("so",), ("so", "so"), ()])
    def test_lists_that_tell_nothing_apart(self, wrong: tuple[str, ...]) -> None:
        with pytest.raises(ValueError, match="different ones"):
            ConnectedSentences(connectives=wrong)
