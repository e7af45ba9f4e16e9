"""Groups of examples by a number of each, such as a length: as many in each group as equal numbers allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def equal_count(values_N: NDArray[Any], groups: int) -> list[NDArray[np.int64]]:
    """Return the indices of the examples of each group, ascending by value; equal values are in one group.

    A group ends at the first place at or after k N / groups where the value changes, so that there may be fewer groups,
    and the order of the examples changes nothing.
    """
    order = np.argsort(values_N, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values_N[order])) + 1, len(order))
    wanted = np.arange(1, groups + 1) * len(order) / groups
    cuts = np.unique(ends[np.searchsorted(ends, wanted).clip(max=len(ends) - 1)])
    return [np.sort(part) for part in np.split(order, cuts[:-1]) if len(part)]
