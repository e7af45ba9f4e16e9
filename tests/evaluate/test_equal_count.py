"""Groups of equal count: what is equal stays together, whatever the order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from genus.evaluate.groups import equal_count


def test_different_values_are_shared_out_evenly() -> None:
    values = np.array([5, 3, 8, 1, 9, 2])
    assert [sorted(values[group].tolist()) for group in equal_count(values, 3)] == [[1, 2], [3, 5], [8, 9]]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 8), st.randoms())
def test_groups(values: list[int], groups: int, random: object) -> None:
    found = equal_count(np.array(values), groups)
    assert sorted(np.concatenate(found).tolist()) == [*range(len(values))]
    assert 1 <= len(found) <= groups
    parts = [[values[place] for place in group.tolist()] for group in found]
    assert all(max(one) < min(other) for one, other in pairwise(parts))
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = [[shuffled[place] for place in group.tolist()] for group in equal_count(np.array(shuffled), groups)]
    assert [sorted(part) for part in again] == [sorted(part) for part in parts]


def test_one_value_is_one_group() -> None:
    assert [group.tolist() for group in equal_count(np.zeros(4), 3)] == [[0, 1, 2, 3]]
