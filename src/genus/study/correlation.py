"""Rank correlation of a comparison with a paper's table: Spearman's, with a bootstrap interval over rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genus.evaluate.interval import Interval, bootstrap
from genus.evaluate.metrics import Spearman

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST = 4
"""Rows below which no correlation is told: of three rows, one order in six agrees by luck."""


@dataclass(frozen=True)
class Agreement:
    """How far the order of rows here is that of a paper."""

    column: str
    measurement: str
    rows: int
    rho: Interval


def agreement(
    ours: Sequence[float], theirs: Sequence[float], column: str, measurement: str, *, same_direction: bool
) -> Agreement | None:
    """Return Spearman's correlation of two columns of rows; None of fewer than four, or where one does not vary.

    The interval is the percentile bootstrap's over rows (Efron and Tibshirani 1993, section 13.3): rows are resampled,
    and a resample of one row alone counts as 0. It is wide for few rows, as it should be.

    Args:
        ours: a number for each row.
        theirs: the paper's.
        column: name of the paper's column.
        measurement: name of ours.
        same_direction: whether larger is better in both, or in neither.
    """
    a, b = np.asarray(ours, float), np.asarray(theirs, float) * (1 if same_direction else -1)
    if len(a) < LEAST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    rho = Spearman()
    found = bootstrap(lambda chosen: rho(b[chosen], a[chosen]) if np.ptp(b[chosen]) else 0.0, len(a))
    return Agreement(column, measurement, len(a), found)
