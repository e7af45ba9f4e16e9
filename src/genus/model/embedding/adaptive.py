"""Embeddings that spend less on rare tokens (Baevski and Auli 2018).

The vocabulary is in order of frequency, the most frequent first, and cut into clusters. Legend: V vocabulary, H hidden
size, E_c width of cluster c, M targets.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from genus.model.cost import ComponentCost
from genus.model.embedding import Embedding
from genus.part import Count


class AdaptiveEmbedding(Embedding):
    """√H W_c e for a token of cluster c, whose table is E_c = H / ratio^c wide (Baevski and Auli 2018, section 3.1).

    With a ratio of 1 there is one table, as wide as the hidden states, and no W.
    """

    cutoffs: tuple[Count, ...] = (20_000, 40_000, 200_000)
    """The ids at which clusters end; those past the vocabulary are left out."""
    ratio: Count = 1

    @property
    def in_words(self) -> str:
        """What is summed, and what is spent on rare tokens."""
        return f"{super().in_words}, adaptive" + (f" (each cluster 1/{self.ratio} as wide)" if self.ratio > 1 else "")

    def table(self, vocab_size: int, size: int) -> nn.Embedding:
        """Return the tables of all clusters as one."""
        return cast("nn.Embedding", Clusters(self.clusters(vocab_size), size, self.ratio))  # it answers as one does

    def cost(self, vocab_size: int, hidden: int) -> ComponentCost:
        """Return the tables and their maps."""
        plain = super().cost(vocab_size, hidden)
        if self.ratio == 1:
            return plain
        widths = [hidden // self.ratio**c for c in range(len(self.clusters(vocab_size)))]
        tables = sum((end - first) * e for (first, end), e in zip(self.clusters(vocab_size), widths, strict=True))
        maps = sum(widths) * hidden
        return plain + ComponentCost(tables + maps - vocab_size * hidden, 2.0 * maps, hidden)

    def clusters(self, vocab_size: int) -> list[tuple[int, int]]:
        """Return the first id of each cluster, and the one past its last."""
        return list(pairwise([0, *(cutoff for cutoff in self.cutoffs if cutoff < vocab_size), vocab_size]))


class Clusters(nn.Module):
    """Tables of clusters, and maps from their widths to the hidden size, which answer as one embedding."""

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
        """The embedding (V, H) that the tables make up, before scaling."""
        if self.maps is None:
            return cast("Tensor", self.tables[0].weight)
        return torch.cat([into(table.weight) for table, into in zip(self.tables, self.maps, strict=True)])

    def rows(self, cluster: int) -> Tensor:
        """Return a cluster's table (its tokens, E_c)."""
        first, end = self.clusters[cluster]
        weight = cast("Tensor", self.tables[cluster if self.maps else 0].weight)
        return weight if self.maps else weight[first:end]

    def narrowed(self, hidden_MH: Tensor, cluster: int) -> Tensor:
        """Return states (M, E_c) that a cluster's table can be multiplied with."""
        return hidden_MH if self.maps is None else hidden_MH @ cast("Tensor", self.maps[cluster].weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Return vectors (T, H); every token passes every map, of which all but its own count 0: shapes are static."""
        if self.maps is None:
            return cast("Tensor", self.tables[0](ids)) * self.scale
        parts: list[Tensor] = []
        for (first, end), table, into in zip(self.clusters, self.tables, self.maps, strict=True):
            inside = (ids >= first) & (ids < end)
            parts.append(into(table((ids - first).clamp(0, end - first - 1)) * inside[:, None]))
        return torch.stack(parts).sum(0) * self.scale
