"""Adaptive token embeddings, with smaller dimensions for rarer tokens (Baevski and Auli 2018).

The vocabulary is sorted by frequency, the most frequent token first, and cut into clusters.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from genus.model.cost import ComponentCost
from genus.model.embedding import Embedding
from genus.part import Count

if TYPE_CHECKING:
    from genus.model.cost import ExampleLengths


class AdaptiveEmbedding(Embedding):
    """Adaptive embedding: √H W_c e for a token of cluster c, with e of dimension E_c = H / ratio^c.

    With a ratio of 1 there is one table of dimension H, and no W.

    Source: Baevski and Auli 2018, section 3.1.
    """

    cutoffs: tuple[Count, ...] = (20_000, 40_000, 200_000)
    """Token ids at which clusters end; those beyond the vocabulary are ignored."""
    ratio: Count = 1

    @property
    def in_words(self) -> str:
        """The embeddings that are summed, and the ratio of dimensions."""
        return f"{super().in_words}, adaptive" + (f" (each cluster 1/{self.ratio} as wide)" if self.ratio > 1 else "")

    def table(self, vocab_size: int, size: int) -> nn.Embedding:
        """Return the tables of all clusters as one token embedding."""
        return cast("nn.Embedding", Clusters(self.clusters(vocab_size), size, self.ratio))  # it has the same interface

    def cost(self, vocab_size: int, hidden: int, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of the tables and their projections W_c."""
        plain = super().cost(vocab_size, hidden, lengths)
        if self.ratio == 1:
            return plain
        maps = sum(self.widths(vocab_size, hidden)) * hidden
        return plain + ComponentCost(
            self.table_parameters(vocab_size, hidden) - vocab_size * hidden, 2.0 * maps, hidden
        )

    def table_parameters(self, vocab_size: int, hidden: int) -> int:
        """Return the number of parameters of all tables and their projections W_c."""
        if self.ratio == 1:
            return vocab_size * hidden
        widths, clusters = self.widths(vocab_size, hidden), self.clusters(vocab_size)
        return sum((end - first + hidden) * e for (first, end), e in zip(clusters, widths, strict=True))

    def widths(self, vocab_size: int, hidden: int) -> list[int]:
        """Return the dimension E_c of each cluster's table."""
        return [hidden // self.ratio**c for c in range(len(self.clusters(vocab_size)))]

    def clusters(self, vocab_size: int) -> list[tuple[int, int]]:
        """Return the range of token ids of each cluster, as (first, end)."""
        return list(pairwise([0, *(cutoff for cutoff in self.cutoffs if cutoff < vocab_size), vocab_size]))


class Clusters(nn.Module):
    """A token embedding made of one table per cluster, and projections from E_c to H."""

    def __init__(self, clusters: list[tuple[int, int]], hidden: int, ratio: int) -> None:
        super().__init__()
        self.clusters, self.scale, self.num_embeddings = clusters, math.sqrt(hidden), clusters[-1][1]
        if ratio == 1:
            self.tables, self.maps = nn.ModuleList([nn.Embedding(self.num_embeddings, hidden)]), None
        else:
            widths = [hidden // ratio**c for c in range(len(clusters))]
            tables = (nn.Embedding(end - first, e) for (first, end), e in zip(clusters, widths, strict=True))
            self.tables = nn.ModuleList(tables)
            self.maps = nn.ModuleList(nn.Linear(e, hidden, bias=False) for e in widths)

    @property
    def weight(self) -> Tensor:
        """The token embedding (V, H) in full, projected but not scaled."""
        if self.maps is None:
            return cast("Tensor", self.tables[0].weight)
        return torch.cat([into(table.weight) for table, into in zip(self.tables, self.maps, strict=True)])

    def rows(self, cluster: int) -> Tensor:
        """Return the table (tokens, E_c) of a cluster."""
        first, end = self.clusters[cluster]
        weight = cast("Tensor", self.tables[cluster if self.maps else 0].weight)
        return weight if self.maps else weight[first:end]

    def narrowed(self, hidden_MH: Tensor, cluster: int) -> Tensor:
        """Return hidden states projected to (M, E_c), to be multiplied with a cluster's table."""
        return hidden_MH if self.maps is None else hidden_MH @ cast("Tensor", self.maps[cluster].weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Return embeddings (T, H); every token is projected by every W_c, with 0 for other clusters: static shapes."""
        if self.maps is None:
            return cast("Tensor", self.tables[0](ids)) * self.scale
        parts: list[Tensor] = []
        for (first, end), table, into in zip(self.clusters, self.tables, self.maps, strict=True):
            inside = (ids >= first) & (ids < end)
            parts.append(into(table((ids - first).clamp(0, end - first - 1)) * inside[:, None]))
        return torch.stack(parts).sum(0) * self.scale
