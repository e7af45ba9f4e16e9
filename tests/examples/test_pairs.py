"""Segment pairs keep the laws of BERT's released data code, and agree with a slow transcription of it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from corpora import CLS, SEP, SPECIALS, corpus, document_of, natural, plan_whole, vocabulary
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from genus.errors import GenusError
from genus.examples import EpochPlan, ExampleFormat, blocks
from genus.examples.formats.pairs import shorten
from genus.examples.formats.segment_pairs import SegmentPairs, SentencePairs

if TYPE_CHECKING:
    from genus.tokens.store import Store

UNLIKELY = 1e-4
"""Probability under the law below which a (fixed, seeded) sample is taken to break it."""
WORDS = corpus([[1] * 400] * 200)
"""Sentences of one token each, so that a chunk is exactly as long as its target."""
NATURAL = natural(300)


def plan_of(
    examples: ExampleFormat, store: Store = NATURAL, max_length: int = 128, epoch: int = 0, middle: int = 1
) -> EpochPlan:
    return plan_whole(examples, store, vocabulary(store, middle), max_length, 7, epoch)


def spans(plan: EpochPlan) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return start and stop of the first segments, start and stop of the second ones."""
    return plan.start[::2], plan.stop[::2], plan.start[1::2], plan.stop[1::2]


def documents_of(store: Store, tokens: np.ndarray) -> np.ndarray:
    return np.searchsorted(store.sentences[store.documents[:, 1]], tokens, side="right")


# --- the published algorithm, token by token -------------------------------------------------------------------------


def published(
    documents: list[list[list[int]]], max_length: int, short: float, rng: random.Random, random_next: float = 0.5
) -> list:
    """Return (tokens of A, tokens of B, is random) as create_pretraining_data.py makes them, before framing."""
    room = max_length - 3
    made = []
    for number, document in enumerate(documents):
        target = rng.randint(2, room) if rng.random() < short else room
        chunk: list[list[int]] = []
        at = 0
        while at < len(document):
            chunk.append(document[at])
            if at == len(document) - 1 or sum(map(len, chunk)) >= target:
                cut = rng.randint(1, len(chunk) - 1) if len(chunk) > 1 else 1
                a = [token for sentence in chunk[:cut] for token in sentence]
                is_random = len(chunk) == 1 or rng.random() < random_next
                if is_random:
                    b = published_elsewhere(documents, number, target - len(a), rng)
                    at -= len(chunk) - cut
                else:
                    b = [token for sentence in chunk[cut:] for token in sentence]
                published_truncation(a, b, room, rng)
                made.append((a, b, is_random))
                chunk = []
            at += 1
    return made


def published_elsewhere(documents: list[list[list[int]]], number: int, wanted: int, rng: random.Random) -> list[int]:
    other = number
    while other == number:
        other = rng.randint(0, len(documents) - 1)
    b: list[int] = []
    for sentence in documents[other][rng.randint(0, len(documents[other]) - 1) :]:
        b.extend(sentence)
        if len(b) >= wanted:
            break
    return b


def published_truncation(a: list[int], b: list[int], room: int, rng: random.Random) -> None:
    while len(a) + len(b) > room:
        longer = a if len(a) > len(b) else b
        if rng.random() < 0.5:
            del longer[0]
        else:
            longer.pop()


def sentences_of(store: Store) -> list[list[list[int]]]:
    bounds = store.sentences.tolist()
    return [[list(range(*bounds[s : s + 2])) for s in range(*document)] for document in store.documents.tolist()]


# --- against it ------------------------------------------------------------------------------------------------------


def measures(a: list[int], b: list[int], label: list[int]) -> dict[str, float]:
    """Return what is compared of one pass over the corpus, from the lengths of segments and the labels."""
    first, second, random_next = np.array(a), np.array(b), np.array(label)
    return {
        "examples": len(first),
        "first segment": first.mean(),
        "second segment": second.mean(),
        "second segment, random": second[random_next == 1].mean(),
        "share of random ones": random_next.mean(),
        "share of full pairs": (first + second == (first + second).max()).mean(),
        "spread of lengths": (first + second).std(),
    }


@pytest.mark.parametrize("max_length", [32, 128])
def test_agrees_with_the_published_algorithm(max_length: int) -> None:
    """Passes are independent, so their measures are compared by Welch's t-test."""
    documents = sentences_of(NATURAL)
    ours, theirs = [], []
    for number in range(25):
        plan = plan_of(SegmentPairs(), max_length=max_length, epoch=number)
        lengths = plan.stop - plan.start
        ours.append(measures(lengths[::2], lengths[1::2], plan.label))
        slow = published(documents, max_length, 0.1, random.Random(number))
        theirs.append(measures([len(a) for a, _, _ in slow], [len(b) for _, b, _ in slow], [r for _, _, r in slow]))
    for name in ours[0]:
        test = stats.ttest_ind([one[name] for one in ours], [one[name] for one in theirs], equal_var=False)
        assert test.pvalue > UNLIKELY, name


