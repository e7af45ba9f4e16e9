"""Packing: every example once, no row overfull, every target on its token."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genus.batch import IGNORE
from genus.examples import Example, Sequence
from genus.examples.feed.bins import BLOCK, bin_pack, sequences_per_row
from genus.examples.feed.pack import pack

PAD = 1
LENGTH = 16
LENGTHS = st.lists(st.integers(1, LENGTH), max_size=60)
ROWS = st.lists(st.lists(st.integers(1, 6), max_size=3).filter(lambda row: sum(row) <= LENGTH), min_size=1, max_size=5)


def best_fit_decreasing(lengths: list[int], max_length: int) -> int:
    """Return the number of rows that the textbook's loop over all rows opens."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [number for number, room in enumerate(rooms) if room >= length]
        if fitting:
            rooms[min(fitting, key=lambda number: rooms[number])] -= length
        else:
            rooms.append(max_length - length)
    return len(rooms)


@given(lengths=LENGTHS, limit=st.none() | st.integers(1, 4), seed=st.integers(0, 5))
def test_rows_hold_every_example_once(lengths: list[int], limit: int | None, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(lengths))
    rows = bin_pack({"tokens": np.array(lengths, dtype=int)}, {"tokens": LENGTH}, order=order, max_sequences=limit)
    assert sorted(np.concatenate([np.zeros(0, int), *rows]).tolist()) == list(range(len(lengths)))
    for row in rows:
        assert 1 <= len(row) <= (limit or len(lengths))
        assert sum(lengths[index] for index in row) <= LENGTH
    if limit is None:
        assert len(rows) == best_fit_decreasing(lengths, LENGTH)


def test_as_few_rows_as_the_textbook() -> None:
    for seed in range(5):
        lengths = np.random.default_rng(seed).integers(5, 300, 800)
        assert len(bin_pack({"tokens": lengths}, {"tokens": 512})) == best_fit_decreasing(lengths.tolist(), 512)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 16), st.integers(0, 9)), max_size=40), limit=st.none() | st.integers(1, 4)
)
def test_rows_of_two_streams_hold_every_example_once(sizes: list[tuple[int, int]], limit: int | None) -> None:
    lengths = {
        "tokens": np.array([a for a, _ in sizes], dtype=int),
        "source": np.array([b for _, b in sizes], dtype=int),
    }
    rows = bin_pack(lengths, {"tokens": 16, "source": 9}, max_sequences=limit)
    assert sorted(np.concatenate([np.zeros(0, int), *rows]).tolist()) == list(range(len(sizes)))
    for row in rows:
        assert 1 <= len(row) <= (limit or len(sizes))
        assert lengths["tokens"][row].sum() <= 16
        assert lengths["source"][row].sum() <= 9


def test_two_streams_of_one_length_are_filled_as_one() -> None:
    lengths = np.random.default_rng(0).integers(5, 300, 800)
    both = bin_pack({"source": lengths, "tokens": lengths}, {"source": 512, "tokens": 512})
    assert len(both) == best_fit_decreasing(lengths.tolist(), 512)


def test_rows_are_filled_within_blocks_of_the_order() -> None:
    order = np.random.default_rng(0).permutation(2 * BLOCK)
    rows = bin_pack({"tokens": np.random.default_rng(1).integers(5, 200, 2 * BLOCK)}, {"tokens": 256}, order=order)
    first = set(order[:BLOCK].tolist())
    assert {len({int(index) in first for index in row}) for row in rows} == {1}


def test_fill_of_short_sequences() -> None:
    """Of lengths as varied as sentences and questions are, less than 2 % of the cells stay empty."""
    lengths = np.clip(np.random.default_rng(0).lognormal(3.8, 0.8, 30_000).astype(int) + 3, 5, 512)
    limit = sequences_per_row({"tokens": lengths[:BLOCK]}, {"tokens": 512})
    rows = bin_pack({"tokens": lengths}, {"tokens": 512}, max_sequences=limit)
    assert lengths.sum() / (512 * len(rows)) > 0.98
    assert max(map(len, rows)) <= limit < 30  # of the 102 shortest ones that a row could hold


