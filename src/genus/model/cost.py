"""The cost of a part: parameters, FLOPs and activation memory, computed without building it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

ExampleLengths = Mapping[str, int]
"""The length of an example by stream. What a token of the stream `tokens` demands depends on all of them."""


@dataclass(frozen=True, slots=True)
class ComponentCost:
    """Parameters, and the work and memory per token of the stream `tokens` in the forward pass.

    The work on another stream is shared out among these tokens: s / t of that per token of a source of s for each of t.

    FLOPs are those of matrix products only, 2 a multiply-add; look-ups, norms, activations, softmax and biases are left
    out (below 1 % at published sizes). They are what the definition takes: no padding, no recomputation.
    """

    parameters: int = 0
    flops: float = 0.0
    """FLOPs of the forward pass, per token."""
    activations: float = 0.0
    """Elements per token kept for the backward pass, without attention probabilities, as fused kernels keep none."""
    frozen_parameters: int = 0
    """Parameters that are not trained, such as those of a teacher."""
    forward_only_flops: float = 0.0
    """FLOPs per token of components without a backward pass."""
    frozen_input_flops: float = 0.0
    """FLOPs per micro-batch, whatever its tokens, of linear layers on frozen inputs: half a backward pass."""
    layers: int = 0
    """Number of Transformer layers."""
    branches: float = 0.0
    """Elements per token that sub-layers add to the hidden states: the hidden size, for each of them. As much is summed
    over the devices that share a layer's matrices, in each direction."""

    def __add__(self, other: ComponentCost) -> ComponentCost:
        """Return the sum of both costs."""
        return ComponentCost(
            self.parameters + other.parameters,
            self.flops + other.flops,
            self.activations + other.activations,
            self.frozen_parameters + other.frozen_parameters,
            self.forward_only_flops + other.forward_only_flops,
            self.frozen_input_flops + other.frozen_input_flops,
            self.layers + other.layers,
            self.branches + other.branches,
        )

    def repeated(self, copies: int) -> ComponentCost:
        """Return the cost of `copies` such components, each with parameters of its own."""
        return ComponentCost(
            self.parameters * copies,
            self.flops * copies,
            self.activations * copies,
            self.frozen_parameters * copies,
            self.forward_only_flops * copies,
            self.frozen_input_flops * copies,
            self.layers * copies,
            self.branches * copies,
        )

    def scaled(self, share: float) -> ComponentCost:
        """Return the cost if only a share of the tokens, such as targets or first tokens, passes the component."""
        return replace(
            self,
            flops=self.flops * share,
            activations=self.activations * share,
            forward_only_flops=self.forward_only_flops * share,
            branches=self.branches * share,
        )


def linear_cost(inputs: int, outputs: int, bias: bool = True) -> ComponentCost:
    """Return the cost of a linear layer: weight and bias, 2 FLOPs per weight, and its input, kept for backward."""
    return ComponentCost(inputs * outputs + bias * outputs, 2.0 * inputs * outputs, inputs)
