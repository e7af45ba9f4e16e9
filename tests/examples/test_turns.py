"""Feeds that take turns: exact shares, a pure function of the number, each feed read without a gap."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import TYPE_CHECKING

import pytest
import torch
from corpora import natural, vocabulary

from genus.examples.feed.feed import Feed
from genus.examples.feed.tasks import TaskFeed, TaskSchedule
from genus.examples.formats.segment_pairs import SegmentPairs
from genus.examples.formats.sentences import DocSentences, FullSentences
from genus.objectives.pretraining.labels import SequenceLabels
from genus.objectives.pretraining.masked_lm import MaskedLM

if TYPE_CHECKING:
    from genus.batch import Batch

STORE = natural(60)
STEPS = (3, 1, 2)


def feeds() -> list[Feed]:
    words = vocabulary(STORE)
    pairs = (SegmentPairs(), (MaskedLM(), SequenceLabels(label="next_sentence")))
    formats = [(FullSentences(), (MaskedLM(),)), pairs, (DocSentences(), (MaskedLM(),))]
    return [
        Feed(STORE, words, one, ours, limits={"tokens": 64}, micro_batch=2, seed=1, task=task)
        for task, (one, ours) in enumerate(formats)
    ]


def turns(accumulate: int = 1, seed: int = 5) -> TaskSchedule:
    names = [{"masked_lm"}, {"masked_lm", "next_sentence"}, {"masked_lm"}]
    shares = [TaskFeed(feed, frozenset(heads), steps) for feed, heads, steps in zip(feeds(), names, STEPS, strict=True)]
    return TaskSchedule(tuple(shares), accumulate, seed)


def task_of(batch: Batch) -> int:
    (task,) = set(batch.tokens.facts["task"][batch.tokens.sequence >= 0].tolist())
    return int(task)


def test_every_round_gives_each_its_steps_in_an_order_of_its_own() -> None:
    mixed = turns()
    tasks = [task_of(mixed[number]) for number in range(60)]
    rounds = [tuple(tasks[first : first + 6]) for first in range(0, 60, 6)]
    assert all(Counter(one) == {0: 3, 1: 1, 2: 2} for one in rounds)
    assert len(set(rounds)) > 3
    assert tasks != [task_of(turns(seed=6)[number]) for number in range(60)]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_each_feed_is_read_without_a_gap(accumulate: int) -> None:
    """All micro-batches of a step are one turn's, and each turn goes on where it had come to."""
    mixed, alone, taken = turns(accumulate), feeds(), [0, 0, 0]
    for step in range(20):
        batches = [mixed[step * accumulate + within] for within in range(accumulate)]
        (task,) = {task_of(batch) for batch in batches}
        for batch in batches:
            expected = alone[task][taken[task]]
            assert torch.equal(batch.tokens.ids, expected.tokens.ids)
            assert batch.targets.keys() == expected.targets.keys()
            assert batch.heads == ({"masked_lm", "next_sentence"} if task == 1 else {"masked_lm"})
            taken[task] += 1


def test_any_number_can_be_asked_for_first() -> None:
    late = turns(2)[371]
    again = pickle.loads(pickle.dumps(turns(2)))
    again[4]
    assert torch.equal(again[371].tokens.ids, late.tokens.ids)
    assert task_of(again[371]) == task_of(late)


def test_epochs_are_those_of_all_feeds_together() -> None:
    mixed, alone = turns(2), feeds()
    assert mixed.epoch(0) == 0
    taken = Counter(task_of(mixed[number]) for number in range(101))
    assert mixed.epoch(101) == pytest.approx(sum(alone[task].epoch(count) for task, count in taken.items()))


def test_evaluation_takes_a_batch_of_each_in_turn_until_all_are_through() -> None:
    tasks = [task_of(batch) for batch in turns().evaluation_batches()]
    assert tasks[:6] == [0, 1, 2, 0, 1, 2]
    assert [tasks.count(task) for task in range(3)] == [len(list(feed.evaluation_batches())) for feed in feeds()]
