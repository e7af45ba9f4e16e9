"""A corpus of many blocks: planned block by block, everything once an epoch, the same whoever asks for what."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from corpora import corpus, document_of, natural, plan_whole, planner, vocabulary
from torch.utils.data import DataLoader

from genus.examples import blocks
from genus.examples.feed.bins import bin_pack
from genus.examples.feed.feed import Feed
from genus.examples.feed.planner import WINDOW
from genus.examples.formats.ernie import DocumentSegments, ShuffledSegments
from genus.examples.formats.halved_chunks import HalvedChunks
from genus.examples.formats.relations import TitledParagraphs
from genus.examples.formats.segment_pairs import SegmentPairs
from genus.examples.formats.sentences import DocSentences, FullSentences
from genus.examples.keys import FILL, ORDER, generator
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.train.data import TrainStage, steps
from genus.train.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genus.batch import Batch
    from genus.examples import ExampleFormat

STORE = natural(200)
LENGTH = 64
FORMATS = (
    SegmentPairs(),
    SegmentPairs(dupe_factor=2),
    FullSentences(),
    DocumentSegments(),
    ShuffledSegments(),
    HalvedChunks(),
)
formats = pytest.mark.parametrize("examples", FORMATS)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SENTENCES", 150)


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return what grows by (block, epoch) whenever this process plans segment pairs."""
    made: list[tuple[int, int]] = []
    plan = SegmentPairs.plan

    def counted(self, documents, store, words, limits, seed, epoch):  # type: ignore[no-untyped-def]
        made.append((documents.number, epoch))
        return plan(self, documents, store, words, limits, seed, epoch)

    monkeypatch.setattr(SegmentPairs, "plan", counted)
    return made


def feed_of(examples: ExampleFormat, micro_batch: int = 1, seed: int = 3) -> Feed:
    return Feed(
        STORE, vocabulary(STORE), examples, (MaskedLM(),), limits={"tokens": LENGTH}, micro_batch=micro_batch, seed=seed
    )


def same(left: Batch, right: Batch) -> bool:
    return torch.equal(left.tokens.ids, right.tokens.ids) and torch.equal(left.tokens.offsets, right.tokens.offsets)


def epoch_rows(feed: Feed, number: int) -> Iterator[int]:
    """Return the numbers of the rows of an epoch."""
    row = next(row for row in range(100_000) if feed.epoch_of_row(row) >= number)
    while feed.epoch_of_row(row) < number + 1:
        yield row
        row += 1


@formats
def test_an_epoch_holds_every_example_once(examples: ExampleFormat) -> None:
    words = vocabulary(STORE)
    feed = Feed(STORE, words, examples, (), limits={"tokens": LENGTH}, micro_batch=1, seed=3)
    assert len(feed.planner.blocks) > 2 * WINDOW
    for epoch in range(3):
        plan = plan_whole(examples, STORE, words, LENGTH, 3, feed.planner.version(epoch))
        made = (examples.read(plan, index, STORE, words) for index in range(len(plan)))
        found = (example for row in epoch_rows(feed, epoch) for example in feed.row(row))
        counts = [Counter(tuple(each.tokens.ids.tolist()) for each in every) for every in (made, found)]
        assert counts[0] == counts[1]


def test_evaluation_is_epoch_0_in_its_order() -> None:
    feed = feed_of(SegmentPairs(), 5)
    rows = torch.cat([batch.tokens.ids.view(-1, LENGTH) for batch in feed.evaluation_batches()])
    alone = feed_of(SegmentPairs())
    expected = torch.stack([alone[row].tokens.ids for row in epoch_rows(alone, 0)])
    assert torch.equal(rows[: len(expected)], expected)
    assert not rows[len(expected) :].any()


