"""The adaptive softmax, an output layer with smaller dimensions for rarer tokens (Grave et al. 2017)."""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.errors import UsageError
from genus.model.cost import ComponentCost
from genus.model.embedding.adaptive import AdaptiveEmbedding, Clusters
from genus.model.encoder_decoder import EncoderDecoder
from genus.model.head import Output, OutputLayer
from genus.model.head.chunked_loss import drawn, in_chunks
from genus.model.transformer import Transformer
from genus.part import Count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genus.batch import Targets
    from genus.model import Model
    from genus.model.initialization import Initialization

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


class UntiedAdaptiveSoftmax(Output):
    """Adaptive softmax with matrices of its own: cluster c has vectors of H / ratio^c dimensions, and a map to them.

    With a ratio of 1 there is no map ("without projection").

    Source: Grave et al. 2017, section 4 (PyTorch's AdaptiveLogSoftmaxWithLoss).
    """

    cutoffs: tuple[Count, ...] = (20_000, 40_000, 200_000)
    """Token ids at which clusters end; those beyond the vocabulary are ignored."""
    ratio: Count = 4
    """By which dimensions shrink from cluster to cluster (PyTorch: div_value)."""

    def clusters(self, vocab_size: int) -> list[tuple[int, int]]:
        """Return the range of token ids of each cluster, as (first, end)."""
        return list(pairwise([0, *(cutoff for cutoff in self.cutoffs if cutoff < vocab_size), vocab_size]))

    def build(self, model: Model, vocab_size: int) -> OutputLayer:
        """Return the module."""
        return UntiedAdaptiveSoftmaxLayer(self, model.width, vocab_size)

    def cost(self, model: Model, vocab_size: int) -> ComponentCost:
        """Return the cost per target: the first softmax, and those of rare tokens, weighted by Zipf's law."""
        width, (first, *others) = model.width, self.clusters(vocab_size)
        number = first[1] + len(others)
        total = ComponentCost(width * number, 2.0 * width * number, width + number)
        for place, (begin, end) in enumerate(others, 1):
            narrow, tokens = width // self.ratio**place, end - begin
            weights = narrow * tokens + (self.ratio > 1) * width * narrow
            rare = ComponentCost(weights, 2.0 * weights, narrow + tokens)
            total = total + rare.scaled(zipf(begin, end, vocab_size))
        return total


class ClusteredLayer(OutputLayer):
    """The module of a softmax over clusters of tokens."""

    @property
    @abstractmethod
    def clusters(self) -> list[tuple[int, int]]:
        """The range of token ids of each cluster, as (first, end)."""

    @abstractmethod
    def _first(self, hidden_MH: Tensor) -> Tensor:
        """Return log-probabilities of the first cluster's tokens and of the further clusters."""

    @abstractmethod
    def _rest(self, hidden_MH: Tensor, cluster: int) -> Tensor:
        """Return log-probabilities of another cluster's tokens, given the cluster."""

    def forward(self, hidden_MH: Tensor) -> Tensor:
        """Forward pass: return log-probabilities (M, V)."""
        first, number = self._first(hidden_MH), len(self.clusters)
        tokens, clusters = torch.split(first, [self.clusters[0][1], number - 1], dim=1)
        rest = [self._rest(hidden_MH, c) + clusters[:, c - 1, None] for c in range(1, number)]
        return torch.cat([tokens, *rest], 1)

    def loss(self, hidden_MH: Tensor, targets: Targets, *, sample: bool = False) -> dict[str, Tensor]:
        """Return `loss` without `correct`, as the argmax would need all clusters; `sampled` if requested."""
        sampled = {"sampled": drawn(self(hidden_MH))} if sample else {}
        order, sizes = by_cluster(targets.on_cpu(), self.clusters)
        order = order.to(hidden_MH.device, non_blocking=True)
        hidden_MH, label_M = hidden_MH[order], targets.label[order]
        states, labels, first = torch.split(hidden_MH, sizes), torch.split(label_M, sizes), self.clusters[0][1]
        entry_M = torch.cat([labels[0], *(torch.full_like(each, first + c) for c, each in enumerate(labels[1:]))])
        (chance_M,) = in_chunks(partial(_chosen, self._first), first + len(sizes) - 1, hidden_MH, entry_M)
        within = [torch.zeros_like(chance_M[: sizes[0]])]
        for c, (begin, end) in list(enumerate(self.clusters))[1:]:
            of = partial(_chosen, partial(self._rest, cluster=c))
            within += in_chunks(of, end - begin, states[c], labels[c] - begin)
        loss_M = -(chance_M + torch.cat(within))
        return {"loss": (loss_M if targets.weight is None else loss_M * targets.weight[order]).sum()} | sampled


class UntiedAdaptiveSoftmaxLayer(ClusteredLayer):
    """The module of an `UntiedAdaptiveSoftmax`."""

    def __init__(self, choice: UntiedAdaptiveSoftmax, hidden: int, vocab_size: int) -> None:
        super().__init__()
        self.ends = choice.clusters(vocab_size)
        narrow = [(hidden // choice.ratio**c, end - begin) for c, (begin, end) in enumerate(self.ends)][1:]
        self.first = nn.Linear(hidden, self.ends[0][1] + len(narrow), bias=False)
        self.maps = nn.ModuleList(nn.Linear(hidden, e, bias=False) for e, _ in narrow if choice.ratio > 1)
        self.tables = nn.ModuleList(nn.Linear(e, tokens, bias=False) for e, tokens in narrow)

    @property
    def clusters(self) -> list[tuple[int, int]]:
        """The range of token ids of each cluster, as (first, end)."""
        return self.ends

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize what gives logits as an output layer."""
        for table in (self.first, *self.tables):
            initialization.draw(cast("Tensor", table.weight), "output")

    def _first(self, hidden_MH: Tensor) -> Tensor:
        return _log_softmax(self.first(hidden_MH))

    def _rest(self, hidden_MH: Tensor, cluster: int) -> Tensor:
        narrowed = self.maps[cluster - 1](hidden_MH) if len(self.maps) else hidden_MH
        return _log_softmax(self.tables[cluster - 1](narrowed))


class AdaptiveSoftmaxLayer(ClusteredLayer):
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

    @property
    def clusters(self) -> list[tuple[int, int]]:
        """The range of token ids of each cluster, as (first, end)."""
        return self.table.clusters

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
    side = model.decoder if isinstance(model, EncoderDecoder) else model
    if not isinstance(side, Transformer) or not isinstance(side.embedding, AdaptiveEmbedding):
        raise UsageError(
            "the adaptive softmax shares the clusters of adaptive embeddings: set model.embedding=AdaptiveEmbedding"
        )
    return side.embedding
