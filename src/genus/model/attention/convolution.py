"""Convolutions in place of self-attention: lightweight and dynamic ones (Wu et al. 2019).

A convolution reads the tokens of its own sequence alone: beyond its ends there is 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.model.attention import Attention, AttentionLayer
from genus.model.attention.masks import AttentionMask, Full
from genus.model.cost import ComponentCost, linear_cost
from genus.model.neighbors import Neighbors
from genus.part import Count, Fraction

if TYPE_CHECKING:
    from genus.model.attention.plan import Context
    from genus.model.initialization import Initialization

WIDTHS = (3, 7, 15, 31)
"""Widths of the kernels of the first layers; further layers have the last (fairseq, models/lightconv.py)."""


class Convolution(Attention, ABC):
    """A convolution as the sub-layer of self-attention: W_out conv(W_value x * sigmoid(W_gate x)).

    The H channels are those of A heads; channels of a head share a kernel, whose numbers are a softmax. Under a causal
    mask it reads the tokens before. It keeps no keys and values: decoders read the whole text again for each token.

    Source: Wu et al. 2019, sections 3 and 4; fairseq, models/lightconv.py.
    """

    heads: Count
    bias: bool = True
    """Whether the linear maps have a bias."""
    dropout: Fraction = 0.1
    """Dropout probability of the kernels' numbers, in training (section 3: DropConnect)."""
    mask: AttentionMask = Full()
    """`Full`, for neighbors on both sides, or `Causal`, for those before."""
    widths: tuple[Count, ...] = WIDTHS
    """Tokens that a kernel reads, by layer; further layers have the last."""

    @property
    def in_words(self) -> str:
        """The kind, its width, the number of heads, and the mask."""
        width = " to ".join(str(width) for width in dict.fromkeys((self.widths[0], self.widths[-1])))
        return ", ".join(
            part for part in (f"{super().in_words} of {width}", f"{self.heads} heads", self.mask.in_words) if part
        )

    def __post_init__(self) -> None:
        """Check mask and widths (ValueError)."""
        if self.mask.window not in ((-1, -1), (-1, 0)):
            kind = type(self.mask).__name__
            raise ValueError(f"attention.mask: a convolution reads its neighbors, on both sides (Full) or before "
                             f"(Causal), not {kind}")  # fmt: skip
        if not self.widths or (self.mask.full and any(width % 2 == 0 for width in self.widths)):
            raise ValueError(
                f"attention.widths: expected odd numbers, as many tokens on both sides, got {list(self.widths)}"
            )

    def of_layer(self, number: int) -> Convolution:
        """Return the convolution of layer `number`, of one width."""
        own = (self.widths[min(number, len(self.widths) - 1)],)
        return self if own == self.widths else replace(self, widths=own)

    def check(self, hidden: int) -> None:
        """Check that the heads divide the hidden size (ValueError)."""
        if hidden % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a hidden size of {hidden}")

    @property
    def offsets(self) -> tuple[int, int]:
        """The first and the last offset of the neighbors of the first width."""
        (width, *_) = self.widths
        return (1 - width, 0) if self.mask.causal else (-(width // 2), width // 2)

    @abstractmethod
    def kernels(self, hidden: int) -> ComponentCost:
        """Return the cost per token of making the kernels."""

    def cost(self, hidden: int, length: int) -> ComponentCost:
        """Return the cost of the linear maps and the convolution, whatever the length."""
        maps = linear_cost(hidden, 2 * hidden, self.bias) + linear_cost(hidden, hidden, self.bias)
        products = ComponentCost(flops=2.0 * self.widths[0] * hidden, activations=3 * hidden)
        return maps + products + self.kernels(hidden)


class LightweightConvolution(Convolution):
    """Lightweight convolution: the kernels are parameters, softmax(w) of each head (section 3)."""

    def build(self, hidden: int) -> AttentionLayer:
        """Return the module for hidden states of size H = `hidden`."""
        return LightweightLayer(self, hidden)

    def kernels(self, hidden: int) -> ComponentCost:
        """Return the parameters of the kernels."""
        return ComponentCost(self.heads * self.widths[0])


class DynamicConvolution(Convolution):
    """Dynamic convolution: each token makes its own kernels, softmax(W x) of each head (section 4)."""

    def build(self, hidden: int) -> AttentionLayer:
        """Return the module for hidden states of size H = `hidden`."""
        return DynamicLayer(self, hidden)

    def kernels(self, hidden: int) -> ComponentCost:
        """Return the cost of the map that makes the kernels."""
        wide = self.heads * self.widths[0]
        return linear_cost(hidden, wide, bias=False) + ComponentCost(activations=wide)


@dataclass(frozen=True, slots=True)
class ConvolutionPlan:
    """What the layers of one choice share in a forward pass."""

    neighbors: Neighbors
    dropout: float


class ConvolutionLayer(AttentionLayer):
    """The module of a convolution."""

    choice: Convolution

    def __init__(self, choice: Convolution, hidden: int) -> None:
        super().__init__()
        self.choice, self.head_size = choice, hidden // choice.heads
        self.value = nn.Linear(hidden, hidden, bias=choice.bias)
        self.gate = nn.Linear(hidden, hidden, bias=choice.bias)
        self.out = nn.Linear(hidden, hidden, bias=choice.bias)

    def plan(self, context: Context) -> ConvolutionPlan:
        """Return the neighbors of the tokens of a batch."""
        neighbors = Neighbors.of(context.packed, *self.choice.offsets)
        return ConvolutionPlan(neighbors, self.choice.dropout if context.training else 0.0)

    @abstractmethod
    def kernel(self, x: Tensor) -> Tensor:
        """Return the kernels (1 or T, A, offsets) before the softmax."""

    def forward(self, x: Tensor, plan: ConvolutionPlan, state: None = None) -> Tensor:
        """Forward pass: return (T, H)."""
        gated = self.value(x) * self.gate(x).sigmoid()
        kernel = self.kernel(gated)
        wide = torch.promote_types(torch.float32, kernel.dtype)
        shares = F.dropout(kernel.softmax(-1, dtype=wide).to(gated.dtype), plan.dropout)
        return self.out(plan.neighbors.convolved(self.by_head(gated), shares.movedim(-1, 0)).flatten(1))  # type: ignore[no-any-return]


class LightweightLayer(ConvolutionLayer):
    """The module of a lightweight convolution."""

    def __init__(self, choice: Convolution, hidden: int) -> None:
        super().__init__(choice, hidden)
        self.weight = nn.Parameter(torch.empty(choice.heads, choice.widths[0]))

    def init_weights(self, initialization: Initialization) -> None:
        """Initialize the output projection, and the kernels as hidden weights."""
        super().init_weights(initialization)
        initialization.draw(self.weight, "hidden")

    def kernel(self, x: Tensor) -> Tensor:
        """Return the kernels (1, A, offsets), the same for all tokens."""
        return self.weight[None]


class DynamicLayer(ConvolutionLayer):
    """The module of a dynamic convolution."""

    def __init__(self, choice: Convolution, hidden: int) -> None:
        super().__init__(choice, hidden)
        self.kernels = nn.Linear(hidden, choice.heads * choice.widths[0], bias=False)

    def kernel(self, x: Tensor) -> Tensor:
        """Return the kernels (T, A, offsets) of each token."""
        return self.kernels(x).unflatten(-1, (-1, self.choice.widths[0]))  # type: ignore[no-any-return]
