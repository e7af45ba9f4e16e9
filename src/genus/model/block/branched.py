"""Branched attention: each head passes the feed-forward network by itself (weighted Transformer; Ahmed et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from genus.model.attention.multi_head import MultiHeadAttention, MultiHeadAttentionLayer
from genus.model.block import Block
from genus.model.cost import ComponentCost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genus.model.cost import ExampleLengths
    from genus.model.norm import Norm
    from genus.model.transformer import Transformer


class Branched(Block):
    """Branched block: x = x + Σ_a alpha_a f(κ_a W_a head_a(norm(x))) over the heads a, for each attention.

    f is the feed-forward network, one for all heads of a sub-layer; there is no other one. κ and alpha each sum to 1
    over the heads. A norm stands after the last layer.

    Source: Ahmed et al. 2017, section 3, in the form of Narang et al.'s code (mesh_tensorflow, transformer_layers.py:
    BranchedSelfAttention): pre-norm, a network for self- and one for cross-attention. Deviations: κ and alpha are
    softmaxes of learned numbers, where the code projects them; W_a is computed as a product with all heads, of which
    one is not 0.
    """

    pools: ClassVar[bool] = False
    residual: ClassVar[bool] = False

    def check(self, model: Transformer) -> None:
        """Check that attention has heads of its own, and that no experts are chosen (ValueError)."""
        for name, attention in (("attention", model.attention), ("cross", model.cross)):
            if attention is not None and not isinstance(attention, MultiHeadAttention):
                kind = type(attention).__name__
                raise ValueError(f"block: branches are the heads of MultiHeadAttention, and model.{name} is {kind}")
        if model.feedforward.losses:
            raise ValueError("block: branches choose no experts; take MLP or GatedMLP as model.feedforward")

    def build(self, model: Transformer) -> nn.Module:
        """Return the module of one layer."""
        return BranchedLayer(model)

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token: of each attention sub-layer, and of the network once a head."""
        own = model.attention.cost(model.hidden, lengths["tokens"])
        joined = ComponentCost(layers=1, branches=(1 if model.cross is None else 2) * model.hidden)
        total = joined + own + self._fed(model, model.attention) + model.norm.cost(model.hidden)
        if model.cross is None:
            return total
        across = model.cross.cross_cost(model.hidden, lengths["tokens"], lengths["source"])
        return total + across + self._fed(model, model.cross) + model.norm.cost(model.hidden)

    def _fed(self, model: Transformer, attention: Any) -> ComponentCost:
        heads, _ = attention.head_sizes(model.hidden)
        return model.feedforward.cost(model.hidden).scaled(heads) + ComponentCost(2 * heads)

    def final_norm(self, model: Transformer) -> Norm:
        """Return the norm after the last layer."""
        return model.norm


class BranchedLayer(nn.Module):
    """The module of a branched block."""

    why_whole = "the weights of branches are those of all heads"

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.attention = model.attention.build(model.hidden)
        self.attention_norm = model.norm.build(model.hidden)
        self.feedforward = model.feedforward.build(model.hidden)
        self.weights = BranchWeights(model.attention.head_sizes(model.hidden)[0])
        self.cross = None if model.cross is None else model.cross.build(model.hidden)
        if model.cross is not None:
            self.cross_norm = model.norm.build(model.hidden)
            self.cross_feedforward = model.feedforward.build(model.hidden)
            self.cross_weights = BranchWeights(model.cross.head_sizes(model.hidden)[0])
        self.dropout = nn.Dropout(model.dropout)
        for branch in (self.attention, self.cross, self.feedforward):
            if branch is not None:
                branch.divisible = False  # κ and alpha are of their heads, and sizes of both networks are one choice

    def forward(self, x: Tensor, plans: Mapping[str, Any], states: Mapping[str, Any]) -> Tensor:
        """Forward pass: return (T, H)."""
        own = cast("MultiHeadAttentionLayer", self.attention)
        heads = own.attended(self.attention_norm(x), plans["attention"], states.get("attention"))
        x = x + self.dropout(self.weights(heads, own.out, self.feedforward))
        if self.cross is None:
            return x
        across = cast("MultiHeadAttentionLayer", self.cross)
        heads = across.attended(self.cross_norm(x), plans["cross"], states.get("cross"))
        return x + self.dropout(self.cross_weights(heads, across.out, self.cross_feedforward))  # type: ignore[no-any-return]


class BranchWeights(nn.Module):
    """κ and alpha of the branches of a sub-layer, which begin alike."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.kappa, self.alpha = nn.Parameter(torch.zeros(heads)), nn.Parameter(torch.zeros(heads))

    def forward(self, heads_TAD: Tensor, out: nn.Module, feedforward: nn.Module) -> Tensor:
        """Return Σ_a alpha_a f(κ_a W_a head_a) (T, H)."""
        tokens, heads, _ = heads_TAD.shape
        alone = heads_TAD[:, :, None] * torch.eye(heads, device=heads_TAD.device, dtype=heads_TAD.dtype)[:, :, None]
        branches = out(alone.flatten(2).flatten(0, 1)) * self.kappa.softmax(0).repeat(tokens)[:, None]
        fed = feedforward(branches).unflatten(0, (tokens, heads))
        return torch.einsum("tah,a->th", fed, self.alpha.softmax(0).to(fed.dtype))
