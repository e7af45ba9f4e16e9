"""The feed is a pure function of the micro-batch number, and an epoch holds everything once."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from corpora import MASK, SPECIALS, corpus, natural, plan_whole, vocabulary
from torch.utils.data import DataLoader

from genus.errors import GenusError
from genus.examples.feed.feed import Feed
from genus.examples.formats.segment_pairs import SegmentPairs
from genus.examples.formats.sentences import DocSentences, FullSentences
from genus.objectives.masking.tokens import TokenMasking
from genus.objectives.pretraining.labels import SequenceLabels
from genus.objectives.pretraining.masked_lm import MaskedLM

if TYPE_CHECKING:
    from genus.batch import Batch
    from genus.examples import ExampleFormat
    from genus.objectives import Objective

STORE = natural(60)
LENGTH = 64
BERT = (MaskedLM(), SequenceLabels(label="next_sentence"))
ROBERTA = (MaskedLM(),)


def feed_of(examples: ExampleFormat, objectives: tuple[Objective, ...], micro_batch: int = 4, seed: int = 3) -> Feed:
    return Feed(
        STORE, vocabulary(STORE), examples, objectives, limits={"tokens": LENGTH}, micro_batch=micro_batch, seed=seed
    )


def parts(batch: Batch) -> dict[str, torch.Tensor]:
    tokens = batch.tokens
    named = {"ids": tokens.ids, "positions": tokens.positions, "sequence": tokens.sequence, "offsets": tokens.offsets}
    named |= tokens.facts
    for name, targets in batch.targets.items():
        named |= {f"{name}.index": targets.index, f"{name}.label": targets.label}
    return named


def same(left: Batch, right: Batch) -> bool:
    a, b = parts(left), parts(right)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def rows(batch: Batch) -> list[tuple[int, ...]]:
    """Return the corrupted ids of each row."""
    return [tuple(row) for row in batch.tokens.ids.view(-1, LENGTH).tolist()]


def originals(batch: Batch) -> torch.Tensor:
    """Return the ids with every masked token put back."""
    ids, targets = batch.tokens.ids.clone(), batch.targets["masked_lm"]
    ids[targets.index[targets.counted()]] = targets.label[targets.counted()]
    return ids


def epochs(feed: Feed, number: int) -> list[Counter[tuple[int, ...]]]:
    """Return the rows of the first epochs; micro-batches of one row, so that none spans two."""
    made: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(number)]
    at = 0
    while (epoch := int(feed.epoch(at))) < number:
        made[epoch].update(rows(feed[at]))
        at += 1
    return made


@pytest.mark.parametrize(
    ("examples", "objectives"),
    [
        (SegmentPairs(dupe_factor=2), BERT),
        (SegmentPairs(), BERT),
        (FullSentences(), ROBERTA),
        (DocSentences(dupe_factor=1), ROBERTA),
    ],
)
class TestPurity:
    def test_any_order_in_any_process(self, examples: ExampleFormat, objectives: tuple[Objective, ...]) -> None:
        feed = feed_of(examples, objectives)
        numbers = [0, 700, 3, 250, 0, 90]
        batches = [feed[number] for number in numbers]
        assert same(batches[0], batches[4])
        assert not same(batches[0], batches[2])
        for number, batch in zip(numbers, batches, strict=True):
            assert same(feed_of(examples, objectives)[number], batch)
        copy = pickle.loads(pickle.dumps(feed))
        assert same(copy[250], batches[3])
        assert copy.epoch(250) == feed.epoch(250)
        assert not same(feed_of(examples, objectives, seed=4)[0], batches[0])

    def test_micro_batches_hold_the_same_rows(self, examples: ExampleFormat, objectives: tuple[Objective, ...]) -> None:
        small, large = (feed_of(examples, objectives, size) for size in (4, 8))
        for number in (0, 40, 111):
            assert rows(small[2 * number]) + rows(small[2 * number + 1]) == rows(large[number])
            assert small.epoch(2 * number) == large.epoch(number)

    def test_shapes_are_static(self, examples: ExampleFormat, objectives: tuple[Objective, ...]) -> None:
        feed = feed_of(examples, objectives)
        shapes = [{name: part.shape for name, part in parts(feed[number]).items()} for number in range(0, 600, 7)]
        assert all(shape == shapes[0] for shape in shapes)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_loader_workers_change_nothing(workers: int) -> None:
    """Over the end of an epoch, so that workers plan the next one themselves."""
    feed = feed_of(SegmentPairs(), BERT, 8)
    last = next(number for number in range(1000) if feed.epoch(number) >= 1)
    numbers = range(last - 6, last + 6)
    loader = DataLoader(feed, batch_size=None, sampler=numbers, num_workers=workers)
    fresh = feed_of(SegmentPairs(), BERT, 8)
    assert [same(batch, fresh[number]) for number, batch in zip(numbers, loader, strict=True)] == [True] * 12


def test_workers_that_get_the_feed_pickled() -> None:
    feed = feed_of(SegmentPairs(), BERT)
    loader = DataLoader(feed, batch_size=None, sampler=[5, 900], num_workers=1, multiprocessing_context="spawn")
    assert all(same(batch, feed[number]) for number, batch in zip([5, 900], loader, strict=True))


def test_an_epoch_holds_every_token_once() -> None:
    feed = feed_of(DocSentences(), ROBERTA, 1)
    at = 0
    for epoch in range(3):
        seen: Counter[int] = Counter()
        while int(feed.epoch(at)) == epoch:
            seen.update(originals(feed[at]).tolist())
            at += 1
        assert [seen[int(token)] for token in STORE.ids] == [1] * len(STORE.ids)


def test_an_epoch_holds_every_example_once() -> None:
    feed = feed_of(SegmentPairs(dupe_factor=1), BERT, 1)
    words = vocabulary(STORE)
    plan = plan_whole(feed.examples, STORE, words, LENGTH, 3)
    made = (feed.examples.read(plan, index, STORE, words) for index in range(len(plan)))
    expected = Counter(tuple(example.tokens.ids.tolist()) for example in made)
    seen: Counter[tuple[int, ...]] = Counter()
    at = 0
    while feed.epoch(at) < 1:
        batch = feed[at]
        ids, spans = originals(batch), batch.tokens.spans()
        sequences = (tuple(ids[slice(*span)].tolist()) for span in spans)
        seen.update(sequences)
        at += 1
    assert seen == expected


def test_copies_come_again_in_another_order() -> None:
    feed = feed_of(SegmentPairs(dupe_factor=2), BERT, 1)
    first, second, third, fourth = epochs(feed, 4)
    assert first == third
    assert second == fourth
    assert first != second
    later = next(at for at in range(100_000) if feed.epoch(at) >= 2)
    assert [rows(feed[at]) for at in range(20)] != [rows(feed[later + at]) for at in range(20)]


def test_dynamic_masks_differ_where_the_text_is_the_same() -> None:
    feed = feed_of(FullSentences(), ROBERTA, 1)
    first, second = epochs(feed, 2)
    assert not first.keys() & second.keys()
    still = feed_of(FullSentences(), (MaskedLM(masking=TokenMasking(mask=0.0, random=0.0)),), 1)
    assert len({frozenset(epoch.items()) for epoch in epochs(still, 2)}) == 1


def test_epochs_passed() -> None:
    feed = feed_of(SegmentPairs(), BERT)
    passed = [feed.epoch(number) for number in range(300)]
    assert passed[0] == 0
    assert all(a < b for a, b in pairwise(passed))
    assert max(np.diff(passed)) < 1.1 * min(np.diff(passed))


def test_evaluation_is_one_epoch_and_always_the_same() -> None:
    feed = feed_of(DocSentences(), ROBERTA, 5)
    batches = list(feed.evaluation_batches())
    assert [same(a, b) for a, b in zip(batches, feed.evaluation_batches(), strict=True)] == [True] * len(batches)
    assert {tuple(part.shape for part in parts(batch).values()) for batch in batches} == {
        tuple(part.shape for part in parts(feed[0]).values())
    }
    seen = torch.cat([originals(batch) for batch in batches])
    np.testing.assert_array_equal(np.sort(seen[seen >= SPECIALS].numpy()), STORE.ids)
    assert 0 < batches[-1].tokens.tokens <= batches[0].tokens.tokens


def test_targets_restore_the_text() -> None:
    feed = feed_of(SegmentPairs(), BERT)
    for number in range(20):
        batch = feed[number]
        assert (batch.tokens.ids == MASK).sum() > 0
        ids = originals(batch)
        assert not (ids == MASK).any()
        text = ids >= SPECIALS
        # Tokens are numbered in the order of the corpus, so a segment is whole where they rise one by one.
        inside = text[1:] & text[:-1]
        assert torch.equal(ids[1:][inside], ids[:-1][inside] + 1)
        labels = batch.targets["next_sentence"]
        assert labels.counted().sum() >= 4
        assert (ids[labels.index[labels.counted()]] < SPECIALS).all()
        assert (batch.tokens.positions[labels.index[labels.counted()]] == 0).all()


def test_an_empty_corpus_is_one_line() -> None:
    store = corpus([])
    with pytest.raises(GenusError, match="the corpus is empty") as error:
        Feed(store, vocabulary(STORE), FullSentences(), ROBERTA, limits={"tokens": 8}, micro_batch=1, seed=0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("length", "alone"), [(5, True), (LENGTH, False)])
def test_causal_rows_of_one_sequence_need_no_mask(length: int, alone: bool) -> None:
    """In every batch of a feed whose rows are filled by one sequence each, and in none of another."""
    from genus.model.attention.masks import Causal
    from genus.model.attention.plan import Side, plan_attention

    feed = Feed(STORE, vocabulary(STORE), FullSentences(), (), limits={"tokens": length}, micro_batch=4, seed=3)
    batches = [*(feed[number] for number in range(4)), *feed.evaluation_batches()]
    for tokens in (batch.tokens for batch in batches):
        side = Side.of(tokens)
        plan = plan_attention(side, side, Causal(), torch.float32, packed=tokens, kernel="sdpa")
        assert (plan.window == (-1, 0), plan.mask is None) == (alone, alone)
