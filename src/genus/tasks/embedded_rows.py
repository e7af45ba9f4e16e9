"""Rows of texts that get a vector each: pairs with scores, or an anchor with its positive and negatives.

Legend: N rows, K texts of a row at most, M targets: rows, E size of a vector, Q distinct anchors, C other texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from genus.batch import IGNORE
from genus.evaluate.ranking import Ranks
from genus.tasks.groups import EncodedGroups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from genus.batch import Targets
    from genus.objectives.supervised import FineTuned
    from genus.tasks.answer import Outputs

CELLS = 1 << 24
"""Scores of queries and candidates that are in memory at once: 128 MiB in float64."""


@dataclass(frozen=True)
class EmbeddedRows(EncodedGroups):
    """Tokenized texts of rows, each a sequence of its own; the labels are scores (N,), or numbers of texts (N, K)."""

    def answer(self, outputs: dict[str, Tensor], targets: Targets) -> Tensor:
        """Return the vectors (M, K E) of the texts of each row."""
        return outputs["vectors"].flatten(1)

    def vectors(self, outputs: Outputs) -> NDArray[np.float32]:
        """Return the vectors (N, K, E)."""
        return outputs.values.reshape(len(self), self.most, -1)

    def for_metrics(self, objective: FineTuned, outputs: Outputs, judges: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return scores and cosines of pairs; or, for rankings, those of all distinct texts of a table's rows.

        Anchors are queries; candidates are all positives and negatives, without those that have the query's own text. A
        query's positives in all rows are relevant to it.
        """
        vectors_NKE = self.vectors(outputs)
        if self.labels.ndim == 1:
            known = ~np.isnan(self.labels)
            return self.labels[known].astype(np.float64), cosines(vectors_NKE)[known]
        first: dict[int, tuple[int, int]] = {}
        for row, column in np.argwhere(self.labels[:, 1:] != IGNORE).tolist():
            first.setdefault(int(self.labels[row, column + 1]), (row, column + 1))
        candidates = {text: number for number, text in enumerate(first)}
        queries, relevant = dict[int, int](), dict[int, set[int]]()
        for row, (anchor, positive) in enumerate(self.labels[:, :2].tolist()):
            queries.setdefault(anchor, row)
            relevant.setdefault(anchor, set()).add(candidates[positive])
        found = ranked(
            torch.from_numpy(vectors_NKE[np.array([*queries.values()]), 0]),
            torch.from_numpy(vectors_NKE[tuple(np.array([*first.values()]).T)]),
            [sorted(relevant[anchor] - {candidates.get(anchor, -1)}) for anchor in queries],
            [candidates.get(anchor) for anchor in queries],
        )
        return found.counts, found.of_relevant()

    def answers(self, objective: FineTuned, outputs: Outputs) -> list[tuple[Any, Any]]:
        """Return the cosine of the first two texts of each row."""
        return [objective.explain(row) for row in cosines(self.vectors(outputs))[:, None]]


def cosines(vectors_NKE: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine (N,) of the first two vectors of each row."""
    one, other = (F.normalize(torch.from_numpy(vectors_NKE[:, side]).double(), dim=-1) for side in (0, 1))
    return np.asarray((one * other).sum(-1).numpy())


def ranked(
    queries_QE: Tensor, candidates_CE: Tensor, relevant: Sequence[Sequence[int]], own: Sequence[int | None]
) -> Ranks:
    """Return the ranks of relevant candidates among all, by the cosine; a query's own text is no candidate."""
    unit_QE, unit_CE = (F.normalize(side.double(), dim=-1) for side in (queries_QE, candidates_CE))
    found = Ranks([unit_CE[[*few]] @ query_E for query_E, few in zip(unit_QE, relevant, strict=True)])
    count(found, unit_QE, unit_CE, {
        query: [*few, *([] if mine is None else [mine])]
        for query, (few, mine) in enumerate(zip(relevant, own, strict=True))
    })  # fmt: skip
    return found


def count(found: Ranks, unit_QE: Tensor, unit_CE: Tensor, apart: Mapping[int, Sequence[int]]) -> None:
    """Count candidates in blocks, given by query those that are left out as they are relevant, or its own text."""
    size = max(1, CELLS // max(1, len(unit_QE)))
    pairs = torch.tensor([(query, one) for query, few in apart.items() for one in few], dtype=torch.int64).view(-1, 2)
    for start in range(0, len(unit_CE), size):
        scores_QC = unit_QE @ unit_CE[start : start + size].T
        here = pairs[(pairs[:, 1] >= start) & (pairs[:, 1] < start + size)].to(scores_QC.device)
        scores_QC[here[:, 0], here[:, 1] - start] = -torch.inf
        found.add(scores_QC)
