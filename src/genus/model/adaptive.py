"""Embeddings and softmax that spend less on rare tokens (Baevski and Auli 2018; Grave et al. 2017).

The vocabulary is in order of frequency, the most frequent first, and cut into clusters. Legend: V vocabulary, H hidden
size, E_c width of cluster c, M targets.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.batch import IGNORE
from genus.errors import UsageError
from genus.model.demand import Demand
from genus.model.embed import Embedding
from genus.model.encoder import Encoder
from genus.model.output import Output, OutputLayer
from genus.part import Count

if TYPE_CHECKING:
    from genus.model import Model

EULER = 0.5772156649
"""What the sum of 1 / n up to N comes to exceed ln N by."""


class Adaptive(Embedding):
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

    def demand(self, vocab_size: int, hidden: int) -> Demand:
        """Return the tables and their maps."""
        plain = super().demand(vocab_size, hidden)
        if self.ratio == 1:
            return plain
        widths = [hidden // self.ratio**c for c in range(len(self.clusters(vocab_size)))]
        tables = sum((end - first) * e for (first, end), e in zip(self.clusters(vocab_size), widths, strict=True))
        maps = sum(widths) * hidden
        return plain + Demand(tables + maps - vocab_size * hidden, 2.0 * maps, hidden)

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


class AdaptiveSoftmax(Output):
    """log p(token) of the first cluster; of another, log p(cluster c) + log p(token | c).

    Tokens and further clusters share the first softmax. Tables and maps are those of the adaptive embedding, but for
    the map of the first cluster (Dai et al. 2019, released code: proj_share_all_but_first).

    Source: Grave et al. 2017, section 4.
    """

    def build(self, model: Model, vocab_size: int) -> OutputLayer:
        """Return the layer."""
        embedding = _adaptive(model)
        clusters = len(embedding.clusters(vocab_size))
        return AdaptiveSoftmaxLayer(model.width, vocab_size, clusters, own_map=embedding.ratio > 1)

    def demand(self, model: Model, vocab_size: int) -> Demand:
        """Return the first softmax, and those of rare tokens on as many targets as Zipf's law gives them."""
        embedding, width = _adaptive(model), model.width
        clusters = embedding.clusters(vocab_size)
        further, own = len(clusters) - 1, (embedding.ratio > 1) * width * width
        first = clusters[0][1] + further
        total = Demand(vocab_size + further * (width + 1) + own, 2.0 * (width * first + own), width + first)
        for number, (begin, end) in enumerate(clusters[1:], 1):
            narrow, tokens = width // embedding.ratio**number, end - begin
            maps = (embedding.ratio > 1) * width * narrow
            rare = Demand(flops=2.0 * (maps + narrow * tokens), kept=narrow + tokens)
            total = total + rare.on(zipf(begin, end, vocab_size))
        return total


class AdaptiveSoftmaxLayer(OutputLayer):
    """The adaptive softmax at work."""

    def __init__(self, hidden: int, vocab_size: int, clusters: int, own_map: bool) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.further = nn.Linear(hidden, clusters - 1) if clusters > 1 else None
        self.map = nn.Linear(hidden, hidden, bias=False) if own_map else None

    def forward(self, hidden_MH: Tensor, embedding: nn.Embedding) -> Tensor:
        """Return log-probabilities (M, V)."""
        table = cast("Clusters", embedding)
        first = self._first(hidden_MH, table)
        tokens, clusters = torch.split(first, [table.clusters[0][1], len(table.clusters) - 1], dim=1)
        rest = [self._rest(hidden_MH, table, c) + clusters[:, c - 1, None] for c in range(1, len(table.clusters))]
        return torch.cat([tokens, *rest], 1)

    def loss(self, hidden_MH: Tensor, embedding: nn.Embedding, label_M: Tensor) -> dict[str, Tensor]:
        """Return `loss` alone: which token is likeliest is not known without all clusters."""
        table, real = cast("Clusters", embedding), label_M != IGNORE
        hidden_MH, label_M = hidden_MH[real], label_M[real]
        first, shortlist = self._first(hidden_MH, table), table.clusters[0][1]
        entry = label_M
        total = first.new_zeros(())
        for c, (begin, end) in enumerate(table.clusters[1:], 1):
            inside = (label_M >= begin) & (label_M < end)
            entry = torch.where(inside, shortlist + c - 1, entry)
            total = total - self._rest(hidden_MH[inside], table, c).gather(1, label_M[inside, None] - begin).sum()
        return {"loss": total - first.gather(1, entry[:, None]).sum()}

    def _first(self, hidden_MH: Tensor, table: Clusters) -> Tensor:
        """Return log-probabilities of the first cluster's tokens and of the further clusters."""
        weight, bias = table.rows(0), self.bias[: table.clusters[0][1]]
        if self.further is not None:
            weight, bias = torch.cat([weight, self.further.weight]), torch.cat([bias, self.further.bias])
        state = hidden_MH if self.map is None else self.map(hidden_MH)
        return F.linear(state, weight, bias).float().log_softmax(-1)

    def _rest(self, hidden_MH: Tensor, table: Clusters, cluster: int) -> Tensor:
        """Return log-probabilities of a further cluster's tokens, given the cluster."""
        first, end = table.clusters[cluster]
        logits = F.linear(table.narrowed(hidden_MH, cluster), table.rows(cluster), self.bias[first:end])
        return logits.float().log_softmax(-1)


def zipf(begin: int, end: int, vocab_size: int) -> float:
    """Return the share of tokens with ids from `begin` up to `end`, if the n-th most frequent has 1 / n of the first.

    Σ 1 / n over them by that over all, where Σ 1 / n up to N is ln(N + 1/2) + `EULER`.
    """
    below, up, whole = (math.log(n + 0.5) + EULER for n in (begin, end, vocab_size))
    return (up - below) / whole


def _adaptive(model: Model) -> Adaptive:
    """Return the adaptive embedding of a model.

    Raises:
        UsageError: it has another one.
    """
    if not isinstance(model, Encoder) or not isinstance(model.embedding, Adaptive):
        raise UsageError(
            "the adaptive softmax shares the clusters of adaptive embeddings: set model.embedding=Adaptive"
        )
    return model.embedding
