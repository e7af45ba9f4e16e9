"""Formats whose rows go on from each other: every token in its place, and a row that says it goes on does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from corpora import SEP, SPECIALS, corpus, document_of, vocabulary

from genus.errors import GenusError
from genus.examples.blocks import whole
from genus.examples.feed.feed import Feed
from genus.examples.formats.carried_pairs import CarriedPairs
from genus.examples.formats.contiguous import Contiguous
from genus.examples.streams import places, row_at, successive
from genus.model.attention.masks import Causal
from genus.model.attention.relative import RelativeAttention
from genus.model.attention.two_stream import TwoStreamAttention
from genus.model.embedding import Embedding
from genus.model.feedforward.mlp import MLP
from genus.model.initialization import Normal
from genus.model.norm import Identity
from genus.model.position import NoPosition
from genus.model.segment_recurrence import SegmentRecurrentTransformer
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.objectives.pretraining.permutation_lm import PermutationLM

if TYPE_CHECKING:
    from genus.batch import Batch, Memory, Packed
    from genus.examples.streams import Streams
    from genus.objectives import Objective
    from genus.tokens.store import Store
    from genus.tokens.vocabulary import Vocabulary

LENGTH, MICRO, BATCH = 16, 2, 6


@dataclass(frozen=True)
class Kind:
    """A format with what learns from it."""

    examples: Streams
    objective: Objective
    attention: RelativeAttention


KINDS = {
    "contiguous": Kind(Contiguous(), CausalLM(), RelativeAttention(heads=2, mask=Causal(), dropout=0.0)),
    "carried pairs": Kind(CarriedPairs(), PermutationLM(), TwoStreamAttention(heads=2, dropout=0.0)),
    "one way": Kind(CarriedPairs(bidirectional=False), PermutationLM(), TwoStreamAttention(heads=2, dropout=0.0)),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def text(documents: int = 20) -> Store:
    """Return documents of 1 to 6 sentences of 1 to 14 tokens."""
    rng = np.random.default_rng(0)
    return corpus([rng.integers(1, 15, rng.integers(1, 7)).tolist() for _ in range(documents)])


def words(store: Store) -> Vocabulary:
    """Return a vocabulary whose frame ends with the token that stands for the whole, as XLNet's."""
    plain = vocabulary(store)
    a, b, sep = (None, 0, 0), (None, 1, 1), (SEP, None, 0)
    whole = (plain.cls, None, 2)
    return replace(plain, single=(a, sep, whole), pair=(a, sep, b, (SEP, None, 1), whole))


def feed(kind: str, store: Store, micro: int = MICRO) -> Feed:
    it = KINDS[kind]
    return Feed(
        store,
        words(store),
        it.examples,
        (it.objective,),
        limits={"tokens": LENGTH},
        micro_batch=micro,
        seed=3,
        batch=BATCH,
    )


def first_text(ids: torch.Tensor) -> int:
    """Return the first token of a row that is text, as its place in the store."""
    return int(ids[ids >= SPECIALS][0]) - SPECIALS