def test_lengths_are_distributed_as_published() -> None:
    slow = [pair for seed in range(4) for pair in published(sentences_of(NATURAL), 64, 0.0, random.Random(seed))]
    plans = [plan_of(SegmentPairs(short=0.0), max_length=64, epoch=epoch) for epoch in range(4)]
    a0, a1, b0, b1 = (np.concatenate(part) for part in zip(*map(spans, plans), strict=True))
    compared = {
        "first segment": (a1 - a0, [len(a) for a, _, _ in slow]),
        "second segment": (b1 - b0, [len(b) for _, b, _ in slow]),
        "where first ones start": (a0, [a[0] for a, _, _ in slow]),
        "where second ones start": (b0, [b[0] for _, b, _ in slow]),
    }
    for name, (ours, theirs) in compared.items():
        assert stats.ks_2samp(ours, theirs).pvalue > UNLIKELY, name


def test_chunks_are_those_of_the_published_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no random next segment and no truncation, the joined pairs are the chunks, one by one."""
    monkeypatch.setitem(published.__globals__, "published_truncation", lambda *_: None)

    slow = published(sentences_of(NATURAL), 64, 0.0, random.Random(0), random_next=0.0)
    (documents,) = blocks.cut(NATURAL)
    block = blocks.flatten(NATURAL, documents)
    end, target = SegmentPairs(short=0.0).chunks(block, 61, np.random.default_rng(0))
    begin = blocks.follow(end)
    assert (target == 61).all()
    assert len(begin) == len(slow)
    assert block.start[begin].tolist() == [a[0] for a, _, _ in slow]
    follows = [not is_random for _, _, is_random in slow]
    assert (block.stop[end[begin] - 1] - 1)[follows].tolist() == [b[-1] for _, b, is_random in slow if not is_random]


@given(a=st.integers(1, 60), b=st.integers(1, 60), room=st.integers(2, 80), seed=st.integers(0, 9))
def test_truncation_keeps_as_many_as_token_by_token(a: int, b: int, room: int, seed: int) -> None:
    first, second = list(range(a)), list(range(b))
    published_truncation(first, second, room, random.Random(seed))
    kept_b = np.clip(room // 2, room - a, b)
    assert (len(first), len(second)) == (min(a, room - kept_b), kept_b)


def test_truncation_takes_front_and_back_with_equal_chance() -> None:
    many = 20_000
    start, stop = shorten(np.zeros(many, int), np.full(many, 30), np.full(many, 10), np.random.default_rng(0))
    assert (stop - start == 10).all()
    front = np.bincount(start, minlength=21)
    expected = stats.binom.pmf(np.arange(21), 20, 0.5) * many
    middle = slice(4, 17)  # where at least five are expected, as the test of fit needs
    law = expected[middle] * front[middle].sum() / expected[middle].sum()
    assert stats.chisquare(front[middle], law).pvalue > UNLIKELY


# --- its laws --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("examples", [SegmentPairs(), SentencePairs()])
def test_a_pair_follows_or_is_from_another_document(examples: ExampleFormat) -> None:
    plan = plan_of(examples)
    a0, a1, b0, b1 = spans(plan)
    assert (a0 < a1).all()
    assert (b0 < b1).all()
    home, other = documents_of(NATURAL, a0), documents_of(NATURAL, b0)
    assert (documents_of(NATURAL, a1 - 1) == home).all()
    assert (documents_of(NATURAL, b1 - 1) == other).all()
    follows = plan.label == 0
    assert (home[follows] == other[follows]).all()
    assert (home[~follows] != other[~follows]).all()
    whole = follows & (plan.lengths["tokens"] < 128)
    assert (a1[whole] == b0[whole]).all()
    assert whole.sum() > 100
    assert (a1[follows] <= b0[follows]).all()


def test_half_the_pairs_are_random() -> None:
    plan = plan_of(SegmentPairs(), WORDS)
    assert stats.binomtest(int(plan.label.sum()), len(plan), 0.5).pvalue > UNLIKELY
    never = plan_of(SegmentPairs(random_next=0.0), WORDS)
    a0, _, b0, _ = spans(never)
    assert (documents_of(WORDS, a0) == documents_of(WORDS, b0))[never.label == 0].all()
    assert never.label.mean() < 0.05  # only chunks of the one word that a document may end with


def test_other_documents_and_their_sentences_are_drawn_evenly() -> None:
    """Every other document is as likely as the next; within one, every place to start."""
    store = corpus([[1] * 10] * 20)
    plans = [plan_of(SegmentPairs(short=0.0), store, 8, epoch) for epoch in range(40)]
    starts = np.concatenate([plan.start[1::2][plan.label == 1] for plan in plans])
    assert stats.chisquare(np.bincount(documents_of(store, starts), minlength=20)).pvalue > UNLIKELY
    assert stats.chisquare(np.bincount(starts % 10, minlength=10)).pvalue > UNLIKELY


def test_a_tenth_of_the_documents_is_short_evenly() -> None:
    """Sentences of one token: a document's following pairs, but for the last, are as long as its target."""
    store = corpus([[1] * 80] * 3000)
    plan = plan_of(SegmentPairs(), store, 20)
    a0, _, _, _ = spans(plan)
    follows = plan.label == 0
    target = np.zeros(3000, dtype=int)
    np.maximum.at(target, documents_of(store, a0[follows]), plan.lengths["tokens"][follows] - 3)
    seen = target[target > 0]
    shorter = seen[seen < 17]
    # A drawn target is one of 2, ..., 17; the sixteenth that draws 17 cannot be told from the rest.
    assert stats.binomtest(len(shorter), len(seen), 0.1 * 15 / 16).pvalue > UNLIKELY
    assert stats.chisquare(np.bincount(shorter, minlength=17)[2:]).pvalue > UNLIKELY


