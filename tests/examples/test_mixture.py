"""Feeds mixed within a batch: rates by size, every row once, the same whoever asks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from corpora import SPECIALS, natural, vocabulary

from genus.errors import UsageError
from genus.examples.feed.feed import Feed
from genus.examples.feed.mixture import CYCLE, Mixture, mixing_rates, rows_per_cycle
from genus.examples.feed.tasks import TaskFeed
from genus.examples.formats.contiguous import Contiguous
from genus.examples.formats.segment_pairs import SentencePairs
from genus.examples.formats.sentences import DocSentences, FullSentences
from genus.objectives.pretraining.causal_lm import CausalLM

if TYPE_CHECKING:
    from genus.examples import ExampleFormat

STORE = natural(40)
LENGTH = 64


def feed(examples: ExampleFormat, length: int = LENGTH) -> Feed:
    return Feed(STORE, vocabulary(STORE), examples, (CausalLM(),), limits={"tokens": length}, micro_batch=3, seed=2)


def test_rates_are_those_of_the_paper() -> None:
    """Raffel et al. 2019, section 3.5.2: r_m = min(e_m, K) / Σ min(e_n, K), raised to 1 / T and normalized again."""
    sizes = [100, 1_000, 50_000]
    np.testing.assert_allclose(mixing_rates(sizes), np.array(sizes) / 51_100)
    np.testing.assert_allclose(mixing_rates(sizes, limit=2_000), np.array([100, 1_000, 2_000]) / 3_100)
    rooted = np.sqrt([100, 1_000, 2_000])
    np.testing.assert_allclose(mixing_rates(sizes, limit=2_000, temperature=2.0), rooted / rooted.sum())
    np.testing.assert_allclose(mixing_rates(sizes, temperature=1e9), 1 / 3, atol=1e-6)


def test_examples_of_a_mixture_have_these_rates() -> None:
    """Though a row holds many pairs of sentences of one feed and one text of the other, counted over two cycles."""
    heads = frozenset({"causal_lm"})
    tasks = [TaskFeed(feed(examples), heads, 1) for examples in (SentencePairs(), FullSentences())]
    mixed = Mixture.by_size(tasks, seed=5, limit=60, temperature=2.0)
    wanted = mixing_rates([task.feed.size[0] for task in tasks], limit=60, temperature=2.0)
    counts = np.zeros(2)
    for number in range(2 * CYCLE):
        counts[mixed._cycle.member(number)] += len(mixed.row(number))
    np.testing.assert_allclose(counts / counts.sum(), wanted, rtol=0.1)


def test_rows_of_a_cycle_are_whole_and_none_is_left_out() -> None:
    assert rows_per_cycle(np.array([0.5, 0.25, 0.25])) == (CYCLE // 2, CYCLE // 4, CYCLE // 4)
    for seed in range(20):
        shares = np.random.default_rng(seed).dirichlet([0.05] * 7)
        rows = rows_per_cycle(shares)
        assert sum(rows) == CYCLE
        assert min(rows) >= 1
        assert (np.abs(np.array(rows) - np.maximum(1, shares * CYCLE)) <= 7).all()


def test_each_feed_is_read_in_its_own_order_without_a_gap() -> None:
    feeds = (feed(FullSentences()), feed(DocSentences()))
    mixed = Mixture(feeds, (5, 2), seed=11)
    found: list[list[tuple[int, ...]]] = [[], []]
    for number in range(28):
        cycle = mixed._cycle
        found[cycle.member(number)].append(tuple(tuple(e.tokens.ids.tolist()) for e in mixed.row(number)))  # type: ignore[arg-type]
    assert [len(rows) for rows in found] == [20, 8]
    for one, rows in zip(feeds, found, strict=True):
        assert rows == [tuple(tuple(e.tokens.ids.tolist()) for e in one.row(n)) for n in range(len(rows))]


def test_a_batch_is_a_function_of_its_number() -> None:
    def mixture() -> Mixture:
        return Mixture((feed(FullSentences()), feed(DocSentences())), (3, 2), seed=11)

    one, other = mixture(), mixture()
    late = one[7].tokens.ids
    assert torch.equal(other[2].tokens.ids, one[2].tokens.ids)
    assert torch.equal(other[7].tokens.ids, late)
    shapes = Counter((batch.tokens.ids.shape, batch.tokens.offsets.shape) for batch in (one[n] for n in range(12)))
    assert len(shapes) == 1


def test_an_epoch_holds_everything_of_every_feed_once() -> None:
    feeds = (feed(FullSentences()), feed(DocSentences()))
    rows = tuple(one.size[1] for one in feeds)
    mixed = Mixture(feeds, rows, seed=0)
    found = Counter(int(i) for n in range(sum(rows)) for e in mixed.row(n) for i in e.tokens.ids if i >= SPECIALS)
    assert found == Counter({SPECIALS + token: 2 for token in range(len(STORE.ids))})


def test_what_cannot_share_a_batch_is_refused() -> None:
    with pytest.raises(UsageError, match="rows of one length"):
        Mixture((feed(FullSentences()), feed(FullSentences(), length=32)), (1, 1), seed=0)
    with pytest.raises(UsageError, match="Contiguous reads text in order"):
        Mixture((feed(FullSentences()), feed(Contiguous())), (1, 1), seed=0)
