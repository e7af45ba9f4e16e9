"""Fixup: residual layers without normalization, by their initial weights (Zhang et al. 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from genus.model.block import Block, Layer, all_sublayers
from genus.model.cost import ComponentCost
from genus.model.norm import Identity
from genus.part import Count

if TYPE_CHECKING:
    from collections.abc import Callable

    from genus.model.cost import ExampleLengths
    from genus.model.initialization import Initialization
    from genus.model.transformer import Transformer


class Fixup(Block):
    """Fixup block: x = x + scale · f(x + shift) for each sub-layer f, without normalization.

    Each sub-layer has its own scale, which begins at 1, and shift, at 0. Output projections begin at 0, the other maps
    at L^(-1 / (2 m - 2)) of their usual size, where L counts the residual branches of the network and m the maps of a
    branch: 2 of a feed-forward network, 4 of attention (Narang et al.'s code, mesh_tensorflow, fixup_layers.py).
    Deviation: within a sub-layer the maps' own biases, if they have any, stand for scalar ones.

    Source: Zhang et al. 2019, section 3.
    """

    branches: Count | None = None
    """L, of encoder and decoder together; None: those of this stack."""

    def check(self, model: Transformer) -> None:
        """Check that there is no norm (ValueError)."""
        if not isinstance(model.norm, Identity):
            raise ValueError(f"block: Fixup does without normalization, and model.norm is {type(model.norm).__name__}; "
                             "set model.norm=Identity")  # fmt: skip

    def build(self, model: Transformer) -> nn.Module:
        """Return the module of one layer."""
        return FixupLayer(model, self.branches or model.layers * (2 if model.cross is None else 3))

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return the cost per token of the sub-layers, each with its scale and its shift."""
        return all_sublayers(model, lengths) + ComponentCost(parameters=2 * (2 if model.cross is None else 3))

    def residual_scale(self, model: Transformer) -> float:
        """Return 0: every branch begins at 0."""
        return 0.0


class FixupLayer(Layer):
    """The module of a Fixup block; what stands where norms do are the scalars of the sub-layers."""

    def __init__(self, model: Transformer, branches: int) -> None:
        super().__init__(model)
        self.branches = branches
        self.attention_norm, self.feedforward_norm = ScaleAndShift(), ScaleAndShift()
        self.cross_norm = None if self.cross is None else ScaleAndShift()

    def init_weights(self, initialization: Initialization) -> None:
        """Shrink the maps within branches, but for the last of each, which is 0."""
        for branch, maps in ((self.attention, 4), (self.cross, 4), (self.feedforward, 2)):
            for name, module in () if branch is None else branch.named_modules():
                if isinstance(module, nn.Linear) and name.rpartition(".")[2] != "out":
                    with torch.no_grad():
                        module.weight.mul_(self.branches ** (-1 / (2 * maps - 2)))

    def wrapped(self, x: Tensor, norm: nn.Module, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Return x + scale · f(x + shift)."""
        return x + norm.scale * self.dropout(sublayer(norm(x)))  # type: ignore[no-any-return]


class ScaleAndShift(nn.Module):
    """The scalars of a residual branch: a shift of its input, and a scale of its output."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return x + shift."""
        return x + self.shift