def test_what_gave_way_is_put_back() -> None:
    """Without truncation every token of the corpus is exactly once in a segment of its own document's chunks."""
    plan = plan_of(SegmentPairs(short=0.0), WORDS)
    a0, a1, b0, b1 = spans(plan)
    follows = plan.label == 0
    ranges = [*zip(a0, a1, strict=True), *zip(b0[follows], b1[follows], strict=True)]
    covered = np.sort(np.concatenate([np.arange(*span) for span in ranges]))
    np.testing.assert_array_equal(covered, np.arange(WORDS.sentences[-1]))


def test_random_segments_fill_up_the_target() -> None:
    plan = plan_of(SegmentPairs(short=0.0), WORDS)
    _, _, b0, b1 = spans(plan)
    in_the_middle = (plan.label == 1) & (b1 % 400 != 0) & (b0 > 0)
    assert (plan.lengths["tokens"][in_the_middle] == 128).all()


def test_sentence_pairs_are_single_sentences() -> None:
    plan = plan_of(SentencePairs(), max_length=512)
    a0, a1, b0, b1 = spans(plan)
    whole = plan.lengths["tokens"] < 512
    for first, last in ((a0, a1), (b0, b1)):
        sentence = np.searchsorted(NATURAL.sentences, first[whole])
        np.testing.assert_array_equal(NATURAL.sentences[sentence], first[whole])
        np.testing.assert_array_equal(NATURAL.sentences[sentence + 1], last[whole])
    has_next = ~np.isin(a1, NATURAL.sentences[NATURAL.documents[:, 1]])
    assert stats.binomtest(int(plan.label[has_next].sum()), int(has_next.sum()), 0.5).pvalue > UNLIKELY
    assert (plan.label[~has_next] == 1).all()


@pytest.mark.parametrize("middle", [1, 2])
def test_reading_a_pair(middle: int) -> None:
    words = vocabulary(NATURAL, middle)
    examples = SegmentPairs()
    plan = plan_of(examples, middle=middle)
    assert plan.lengths["tokens"].max() == 128
    for index in range(0, len(plan), 17):
        example = examples.read(plan, index, NATURAL, words)
        a, b = (np.arange(plan.start[s], plan.stop[s]) + SPECIALS for s in (2 * index, 2 * index + 1))
        assert example.tokens.ids.tolist() == [CLS, *a, *[SEP] * middle, *b, SEP]
        assert len(example.tokens.ids) == plan.lengths["tokens"][index]
        assert example.tokens.segments.tolist() == [0] * (1 + len(a) + middle) + [1] * (len(b) + 1)
        assert (example.tokens.fixed == (example.tokens.ids < SPECIALS)).all()
        where, label = example.targets["next_sentence"]
        assert (where.tolist(), label.tolist()) == ([0], [plan.label[index]])


def test_a_split_takes_random_segments_from_its_own_documents() -> None:
    part = replace(NATURAL, documents=NATURAL.documents[::3])
    plan = plan_whole(SegmentPairs(), part, vocabulary(NATURAL), 128)
    for first, last in zip(plan.start, plan.stop, strict=True):
        assert document_of(NATURAL, first) % 3 == 0
        assert document_of(NATURAL, last - 1) == document_of(NATURAL, first)
    assert plan.label.mean() == pytest.approx(0.5, abs=0.1)


def test_a_plan_is_a_function_of_seed_and_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SENTENCES", 500)
    assert len(blocks.cut(NATURAL)) > 5
    first, other, again = (plan_of(SegmentPairs(), epoch=epoch) for epoch in (3, 4, 3))
    np.testing.assert_array_equal(first.start, again.start)
    np.testing.assert_array_equal(first.label, again.label)
    assert not np.array_equal(first.start[:50], other.start[:50])
    assert not np.array_equal(first.label[:50], plan_of(SegmentPairs(), corpus([[3] * 50] * 40)).label[:50])


@pytest.mark.parametrize("examples", [SegmentPairs(), SentencePairs()])
def test_errors(examples: ExampleFormat) -> None:
    with pytest.raises(GenusError, match="the corpus is empty"):
        plan_of(examples, corpus([]))
    with pytest.raises(GenusError, match="there is one document"):
        plan_of(examples, corpus([[4, 5, 6]]))
    with pytest.raises(GenusError, match="choose max_length 5 or more"):
        plan_of(examples, max_length=4)
    plan_of(examples, max_length=5)
