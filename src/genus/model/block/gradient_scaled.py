"""Gradient scales for the residual branches of any block (DALL-E; Ramesh et al. 2021)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from genus.model.block import Block
from genus.model.block.residual import PreNorm
from genus.model.gradient_scale import GradientScale
from genus.model.roles import sublayers

if TYPE_CHECKING:
    from torch import nn

    from genus.model.cost import ComponentCost, ExampleLengths
    from genus.model.norm import Norm
    from genus.model.transformer import Transformer


class GradientScaled(Block):
    """Another block, whose residual branches have gradient scales of their own in runs in float16.

    A model of such blocks is the same function with the same weights. With `precision=float16` its branches compute in
    float16 and all else in float32, and no loss scale is needed; in other precisions nothing changes.

    Source: Ramesh et al. 2021 (arXiv:2102.12092), section 2.4 and appendix D.
    """

    pools: ClassVar[bool] = False

    block: Block = PreNorm()
    """How residual connections and norms join the sub-layers."""
    scale: GradientScale = GradientScale()
    """How each branch's scale is set."""

    @property
    def in_words(self) -> str:
        """That of the block within."""
        return self.block.in_words

    def check(self, model: Transformer) -> None:
        """Check that all gradients of a branch come and go by its residual connection (ValueError)."""
        self.block.check(model)
        kind = type(self.block).__name__
        if not (self.block.residual and self.block.caches):
            raise ValueError(f"block: the sub-layers of {kind} are no residual branches of their own; take PreNorm")
        if model.cross is not None or model.embedding.position.biases or model.feedforward.losses:
            raise ValueError("block: cross-attention, biases of positions and losses of experts have gradients that do "
                             f"not pass the residual connection, and cannot be scaled; take {kind} itself")  # fmt: skip

    def of_layer(self, number: int) -> Block:
        """Return the block of layer `number`, scaled too."""
        own = self.block.of_layer(number)
        return self if own is self.block else replace(self, block=own)

    def build(self, model: Transformer) -> nn.Module:
        """Return the module of one layer, whose sub-layers are marked."""
        layer = self.block.build(model)
        for _, branch in sublayers(layer):
            branch.gradient_scale = self.scale  # type: ignore[assignment]
        return layer

    def cost(self, model: Transformer, lengths: ExampleLengths) -> ComponentCost:
        """Return what one layer needs."""
        return self.block.cost(model, lengths)

    def attention_norm(self, model: Transformer) -> Norm:
        """Return the norm of the self-attention sub-layer."""
        return self.block.attention_norm(model)

    def final_norm(self, model: Transformer) -> Norm:
        """Return the norm after the last layer."""
        return self.block.final_norm(model)

    def residual_scale(self, model: Transformer) -> float:
        """Return the factor on the initial standard deviation of what ends a branch."""
        return self.block.residual_scale(model)