@formats
def test_any_order_in_any_process(examples: ExampleFormat) -> None:
    feed = feed_of(examples, 4)
    late = next(number for number in range(10_000) if feed.epoch(number) > 2.5)
    numbers = [0, late, 3, late // 2, 0, late - 1]
    batches = [feed[number] for number in numbers]
    for number, batch in zip(numbers, batches, strict=True):
        assert same(feed_of(examples, 4)[number], batch)
    copy = pickle.loads(pickle.dumps(feed))
    assert same(copy[late], batches[1])
    assert copy.epoch(late) == feed.epoch(late) == feed_of(examples, 4).epoch(late)
    assert not same(batches[0], batches[1])
    assert len({batch.tokens.offsets.shape for batch in batches}) == 1


def test_micro_batches_hold_the_same_rows() -> None:
    small, large = feed_of(SegmentPairs(), 2), feed_of(SegmentPairs(), 6)
    for number in range(0, 300, 7):
        parts = [small[3 * number + part].tokens.ids for part in range(3)]
        assert torch.equal(torch.cat(parts), large[number].tokens.ids)
        assert small.epoch(3 * number) == large.epoch(number)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_loader_workers_change_nothing(workers: int) -> None:
    """Over the end of an epoch."""
    feed = feed_of(SegmentPairs(), 8)
    last = next(number for number in range(1000) if feed.epoch(number) >= 1)
    numbers = range(last - 30, last + 12)
    loader = DataLoader(feed_of(SegmentPairs(), 8), batch_size=None, sampler=numbers, num_workers=workers)
    assert all(same(batch, feed[number]) for number, batch in zip(numbers, loader, strict=True))


def test_a_feed_plans_one_block_and_then_those_of_the_window(planned: list[tuple[int, int]]) -> None:
    feed = feed_of(SegmentPairs())
    assert len(planned) == 1
    feed[0]
    assert 1 < len(planned) <= WINDOW


def test_few_plans_are_kept_and_each_is_made_once(planned: list[tuple[int, int]]) -> None:
    feed = feed_of(SegmentPairs(), 4)
    number, kept, most = 1, 0, 0
    feed[0]
    while feed.epoch(number) < 2:
        before = len(planned)
        feed[number]
        kept = max(kept, len(feed.planner._planned))
        most = max(most, len(planned) - before)
        number += 1
    assert WINDOW <= kept <= 2 * WINDOW < len(feed.planner.blocks)
    assert most <= 2  # the next window is planned one block at a time
    whole = {(block, epoch) for block in range(len(feed.planner.blocks)) for epoch in range(2)}
    assert whole <= set(planned)
    assert len(planned) == len(set(planned))


def test_the_main_process_plans_nothing_while_workers_do(planned: list[tuple[int, int]]) -> None:
    """Over the ends of two epochs, with how much of an epoch each batch is."""
    feed = feed_of(SegmentPairs(), 24)
    batches = steps(TrainStage(feed), 0, World(0, 1, torch.device("cpu")), workers=1)
    passed = 0.0
    while passed < 2.1:
        passed += sum(each.epochs for each in next(batches).values())
    batches.close()
    assert len(planned) == 1


def test_rows_that_are_known_to_end_need_no_plan(planned: list[tuple[int, int]]) -> None:
    """A plan that is not drawn is counted in the first epoch and never again."""
    feed = feed_of(SegmentPairs(dupe_factor=1), 4)
    late = next(number for number in range(10_000) if feed.epoch(number) >= 1)
    count = len(planned)
    assert feed.epoch(40 * late) == pytest.approx(40, abs=0.1)
    assert len(planned) == count


def test_blocks_come_in_an_order_of_the_epoch_and_mix_in_a_window() -> None:
    feed = feed_of(SegmentPairs())
    starts = [block.first for block in feed.planner.blocks]
    orders = []
    for epoch in range(2):
        seen: list[int] = []
        for row in list(epoch_rows(feed, epoch))[:60]:
            tokens = [int(i) - 5 for each in feed.row(row) for i in each.tokens.ids if i >= 5]
            seen.append(int(np.searchsorted(starts, document_of(STORE, tokens[0]), side="right")) - 1)
        orders.append(seen)
        assert len(set(seen)) > WINDOW // 2
        assert sum(a != b for a, b in pairwise(seen)) > 30
    assert set(orders[0]) != set(orders[1])


def test_epochs_passed() -> None:
    feed = feed_of(SegmentPairs(), 12)
    passed = [feed.epoch(number) for number in range(500)]
    assert passed[0] == 0
    assert all(a < b for a, b in pairwise(passed))
    assert passed[-1] > 2
    assert max(np.diff(passed)) < 2 * min(np.diff(passed))


def test_the_size_is_an_estimate_from_one_block() -> None:
    feed = feed_of(FullSentences())
    examples = len(plan_whole(FullSentences(), STORE, vocabulary(STORE), LENGTH))
    assert feed.size == pytest.approx((examples, len(list(epoch_rows(feed, 0)))), rel=0.2)


def test_blocks_without_an_example_are_passed_over() -> None:
    """Documents of a title alone fill most blocks."""
    store = corpus([*[[3]] * 2000, *[[3, 4, 5]] * 20, *[[3]] * 2000])
    plans = planner(TitledParagraphs(), store)
    filled = [block for block in range(len(plans.blocks)) if plans.rows(block, 0)]
    assert len(filled) < 3 < WINDOW < len(plans.blocks)
    feed = Feed(store, vocabulary(store), TitledParagraphs(), (), limits={"tokens": LENGTH}, micro_batch=1, seed=3)
    assert sum(len(feed.row(row)) for row in epoch_rows(feed, 0)) == 20


@pytest.mark.parametrize("seed", [3, (1 << 32) + 3])
@pytest.mark.parametrize("examples", [SegmentPairs(), DocSentences()])
def test_a_corpus_of_one_block_is_shuffled_whole(
    examples: ExampleFormat, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By keys of (seed, epoch) alone."""
    monkeypatch.setattr(blocks, "SENTENCES", 1 << 20)
    words, limits = vocabulary(STORE), {"tokens": LENGTH}
    feed = Feed(STORE, words, examples, (), limits=limits, micro_batch=1, seed=seed)
    at = 0
    for epoch in range(3):
        version = epoch if examples.stochastic else 0
        plan = plan_whole(examples, STORE, words, LENGTH, seed, version)
        order = generator(seed, FILL, version).permutation(len(plan))
        rows = bin_pack(plan.lengths, limits, order=order, max_sequences=feed.planner.sequences_per_row)
        for row in generator(seed, ORDER, epoch).permutation(len(rows)):
            expected = [examples.read(plan, index, STORE, words).tokens.ids for index in rows[row].tolist()]
            found = [example.tokens.ids for example in feed.row(at)]
            assert [ids.tolist() for ids in found] == [ids.tolist() for ids in expected]
            at += 1
