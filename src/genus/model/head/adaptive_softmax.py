"""The adaptive softmax, an output layer with smaller dimensions for rarer tokens (Grave et al. 2017)."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.errors import UsageError
from genus.model.cost import ComponentCost
from genus.model.embedding.adaptive import AdaptiveEmbedding, Clusters
from genus.model.head import Output, OutputLayer
from genus.model.head.chunked_loss import drawn, in_chunks
from genus.model.transformer import Transformer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genus.batch import Targets
    from genus.model import Model

EULER = 0.5772156649
"""Euler's constant: the limit of 1 + 1/2 + ... + 1/n minus ln n."""


class AdaptiveSoftmax(Output):
    """Adaptive softmax: log p(token) in the first cluster, log p(cluster c) + log p(token | c) in another.

    The first softmax is over the tokens of the first cluster and the other clusters. Tables and projections are tied
    with the adaptive embedding, except the projection of the first cluster (Dai et al. 2019, released code:
    proj_share_all_but_first).

    Source: Grave et al. 2017, section 4.
    """

    def build(self, model: Model, vocab_size: int) -> OutputLayer:
        """Return the module; `UsageError` if the model has no adaptive embedding."""
        embedding = _adaptive(model)
        clusters = len(embedding.clusters(vocab_size))
        return AdaptiveSoftmaxLayer(model.width, vocab_size, clusters, own_map=embedding.ratio > 1)

    def cost(self, model: Model, vocab_size: int) -> ComponentCost:
        """Return the cost per target: the first softmax, and those of rare tokens, weighted by Zipf's law."""
        embedding, width = _adaptive(model), model.width
        clusters = embedding.clusters(vocab_size)
        further, own = len(clusters) - 1, (embedding.ratio > 1) * width * width
        first = clusters[0][1] + further
        total = ComponentCost(vocab_size + further * (width + 1) + own, 2.0 * (width * first + own), width + first)
        for number, (begin, end) in enumerate(clusters[1:], 1):
            narrow, tokens = width // embedding.ratio**number, end - begin
            maps = (embedding.ratio > 1) * width * narrow
            rare = ComponentCost(flops=2.0 * (maps + narrow * tokens), activations=narrow + tokens)
            total = total + rare.scaled(zipf(begin, end, vocab_size))
        return total


class AdaptiveSoftmaxLayer(OutputLayer):
    """The module of an `AdaptiveSoftmax`."""

    by_vocabulary: ClassVar[tuple[str, ...]] = ("bias",)
    table: Clusters
    """The network's adaptive embedding module itself, set by `tie`."""

    def __init__(self, hidden: int, vocab_size: int, clusters: int, own_map: bool) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.further = nn.Linear(hidden, clusters - 1) if clusters > 1 else None
        self.map = nn.Linear(hidden, hidden, bias=False) if own_map else None

    def tie(self, embedding: nn.Module) -> None:
        """Tie tables and projections with the adaptive embedding."""
        self.table = cast("Clusters", embedding)

    def forward(self, hidden_MH: Tensor) -> Tensor:
        """Forward pass: return log-probabilities (M, V)."""
        table, first = self.table, self._first(hidden_MH)
        tokens, clusters = torch.split(first, [table.clusters[0][1], len(table.clusters) - 1], dim=1)
        rest = [self._rest(hidden_MH, c) + clusters[:, c - 1, None] for c in range(1, len(table.clusters))]
        return torch.cat([tokens, *rest], 1)

    def loss(self, hidden_MH: Tensor, targets: Targets, *, sample: bool = False) -> dict[str, Tensor]:
        """Return `loss` without `correct`, as the argmax would need all clusters; `sampled` if requested."""
        sampled = {"sampled": drawn(self(hidden_MH))} if sample else {}
        order, sizes = by_cluster(targets.on_cpu(), self.table.clusters)
        order = order.to(hidden_MH.device, non_blocking=True)
        hidden_MH, label_M = hidden_MH[order], targets.label[order]
        states, labels, first = torch.split(hidden_MH, sizes), torch.split(label_M, sizes), self.table.clusters[0][1]
        entry_M = torch.cat([labels[0], *(torch.full_like(each, first + c) for c, each in enumerate(labels[1:]))])
        (chance_M,) = in_chunks(partial(_chosen, self._first), first + len(sizes) - 1, hidden_MH, entry_M)
        within = [torch.zeros_like(chance_M[: sizes[0]])]
        for c, (begin, end) in list(enumerate(self.table.clusters))[1:]:
            of = partial(_chosen, partial(self._rest, cluster=c))
            within += in_chunks(of, end - begin, states[c], labels[c] - begin)
        loss_M = -(chance_M + torch.cat(within))
        return {"loss": (loss_M if targets.weight is None else loss_M * targets.weight[order]).sum()} | sampled

    def _first(self, hidden_MH: Tensor) -> Tensor:
        """Return log-probabilities of the first cluster's tokens and of the further clusters."""
        state = hidden_MH if self.map is None else self.map(hidden_MH)
        logits = F.linear(state, self.table.rows(0), self.bias[: self.table.clusters[0][1]])
        if self.further is not None:
            logits = torch.cat([logits, self.further(state)], -1)
        return _log_softmax(logits)

    def _rest(self, hidden_MH: Tensor, cluster: int) -> Tensor:
        """Return log-probabilities of another cluster's tokens, given the cluster."""
        first, end = self.table.clusters[cluster]
        logits = F.linear(self.table.narrowed(hidden_MH, cluster), self.table.rows(cluster), self.bias[first:end])
        return _log_softmax(logits)


def by_cluster(targets: Targets, clusters: Sequence[tuple[int, int]]) -> tuple[Tensor, list[int]]:
    """Return the indices of the real targets, those of the first cluster first, and how many are of each cluster."""
    real = targets.counted().nonzero()[:, 0]
    label = targets.label[real]
    own = torch.bucketize(label, torch.tensor([end for _, end in clusters], device=label.device), right=True)
    return real[own.argsort(stable=True)], own.bincount(minlength=len(clusters)).tolist()


def _chosen(of: Callable[[Tensor], Tensor], hidden_MH: Tensor, entry_M: Tensor) -> tuple[Tensor]:
    """Return the log-probability (M,) of each entry."""
    return (of(hidden_MH).gather(1, entry_M[:, None])[:, 0],)


def _log_softmax(logits: Tensor) -> Tensor:
    """Return log-probabilities, in float32 at least."""
    return logits.log_softmax(-1, dtype=torch.promote_types(torch.float32, logits.dtype))


def zipf(begin: int, end: int, vocab_size: int) -> float:
    """Return the share of tokens with ids from `begin` up to `end` under Zipf's law: frequencies proportional to 1 / n.

    The share is Σ 1 / n over these ids divided by that over all, with 1 + 1/2 + ... + 1/n as ln(n + 1/2) + `EULER`.
    """
    below, up, whole = (math.log(n + 0.5) + EULER for n in (begin, end, vocab_size))
    return (up - below) / whole


def _adaptive(model: Model) -> AdaptiveEmbedding:
    """Return the adaptive embedding of a model.

    Raises:
        UsageError: the model has another embedding.
    """
    if not isinstance(model, Transformer) or not isinstance(model.embedding, AdaptiveEmbedding):
        raise UsageError(
            "the adaptive softmax shares the clusters of adaptive embeddings: set model.embedding=AdaptiveEmbedding"
        )
    return model.embedding
