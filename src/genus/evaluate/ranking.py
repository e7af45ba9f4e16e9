"""Ranking metrics: where what is relevant to a query stands among all candidates, sorted by their scores.

Legend: Q queries, R the most relevant candidates of a query, C candidates.

The truth (Q,) is how many candidates are relevant to each query; predictions (Q, R) are the ranks of these, from 1,
ascending, infinite where there are fewer. A query without a relevant candidate is left out of every mean. Of equal
scores, candidates that are not relevant come first: who gives all the same score gains nothing by their order.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from genus.evaluate.metrics import Metric
from genus.part import Count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

EQUAL = 1e-9
"""Scores, in float64, that differ by no more are equal: sums in another order differ by 1e-15."""


class RankingMetric(Metric):
    """A metric of the ranks of relevant candidates, the mean over queries."""

    judges: ClassVar[str] = "rankings"

    k: Count = 10
    """Number of candidates that are looked at."""

    @property
    def name(self) -> str:
        """The usual name, such as `ndcg@10`."""
        return f"{type(self).__name__.lower()}@{self.k}"

    def defined(self, truth: NDArray[Any]) -> bool:
        """Return whether any query has a relevant candidate."""
        return bool((truth > 0).any())

    def signature(self, truth: NDArray[Any]) -> str:
        """Return how many queries have no relevant candidate, and so are left out."""
        without = int((truth == 0).sum())
        return f"without {without:,} of {len(truth):,} queries, to which nothing is relevant" if without else ""

    def __call__(self, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the mean over the queries (Q,) to which something is relevant."""
        asked = truth > 0
        if not asked.any():
            return 0.0
        return float(self.of(truth[asked], predicted[asked].astype(np.float64)).mean())

    @abstractmethod
    def of(self, relevant_Q: NDArray[Any], ranks_QR: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the metric of each query."""


class NDCG(RankingMetric):
    """Normalized discounted cumulative gain of binary relevance: Σ 1 / log2(1 + rank), divided by its largest value.

    Source: Järvelin and Kekäläinen 2002 (doi:10.1145/582415.582418), with the discount of trec_eval.
    """

    def of(self, relevant_Q: NDArray[Any], ranks_QR: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the gain of each query."""
        gains = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, self.k + 2)))])
        found_QR = np.where(ranks_QR <= self.k, 1 / np.log2(1 + ranks_QR), 0.0)
        return np.asarray(found_QR.sum(1) / gains[np.minimum(relevant_Q, self.k)])


class MRR(RankingMetric):
    """Mean reciprocal rank: 1 / rank of the first relevant candidate; 0 past rank k."""

    def of(self, relevant_Q: NDArray[Any], ranks_QR: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the reciprocal rank of each query."""
        return np.where(ranks_QR[:, 0] <= self.k, 1 / ranks_QR[:, 0], 0.0)


class Recall(RankingMetric):
    """Recall: the fraction of the relevant candidates among the first k."""

    def of(self, relevant_Q: NDArray[Any], ranks_QR: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the fraction of each query."""
        return np.asarray((ranks_QR <= self.k).sum(1) / relevant_Q)


class MAP(RankingMetric):
    """Mean average precision: the mean of precision at the relevant ones of the first k, all others count as 0."""

    k: Count = 100

    def of(self, relevant_Q: NDArray[Any], ranks_QR: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the average precision of each query."""
        precision_QR = np.where(ranks_QR <= self.k, np.arange(1, ranks_QR.shape[1] + 1) / ranks_QR, 0.0)
        return np.asarray(precision_QR.sum(1) / np.minimum(relevant_Q, self.k))


class Ranks:
    """Ranks of relevant candidates, counted block by block of the others, so that no ranking is held in memory."""

    def __init__(self, relevant: Sequence[Tensor]) -> None:
        """Begin with no other candidate.

        Args:
            relevant: the float64 scores of what is relevant to each query.
        """
        self.counts = np.array([len(scores) for scores in relevant], np.int64)
        most = max(1, int(self.counts.max(initial=1)))
        above = torch.full((len(relevant), most), torch.inf, dtype=torch.float64)
        for row, scores in zip(above, relevant, strict=True):
            row[: len(scores)] = scores.double().cpu().sort().values - EQUAL
        self.ascending_QR, self.passed_QR = above, torch.zeros(len(relevant), most + 1, dtype=torch.int64)

    def add(self, scores_QC: Tensor) -> None:
        """Count candidates that are relevant to no query but where their score is -inf, by which they are left out."""
        self.ascending_QR = self.ascending_QR.to(scores_QC.device)
        passed_QC = torch.searchsorted(self.ascending_QR, scores_QC.double().contiguous(), right=True)
        counts = torch.zeros_like(self.passed_QR, device=scores_QC.device)
        self.passed_QR += counts.scatter_add_(1, passed_QC, torch.ones_like(passed_QC)).cpu()

    def of_relevant(self) -> NDArray[np.float64]:
        """Return the ranks (Q, R) of what is relevant, infinite where there is less."""
        above_QR = self.passed_QR[:, 1:].flip(1).cumsum(1).flip(1).numpy()  # others that score at least as high
        ranks = np.full(above_QR.shape, np.inf)
        for row, above, number in zip(ranks, above_QR, self.counts.tolist(), strict=True):
            row[:number] = above[:number][::-1] + np.arange(1, number + 1)
        return ranks


def ranks_within(scores: NDArray[Any], relevant: NDArray[Any], groups: Sequence[object]) -> tuple[Any, Any]:
    """Return truth (Q,) and ranks (Q, R) of candidates (C,) that are sorted within their groups, one for each query."""
    places: dict[object, list[int]] = {}
    for place, group in enumerate(groups):
        places.setdefault(group, []).append(place)
    wide = torch.from_numpy(scores.astype(np.float64))
    own = [(wide[among], torch.from_numpy(relevant[among].astype(np.bool_))) for among in places.values()]
    found = Ranks([each[told] for each, told in own])
    most = max((len(each) for each, _ in own), default=0)
    others = torch.full((len(own), most), -torch.inf, dtype=torch.float64)
    for row, (each, told) in zip(others, own, strict=True):
        row[: len(each)] = each.masked_fill(told, -torch.inf)
    found.add(others)
    return found.counts, found.of_relevant()
