"""The layers of the Evolved Transformer (So et al. 2019): attention beside gates and convolutions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block import Block
from genus.model.cost import ComponentCost, linear_cost
from genus.model.feedforward import routed
from genus.model.neighbors import Neighbors, SeparableConvolution

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genus.model.attention.plan import Context
    from genus.model.cost import ExampleLengths
    from genus.model.norm import Norm
    from genus.model.transformer import Transformer


class Evolved(Block):
    """The layer of the Evolved Transformer: that of its encoder, or in a causal model that of its decoder.

    Each step is x = x + f(norm(x)). Encoder: a gated linear unit; ReLU(W x), of 4 H, plus ReLU of a convolution of 3
    tokens to H / 2, normalized, then a separable convolution of 9 to H / 2; self-attention; the feed-forward network.
    Decoder: self-attention of twice as many heads plus cross-attention; ReLU of a separable convolution of 11 to 2 H
    plus one of 7 to H / 2, normalized, then one of 7 to H; self-attention; cross-attention; the feed-forward network.
    Narrower branches are filled up with 0. The decoder's convolutions look back only, and none leaves its sequence. A
    norm stands after the last layer. The feed-forward network is the model's: in the paper it has 4 H units, with ReLU
    in the encoder and Swish in the decoder.

    Source: So et al. 2019, figure 3; tensor2tensor, models/evolved_transformer.py (pre-norm, sizes, order). Deviations:
    the decoder's first attention has twice the heads of the others, as in mesh_tensorflow, evolved_transformer.py,
    where tensor2tensor has 16 at least; a norm within the decoder's feed-forward network is left out.
    """

    caches: ClassVar[bool] = False

    def check(self, model: Transformer) -> None:
        """Check that the sizes are even, and that heads can be doubled (ValueError)."""
        if model.hidden % 2:
            raise ValueError(f"block: half of a hidden size of {model.hidden} is no size; take an even one")
        if not model.causal:
            return
        if model.embedding.position.biases or model.embedding.position.rotates:
            raise ValueError("block: the evolved decoder's first attention has twice as many heads as the others, for "
                             "which no bias and no rotation of positions fits; take Sinusoidal")  # fmt: skip
        if not isinstance(model.attention, MultiHeadAttention):
            raise ValueError(f"block: the evolved decoder doubles the heads of MultiHeadAttention, and model.attention "
                             f"is {type(model.attention).__name__}")  # fmt: skip
        wide_attention(model).check(model.hidden)

    def build(self, model: Transformer) -> nn.Module:
        """Return the module of one layer."""
        return EvolvedDecoderLayer(model) if model.causal else EvolvedEncoderLayer(model)

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of all steps."""
        hidden, norm, tokens = model.hidden, model.norm, lengths["tokens"]
        steps = 4 + (0 if model.cross is None else 2)
        common = ComponentCost(layers=1, branches=steps * hidden)
        common = common + model.attention.cost(hidden, tokens) + model.feedforward.cost(hidden)
        if not model.causal:
            wide = linear_cost(hidden, 4 * hidden) + linear_cost(3 * hidden, hidden // 2)
            inner = wide + norm.cost(4 * hidden) + separable_cost(4 * hidden, hidden // 2, 9)
            gates = linear_cost(hidden, hidden).repeated(2)
            return common + inner + gates + norm.cost(hidden).repeated(4)
        first = wide_attention(model).cost(hidden, tokens)
        wide = separable_cost(hidden, 2 * hidden, 11) + separable_cost(hidden, hidden // 2, 7)
        inner = wide + norm.cost(2 * hidden) + separable_cost(2 * hidden, hidden, 7)
        total = common + first + inner + norm.cost(hidden).repeated(4)
        if model.cross is None:
            return total
        return total + model.cross.cross_cost(hidden, tokens, lengths["source"]).repeated(2) + norm.cost(hidden)

    def final_norm(self, model: Transformer) -> Norm:
        """Return the norm after the last layer."""
        return model.norm


def separable_cost(inputs: int, outputs: int, offsets: int) -> ComponentCost:
    """Return the cost per token of a separable convolution."""
    return ComponentCost(inputs * offsets, 2.0 * inputs * offsets, inputs) + linear_cost(inputs, outputs)


def wide_attention(model: Transformer) -> MultiHeadAttention:
    """Return the self-attention with twice as many heads, each half as large."""
    own = model.attention
    assert isinstance(own, MultiHeadAttention)
    groups = None if own.key_heads is None else 2 * own.key_heads
    return replace(own, heads=2 * own.heads, key_heads=groups, size=None if own.size is None else own.size // 2)


class EvolvedLayer(nn.Module):
    """What the layers of encoder and decoder have in common: a norm for each step, and the window of convolutions."""

    window: ClassVar[tuple[int, int]]
    """The first and the last offset of the widest convolution."""

    def __init__(self, model: Transformer, steps: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(model.norm.build(model.hidden) for _ in range(steps))
        self.attention = model.attention.build(model.hidden)
        self.cross = None if model.cross is None else model.cross.build(model.hidden)
        self.feedforward = model.feedforward.build(model.hidden)
        self.dropout, self.hidden = nn.Dropout(model.dropout), model.hidden

    def asked(self, context: Context) -> dict[str, Any]:
        """Return the neighbors that convolutions read, as `neighbors`."""
        return {"neighbors": Neighbors.of(context.packed, *self.window)}

    def within(self, plans: Mapping[str, Any], first: int, last: int) -> Neighbors:
        """Return the neighbors of a narrower window."""
        whole: Neighbors = plans["neighbors"]
        return Neighbors(first, whole.valid[first - whole.first : last - whole.first + 1])


class EvolvedEncoderLayer(EvolvedLayer):
    """The module of a layer of the Evolved Transformer's encoder."""

    window: ClassVar[tuple[int, int]] = (-4, 4)

    def __init__(self, model: Transformer) -> None:
        super().__init__(model, 4)
        hidden = model.hidden
        self.values, self.gates = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.left, self.right = nn.Linear(hidden, 4 * hidden), nn.Linear(3 * hidden, hidden // 2)
        self.inner_norm = model.norm.build(4 * hidden)
        self.separable = SeparableConvolution(4 * hidden, hidden // 2, 9)

    def forward(self, x: Tensor, plans: Mapping[str, Any], states: Mapping[str, Any]) -> Tensor:
        """Forward pass: return (T, H)."""
        y = self.norms[0](x)
        x = x + self.dropout(self.values(y) * self.gates(y).sigmoid())
        x = x + self.dropout(self.convolved(self.norms[1](x), plans))
        x = x + self.dropout(self.attention(self.norms[2](x), plans["attention"], states.get("attention")))
        if (pool := plans.get("pool")) is not None:
            x = pool(x)
        return x + self.dropout(routed(self.feedforward, plans)(self.norms[3](x)))  # type: ignore[no-any-return]

    def convolved(self, y: Tensor, plans: Mapping[str, Any]) -> Tensor:
        """Return the branches of convolutions (T, H)."""
        left = self.dropout(F.relu(self.left(y)))
        right = self.dropout(F.relu(self.right(self.within(plans, -1, 1).gathered(y))))
        both = self.inner_norm((left + filled(right, 4 * self.hidden)).to(y.dtype))
        return filled(self.separable(both, self.within(plans, -4, 4)), self.hidden)


class EvolvedDecoderLayer(EvolvedLayer):
    """The module of a layer of the Evolved Transformer's decoder."""

    window: ClassVar[tuple[int, int]] = (-10, 0)

    def __init__(self, model: Transformer) -> None:
        super().__init__(model, 4 if model.cross is None else 5)
        hidden = model.hidden
        self.wide_attention = wide_attention(model).build(hidden)
        self.first_cross = None if model.cross is None else model.cross.build(hidden)
        self.left = SeparableConvolution(hidden, 2 * hidden, 11)
        self.right = SeparableConvolution(hidden, hidden // 2, 7)
        self.inner_norm = model.norm.build(2 * hidden)
        self.separable = SeparableConvolution(2 * hidden, hidden, 7)
        for branch in (self.attention, self.wide_attention, self.cross, self.first_cross):
            if branch is not None:
                branch.divisible = False  # the heads of all of them are those of two choices

    def forward(self, x: Tensor, plans: Mapping[str, Any], states: Mapping[str, Any]) -> Tensor:
        """Forward pass: return (T, H). Both self-attentions share a plan, which depends on no number of heads."""
        y = self.norms[0](x)
        x = x + self.dropout(self.wide_attention(y, plans["attention"]))
        if self.first_cross is not None:
            x = x + self.dropout(self.first_cross(y, plans["cross"]))
        x = x + self.dropout(self.convolved(self.norms[1](x), plans))
        x = x + self.dropout(self.attention(self.norms[2](x), plans["attention"]))
        if self.cross is not None:
            x = x + self.dropout(self.cross(self.norms[4](x), plans["cross"]))
        return x + self.dropout(routed(self.feedforward, plans)(self.norms[3](x)))  # type: ignore[no-any-return]

    def convolved(self, y: Tensor, plans: Mapping[str, Any]) -> Tensor:
        """Return the branches of convolutions (T, H)."""
        left = self.dropout(F.relu(self.left(y, self.within(plans, -10, 0))))
        right = self.dropout(self.right(y, self.within(plans, -6, 0)))
        both = self.inner_norm((left + filled(right, 2 * self.hidden)).to(y.dtype))
        return self.separable(both, self.within(plans, -6, 0))  # type: ignore[no-any-return]


def filled(x: Tensor, size: int) -> Tensor:
    """Return vectors (T, size) that end with 0 where x has fewer dimensions."""
    return F.pad(x, (0, size - x.shape[-1]))