@kinds
def test_a_row_goes_on_where_its_stream_had_come_to(kind: str) -> None:
    """Row n says that it goes on: its first token is the one that follows what row n - S came through."""
    store = text()
    whole = feed(kind, store)
    batches = [whole[number].tokens for number in range(5 * BATCH // MICRO)]
    rows = [(packed, row) for packed in batches for row in range(MICRO)]
    going_on = 0
    for (before, old), (after, new) in zip(rows, rows[BATCH:], strict=False):
        assert after.flow is not None
        assert before.flow is not None
        if not bool(after.flow.continues[new]):
            continue
        going_on += 1
        through = int(before.flow.through[old])
        last = int(before.ids.view(MICRO, LENGTH)[old, through - 1]) - SPECIALS
        backward = after.flow.backward is not None and bool(after.flow.backward[new])
        assert first_text(after.ids.view(MICRO, LENGTH)[new]) == last + (-1 if backward else 1)
        assert document_of(store, last) == document_of(store, last + (-1 if backward else 1))
    assert going_on > 2 * BATCH


@kinds
def test_micro_batches_hold_the_same_rows(kind: str) -> None:
    """However a batch is cut, so that a place of a step is always the same streams."""
    store = text()
    one, other = feed(kind, store, micro=2), feed(kind, store, micro=3)
    joined = [torch.cat([each[n].tokens.ids for n in range(2 * BATCH // each.micro_batch)]) for each in (one, other)]
    assert torch.equal(*joined)


def test_the_rows_of_an_epoch_are_shared_out_whole() -> None:
    for rows, streams in ((7, 3), (6, 3), (2, 3), (1, 1), (50, 8)):
        given = [row_at(place, rows, streams) for place in range(places(rows, streams))]
        assert sorted(row for row in given if row is not None) == list(range(rows))
        for place, row in enumerate(given[streams:], streams):
            assert row is None or given[place - streams] == row - 1


def test_rows_are_filled_in_order() -> None:
    rows = successive(np.array([5, 5, 5, 9, 10, 1]), 10)
    assert [row.tolist() for row in rows] == [[0, 1], [2], [3], [4], [5]]
    assert [row.tolist() for row in successive(np.ones(5, dtype=np.int64), 10, 2)] == [[0, 1], [2, 3], [4]]


def test_each_token_of_contiguous_text_is_predicted_once() -> None:
    store = text()
    epoch = list(feed("contiguous", store).evaluation_batches())
    label = torch.cat([batch.targets["causal_lm"].label[batch.targets["causal_lm"].counted()] for batch in epoch])
    assert torch.equal(label[label >= SPECIALS].sort().values, torch.from_numpy(store.ids.astype(np.int64)))
    assert int((label == SEP).sum()) == len(store.documents)


def test_a_pair_follows_or_is_from_another_document() -> None:
    store = text(200)
    it, known = CarriedPairs(), words(store)
    plan = it.plan(whole(store), store, known, {"tokens": 48}, 0, 0)
    labels = []
    for index in range(len(plan)):
        carried, a, b = (
            (int(plan.start[span]), int(plan.stop[span])) for span in range(*plan.offsets[index : index + 2])
        )
        backward = index >= len(plan) // 2
        label = int(plan.label[index])
        labels.append(label)
        own = document_of(store, a[0])
        assert plan.lengths["tokens"][index] <= 48
        if carried[0] < carried[1]:
            assert (carried[0] if backward else carried[1]) == (a[1] if backward else a[0])
            assert document_of(store, carried[0]) == own
        if label:
            assert document_of(store, b[0]) != own
        else:
            assert (b[1] if backward else b[0]) == (a[0] if backward else a[1])
    assert 0.4 < np.mean(labels) < 0.7  # documents that end within a row have no other choice than another


def test_one_document_makes_no_pairs() -> None:
    store = corpus([[5, 5, 5]])
    with pytest.raises(GenusError, match="one document"):
        feed("carried pairs", store)
    with pytest.raises(GenusError, match="no document has any text"):
        feed("contiguous", corpus([]))


def network(kind: str, size: int) -> torch.nn.Module:
    torch.manual_seed(0)
    model = SegmentRecurrentTransformer(
        layers=2,
        hidden=8,
        attention=KINDS[kind].attention,
        feedforward=MLP(size=8),
        embedding=Embedding(segments=0, position=NoPosition(), norm=Identity(), dropout=0.0),
        dropout=0.0,
        memory=12,
        initialization=Normal(std=0.3),
    )
    return model.build(size).eval()


def read(net: torch.nn.Module, batches: list[Batch], *, noise: bool = False) -> list[torch.Tensor]:
    """Return the states of all batches, each place of a step with its own memory.

    With noise, rows that go on from nothing are given a memory of some other text.
    """
    each = BATCH // MICRO
    memories: list[Memory] = [net.initial_memory(MICRO) for _ in range(each)]
    found = []
    with torch.no_grad():
        for number, batch in enumerate(batches):
            if noise:
                begins = ~batch.tokens.flow.continues
                memories[number % each]["memory"][:, begins] = torch.randn(1)
                memories[number % each]["remembered"][begins] = True
            given = net(replace(batch, memory=memories[number % each]))
            memories[number % each] = given.memory
            found.append(given["tokens"])
    return found


def sequences_without(packed: Packed, cells: torch.Tensor) -> torch.Tensor:
    """Return (T,) bool: cells of sequences in which none of some cells (T,) stands."""
    ends = packed.offsets[1:].long()
    number = torch.searchsorted(ends, torch.arange(len(packed.ids)), right=True)
    return torch.bincount(number[cells], minlength=len(ends))[number] == 0


@kinds
def test_a_row_that_goes_on_from_nothing_remembers_nothing(kind: str) -> None:
    """Into the second epoch, whose first rows follow the last ones of the first."""
    whole = feed(kind, store := text())
    batches = [whole[number] for number in range((places(whole.size[1], BATCH) + BATCH) // MICRO)]
    net = network(kind, words(store).size)
    for one, other in zip(read(net, batches), read(net, batches, noise=True), strict=True):
        assert torch.equal(one, other)


@kinds
@pytest.mark.parametrize("parity", [0, 1])
def test_no_document_reaches_another_over_a_whole_epoch(kind: str, parity: int) -> None:
    """Other tokens in every other document change, bit for bit, no sequence without them, however memory goes."""
    store = text()
    whole = feed(kind, store)
    batches = [whole[number] for number in range(places(whole.size[1], BATCH) // MICRO)]
    net = network(kind, words(store).size)
    lengths = np.diff(store.sentences[store.documents]).ravel()
    harmed = torch.from_numpy(np.repeat(np.arange(len(lengths)) % 2 == parity, lengths))
    inside, changes = [], []
    for batch in batches:
        ids = batch.tokens.ids
        cells = (ids >= SPECIALS) & harmed[(ids - SPECIALS).clamp(min=0)]
        ids = torch.where(cells, SPECIALS + (ids - SPECIALS + 11) % len(harmed), ids)
        inside.append(cells)
        changes.append(replace(batch, streams={"tokens": replace(batch.tokens, ids=ids)}))
    for batch, cells, old, new in zip(batches, inside, read(net, batches), read(net, changes), strict=True):
        changed, clean = (old != new).any(-1), sequences_without(batch.tokens, cells)
        assert not changed[clean].any()
        assert changed[cells].all()
