"""Targets: which count, how much, and how many a row has at most."""

from __future__ import annotations

import numpy as np
import torch

from genus.batch import IGNORE, Targets
from genus.examples import Example, Sequence
from genus.examples.feed.pack import pack
from genus.objectives.pretraining.permutation_lm import by_row

LENGTH = 12


def test_without_weights_what_is_labeled_counts_one() -> None:
    index = torch.arange(4)
    classes = Targets(index, torch.tensor([3, IGNORE, 0, IGNORE]))
    assert classes.counted().tolist() == [True, False, True, False]
    assert int(classes.count()) == 2
    numbers = Targets(index, torch.tensor([0.5, torch.nan, -1.0, 2.0]))
    assert numbers.counted().tolist() == [True, False, True, True]
    assert float(numbers.total(torch.tensor([1.0, torch.nan, 2.0, 4.0]))) == 7.0


def test_weights_say_what_counts_and_how_much() -> None:
    targets = Targets(torch.arange(3), torch.tensor([3, 4, 0]), torch.tensor([0.5, 0.0, 2.0]))
    assert targets.counted().tolist() == [True, False, True]
    assert float(targets.count()) == 2.5
    assert float(targets.total(torch.tensor([10.0, torch.inf, 1.0]))) == 7.0
    moved = targets.to(torch.device("meta"))
    assert (moved.weight is not None and moved.weight.is_meta, moved.stream) == (True, "tokens")


def test_labels_may_have_several_numbers() -> None:
    label = np.array([[0.5, 1.0], [2.0, 3.0]], np.float32)
    ids = np.arange(5)
    example = Example({"tokens": Sequence(ids, ids * 0, ids < 0)}, {"box": (np.array([1, 3]), label)})
    targets = pack([[example]], LENGTH, 0, max_targets={"box": 4}).targets["box"]
    assert targets.label.shape == (4, 2)
    assert targets.counted().tolist() == [True, True, False, False]


def many(numbers: list[list[int]]) -> list[list[Example]]:
    """Return rows of examples of 5 tokens with that many targets each."""
    rng = np.random.default_rng(0)
    ids, rows = np.arange(5), []
    for row in numbers:
        placed = [np.sort(rng.permutation(5)[:number]) for number in row]
        rows.append(
            [Example({"tokens": Sequence(ids, ids * 0, ids < 0)}, {"permutation_lm": (at, at + 7)}) for at in placed]
        )
    return rows


def test_targets_by_row_are_the_same_targets() -> None:
    for numbers in ([[3, 2], [], [5, 5]], [[0, 1], [4]]):
        targets = pack(many(numbers), LENGTH, 0, max_targets={"permutation_lm": 24}).targets["permutation_lm"]
        assert targets.most == max(map(sum, numbers))
        query, found = by_row(targets, LENGTH, len(numbers) * LENGTH)
        assert query.shape == (len(numbers), 8 if targets.most <= 8 else 16)
        assert found.index.tolist() == list(range(query.numel()))
        real, expected = found.counted(), targets.counted()
        assert query.view(-1)[real].tolist() == targets.index[expected].tolist()
        assert found.label[real].tolist() == targets.label[expected].tolist()
        starts = torch.arange(len(numbers)).repeat_interleave(query.shape[1]) * LENGTH
        assert torch.equal(query.view(-1)[~real], starts[~real])
        assert torch.equal(query.view(-1) // LENGTH, starts // LENGTH)


def test_targets_by_row_never_wait_for_the_device() -> None:
    """On the device `meta` there are no numbers to look at."""
    targets = pack(many([[3, 2], [4]]), LENGTH, 0, max_targets={"permutation_lm": 24}).targets["permutation_lm"]
    query, found = by_row(targets.to(torch.device("meta")), LENGTH, 2 * LENGTH)
    assert (query.shape, found.label.shape) == ((2, 8), (16,))