def test_a_limit_on_sequences_costs_little() -> None:
    assert sequences_per_row({"tokens": np.full(100, 128)}, {"tokens": 128}) == 1
    assert sequences_per_row({"tokens": np.full(100, 32)}, {"tokens": 128}) == 4
    lengths, limits = {"tokens": np.random.default_rng(0).integers(10, 128, 5000)}, {"tokens": 128}
    limited = bin_pack(lengths, limits, max_sequences=sequences_per_row(lengths, limits))
    assert len(limited) <= 1.01 * len(bin_pack(lengths, limits))


def example(length: int, first: int) -> Example:
    """Return an example of the ids first, first + 1, ... with a target of one in three tokens, labeled by its id."""
    ids = np.arange(first, first + length)
    where = np.arange(0, length, 3)
    segments = np.arange(length) % 2
    return Example(
        {"tokens": Sequence(ids, segments, np.zeros(length, dtype=bool))},
        {"masked_lm": (where, ids[where]), "score": (np.zeros(1, dtype=int), np.array([first / 2], dtype=np.float32))},
    )


def examples_of(rows: list[list[int]]) -> list[list[Example]]:
    first = iter(range(100, 10_000, 100))
    return [[example(length, next(first)) for length in row] for row in rows]


@given(rows=ROWS, more=st.integers(0, 3))
def test_a_packed_batch(rows: list[list[int]], more: int) -> None:
    entries = sum(len(row) + 1 for row in rows)
    masked = sum(-(-length // 3) for row in rows for length in row)
    batch = pack(examples_of(rows), LENGTH, PAD, entries + more, {"masked_lm": masked + more})
    tokens = batch.tokens
    assert tokens.ids.shape == (len(rows) * LENGTH,)
    assert tokens.tokens == sum(map(sum, rows))
    assert tokens.row_length == LENGTH

    offsets = tokens.offsets.tolist()
    assert len(offsets) == entries + more + 1
    assert offsets[-1 - more :] == [len(tokens.ids)] * (more + 1)
    expected = [length for row in rows for length in [*row, LENGTH - sum(row)]]
    assert np.diff(offsets)[:entries].tolist() == expected
    real = [real for row in rows for real in [*[True] * len(row), False]]
    owner = [entry if real[entry] else -1 for entry, length in enumerate(expected) for _ in range(length)]
    assert tokens.sequence.tolist() == owner
    assert set(range(0, len(tokens.ids), LENGTH)) <= set(offsets)  # no sequence crosses a row
    assert tokens.positions.tolist() == [position for length in expected for position in range(length)]
    assert tokens.ids.view(-1, LENGTH).tolist() == [
        [*(int(i) for e in row for i in e.tokens.ids), *[PAD] * (LENGTH - sum(lengths))]
        for row, lengths in zip(examples_of(rows), rows, strict=True)
    ]

    assert batch.targets.keys() == {"masked_lm"}
    targets = batch.targets["masked_lm"]
    real = targets.counted()
    assert real.tolist() == [True] * masked + [False] * more
    assert torch.equal(tokens.ids[targets.index[real]], targets.label[real])
    assert (targets.label[~real] == IGNORE).all()
    assert (targets.index[~real] == 0).all()


def test_numbers_are_filled_up_with_nan() -> None:
    batch = pack(examples_of([[3, 4], []]), LENGTH, PAD, max_targets={"score": 3})
    score = batch.targets["score"]
    assert score.label.dtype == torch.float32
    assert score.counted().tolist() == [True, True, False]
    assert score.label[:2].tolist() == [50.0, 100.0]
    assert score.index.tolist() == [0, 3, 0]


def test_without_static_shapes_everything_is_as_long_as_it_is() -> None:
    batch = pack(examples_of([[LENGTH], [4]]), LENGTH, PAD)
    assert batch.tokens.offsets.tolist() == [0, LENGTH, LENGTH, LENGTH + 4, 2 * LENGTH]
    assert {name: len(targets.label) for name, targets in batch.targets.items()} == {"masked_lm": 8, "score": 2}
    assert all(bool(targets.counted().all()) for targets in batch.targets.values())


def test_a_batch_of_nothing_but_padding() -> None:
    batch = pack([[], []], LENGTH, PAD, 4, {"masked_lm": 2})
    assert batch.tokens.tokens == 0
    assert batch.tokens.offsets.tolist() == [0, LENGTH, 2 * LENGTH, 2 * LENGTH, 2 * LENGTH]
    assert batch.targets["masked_lm"].label.tolist() == [IGNORE, IGNORE]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of 16 cells cannot hold 18 tokens"):
        pack(examples_of([[9, 9]]), LENGTH, PAD)
    with pytest.raises(ValueError, match="planned for 2 sequences got 3"):
        pack(examples_of([[2, 2]]), LENGTH, PAD, 2)
    with pytest.raises(ValueError, match="planned for 1 masked_lm targets got 2"):
        pack(examples_of([[4]]), LENGTH, PAD, max_targets={"masked_lm": 1})


def test_rows_of_one_sequence_are_promised_by_static_numbers() -> None:
    """By the feed's limit, whatever a batch holds: kernels are chosen by it. Without a limit a batch stands alone."""
    assert pack(examples_of([[LENGTH], [4]]), LENGTH, PAD, 4).tokens.one_per_row
    assert pack(examples_of([[], [4]]), LENGTH, PAD, 4).tokens.one_per_row
    assert not pack(examples_of([[4], []]), LENGTH, PAD, 6).tokens.one_per_row
    assert pack(examples_of([[4], []]), LENGTH, PAD).tokens.one_per_row
    assert not pack(examples_of([[4, 4]]), LENGTH, PAD).tokens.one_per_row


SIZES = st.tuples(st.integers(0, 4), st.none() | st.integers(0, 5))
PAIRS = st.lists(st.lists(SIZES, max_size=3), min_size=1, max_size=4)


def of_two(tokens: int, source: int | None, first: int) -> Example:
    """Return an example of two streams whose targets in the source are every second token."""
    made = example(tokens, first).tokens
    if source is None:
        return Example({"tokens": made}, {})
    other = example(source, first + 50).tokens
    where = np.arange(0, source, 2)
    return Example({"tokens": made, "source": other}, {"heard": (where, other.ids[where])})


@given(rows=PAIRS)
def test_entry_j_of_every_stream_is_the_same_example(rows: list[list[tuple[int, int | None]]]) -> None:
    """Whatever is empty or missing; targets lie in the stream that they are said to be of."""
    first = iter(range(100, 10_000, 100))
    made = [[of_two(*sizes, next(first)) for sizes in row] for row in rows]
    entries = sum(len(row) + 1 for row in rows)
    limits = {"tokens": 12, "source": 15}
    batch = pack(made, limits, PAD, entries + 2, {"heard": 40}, target_streams={"heard": "source"})
    for name, packed in batch.streams.items():
        expected = [ids_of(one, name) for row in made for one in [*row, None]]
        assert len(packed.offsets) == entries + 3
        for entry, ids in enumerate(expected):
            assert packed.ids[packed.sequence == entry].tolist() == ids
            start, end = packed.offsets[entry : entry + 2].tolist()
            assert end - start == len(ids) or made_of_padding(packed.sequence[start:end])
    lengths = [(a, b or 0) for row in rows for a, b in row if a or b]
    assert list(zip(batch.lengths()["tokens"], batch.lengths()["source"], strict=True)) == lengths
    heard = batch.targets["heard"]
    real = heard.counted()
    assert heard.stream == "source"
    assert torch.equal(batch.streams["source"].ids[heard.index[real]], heard.label[real])
    assert int(real.sum()) == sum(-(-(b or 0) // 2) for row in rows for _, b in row)


def ids_of(example: Example | None, stream: str) -> list[int]:
    return [] if example is None or stream not in example.streams else example.streams[stream].ids.tolist()


def made_of_padding(sequence: torch.Tensor) -> bool:
    return bool((sequence == -1).all())


def test_an_example_longer_than_a_row_is_named() -> None:
    lengths = {"tokens": np.array([3, 4]), "source": np.array([5, 12])}
    with pytest.raises(ValueError, match="an example has 12 tokens of the stream source, of which a row holds 9"):
        bin_pack(lengths, {"tokens": 16, "source": 9})
